"""Runs of every method on a tiny model: fine-tuning, reward models, a judge from its data to its rewards."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.data.preferences import JsonlPreferencesConfig, Preference
from rlrules.rewards.base import Resources
from rlrules.rewards.reward_model import RewardModelConfig
from rlrules.types import Completion, Group
from tests.e2e.training import EMBEDDED, ROOT, kill, lines, run, start, tiny_policy, wait_for
from tests.fakes.openai_server import FakeServer, prompt_of

pytestmark = pytest.mark.e2e

PREFERENCES = ROOT / "data/preferences.jsonl"
TRAINING = {
    "per_device_train_batch_size": 4,
    "max_steps": 4,
    "learning_rate": 1.0e-3,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_steps": 2,
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("policy"))


def write(folder: Path, policy: Path, method: str, source: dict[str, Any], **changes: Any) -> Path:
    """A recipe; `model` and `training` are added to, other sections of `changes` are taken as they are."""
    sections = {
        "name": "run",
        "method": method,
        "model": {"name": str(policy), **changes.pop("model", {})},
        "data": {"train": source, **changes.pop("data", {})},
        "training": {**TRAINING, **changes.pop("training", {})},
        **changes,
    }
    path = folder / f"{method}.yaml"
    path.write_text(json.dumps(sections))
    return path


def answers(**fields: Any) -> dict[str, Any]:
    return {"type": "conversations", "path": str(PREFERENCES), "columns": {"completion": "chosen"}, **fields}


def logged(folder: Path) -> list[dict[str, Any]]:
    return [line for line in lines(folder / "runs/run/metrics.jsonl") if "loss" in line]


def test_fine_tuning_killed_and_resumed_equals_uninterrupted(tmp_path: Path, policy: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    training = {"max_steps": 24, "learning_rate": 5e-3, "max_length": 150, "eval_strategy": "steps", "eval_steps": 12}
    recipes = []
    for folder in (whole, broken):
        folder.mkdir()
        recipes.append(write(folder, policy, "sft", answers(), data={"eval": answers(limit=6)}, training=training))
    code, output = run(whole, recipes[0])
    assert code == 0, output
    assert "an optimiser step is 4 examples; 52 examples (left out: 12 by max_length); a new run" in output
    assert "held out: loss" in output and "token accuracy" in output
    losses = [line["loss"] for line in logged(whole)]
    assert losses[-1] < losses[0] - 0.5, losses

    process = start(broken, recipes[1])
    wait_for(broken / "runs/run/checkpoints/checkpoint-2/complete", process)
    kill(process)
    assert not (broken / "runs/run/model").exists(), "the run was over before it was killed"
    code, output = run(broken, recipes[1], "--resume", "auto")
    assert code == 0, output
    assert "going on from" in output
    assert [line["loss"] for line in logged(broken)] == pytest.approx(losses, abs=1e-6)
    weights = [load_file(folder / "runs/run/model/model.safetensors") for folder in (whole, broken)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    page = (whole / "runs/run/report.html").read_text()
    assert "Token accuracy" in page and "Unscored" not in page and "Completions" not in page


def test_fine_tuning_on_two_ranks(tmp_path: Path, policy: Path) -> None:
    recipe = write(tmp_path, policy, "sft", answers(), training={"max_steps": 2, "save_strategy": "no"})
    code, output = run(tmp_path, recipe, ranks=2)
    assert code == 0, output
    assert "2 ranks; an optimiser step is 8 examples; 64 examples; a new run" in output
    assert [line["step"] for line in logged(tmp_path)] == [1, 2]


def test_fine_tuning_adapters_with_a_template_of_ones_own(tmp_path: Path, policy: Path) -> None:
    model = {
        "peft": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
        "chat_template": str(ROOT / "recipes/chat_templates/plain.jinja"),
    }
    code, output = run(tmp_path, write(tmp_path, policy, "sft", answers(limit=8), model=model))
    assert code == 0, output
    saved = load_file(tmp_path / "runs/run/model/adapter_model.safetensors")
    assert saved and all("lora_" in name for name in saved)
    assert any(float(tensor.abs().max()) > 0 for name, tensor in saved.items() if "lora_B" in name)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "runs/run/model")
    chat = [{"role": "user", "content": "Why?"}]
    assert (
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == "<|user|>Why?<|assistant|>"
    )


def preferences(limit: int) -> list[Preference]:
    return list(JsonlPreferencesConfig(path=str(PREFERENCES), limit=limit).load())


def normalised_scores(model: Path, limit: int) -> torch.Tensor:
    """Shape (N, 2): what the scorer gives the chosen and the rejected answer, with the stored mean and deviation."""
    scorer = RewardModelConfig(model=str(model), normalize=True).build(Resources())
    groups = [
        Group(pair.prompt, tuple(Completion(str(text), 1) for text in (pair.chosen, pair.rejected)))
        for pair in preferences(limit)
    ]

    async def score() -> list[list[float]]:
        return [[float(one.value) for one in (await scorer.score(group)).scores] for group in groups]  # type: ignore[arg-type]

    return torch.tensor(asyncio.run(score()), dtype=torch.float64)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_reward_model_stores_what_its_scores_are_normalised_by(tmp_path: Path, policy: Path, ranks: int) -> None:
    source = {"type": "jsonl", "path": str(PREFERENCES)}
    # 11 pairs: no batch size divides them, neither on one rank nor on two.
    data = {"eval": {**source, "limit": 11}, "margin": True}
    training = {"max_steps": 12, "eval_strategy": "steps", "eval_steps": 6}
    recipe = write(tmp_path, policy, "reward_model", source, data=data, training=training)
    code, output = run(tmp_path, recipe, ranks=ranks)
    assert code == 0, output
    assert f"an optimiser step is {4 * ranks} pairs; 64 pairs; a new run" in output
    losses = [line["loss"] for line in logged(tmp_path)]
    assert len(losses) == 12 and losses[-1] < losses[0]
    model = tmp_path / "runs/run/model"
    scores = normalised_scores(model, 11)
    assert scores.shape == (11, 2)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-4)
    assert float(scores.std()) == pytest.approx(1, abs=1e-4)
    accuracy = float((scores[:, 0] > scores[:, 1]).double().mean())
    [last] = [line for line in lines(tmp_path / "runs/run/metrics.jsonl") if "scores/mean" in line]
    assert last["scores/held_out_accuracy"] == pytest.approx(accuracy)
    stored = json.loads((model / "config.json").read_text())
    assert (stored["mean"], stored["std"]) == (last["scores/mean"], last["scores/std"])
    assert any("eval_accuracy" in line for line in lines(tmp_path / "runs/run/metrics.jsonl"))
    assert "Right order" in (tmp_path / "runs/run/report.html").read_text()


def test_an_adapter_as_reward_model_without_held_out_pairs(tmp_path: Path, policy: Path) -> None:
    model = {"peft": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}}
    source = {"type": "jsonl", "path": str(PREFERENCES), "limit": 10}
    code, output = run(tmp_path, write(tmp_path, policy, "reward_model", source, model=model))
    assert code == 0, output
    assert "training pairs: the better answer scores higher in" in output
    model_folder = tmp_path / "runs/run/model"
    assert not list(model_folder.glob("adapter_*"))
    before, after = (load_file(folder / "model.safetensors") for folder in (policy, model_folder))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before[name], after[name]), "the adapter is merged into the weights"
    scores = normalised_scores(model_folder, 10)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-4)
    assert float(scores.std()) == pytest.approx(1, abs=1e-4)


def reasoner(request: dict[str, Any]) -> str:
    """Right in one of two draws, but never readable about the first preference."""
    if str(preferences(1)[0].prompt[0]["content"]) in prompt_of(request):
        return "I cannot say."
    draw = request["seed"]
    return f"<think>\n{'word ' * (draw + 1)}\n</think>\n\n<answer>{'AB'[draw % 2]}</answer>"


def test_a_judge_from_its_data_to_its_rewards(tmp_path: Path, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"type": "jsonl", "path": str(PREFERENCES), "limit": 12}
    with FakeServer(reasoner) as server:
        judge = {"type": "openai", "urls": [server.url], "model": "fake", "temperature": 0.6, "cache": False}
        config = {"judge": judge, "tokenizer": EMBEDDED, "data": data, "samples": 2, "max_length": 1200}
        Path("data.yaml").write_text(json.dumps(config))
        result = CliRunner().invoke(app, ["data", "think-rm", "data.yaml", "-o", "warm_up"])
        assert result.exit_code == 0, result.output
    unreadable = preferences(1)[0].id
    accepted = lines(tmp_path / "warm_up/accepted.jsonl")
    skipped = lines(tmp_path / "warm_up/skipped.jsonl")
    assert len(accepted) == 11 and [(row["id"], row["reason"]) for row in skipped] == [(unreadable, "no verdict")]

    sft = write(tmp_path, policy, "sft", {"type": "conversations", "path": "warm_up/accepted.jsonl"})
    code, output = run(tmp_path, sft, "name=warm", "training.max_length=1200", "training.max_steps=2")
    assert code == 0, output

    source = {
        "type": "comparisons",
        "preferences": data,
        "skip": "warm_up/skipped.jsonl",
        "max_prompt_tokens": 1100,
    }
    grpo = write(
        tmp_path,
        Path("runs/warm/model"),
        "grpo",
        source,
        model={"think_seed": True},
        training={"max_steps": 2, "num_generations": 4, "max_completion_length": 8, "save_strategy": "no"},
        rewards={"right": {"type": "verdict"}},
        objective={"type": "weighted_sum", "weights": {"right": 1}},
    )
    code, output = run(tmp_path, grpo)
    assert code == 0, output
    made = lines(tmp_path / "runs/run/completions.jsonl")
    assert len(made) == 8
    for line in made:
        assert line["label"] in ("A", "B") and line["scores"]["right"] in (0.0, 1.0)
        assert {message["role"] for message in line["prompt"]} == {"system", "user"}
        assert line["id"] != unreadable
    model = tmp_path / "runs/run/model"
    tokenizer = AutoTokenizer.from_pretrained(model)
    chat = [{"role": "user", "content": "Which?"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True).endswith("<think>\n")
    assert AutoModelForCausalLM.from_pretrained(model).config.vocab_size == len(tokenizer)
