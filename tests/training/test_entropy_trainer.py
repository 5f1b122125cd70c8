"""TEA in the trainer, on a tiny Qwen3: against explicit logits, with what else a recipe may ask of TRL."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from rlrules.errors import TrainingError
from rlrules.recipe.schema import TeaSection
from rlrules.rewards.base import Resources
from rlrules.rewards.engine import RewardEngine
from rlrules.rewards.objective import WeightedSumConfig
from rlrules.training.grpo import RulesGRPOTrainer
from rlrules.training.log import RunLog
from rlrules.training.scoring import BatchScorer
from tests.e2e.scorers import Letters
from tests.training.tiny import grpo_inputs, logps_and_entropies, tiny_qwen

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/light_if_entropy.json").read_text())
KINDS = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("qwen"))


def config(folder: Path, **changes: Any) -> GRPOConfig:
    plain = {
        "output_dir": str(folder / "out"), "per_device_train_batch_size": 4, "num_generations": 4, "beta": 0.0,
        "max_completion_length": 8, "loss_type": "bnpo", "use_cpu": True, "bf16": False, "report_to": "none",
        "gradient_checkpointing": False, "disable_tqdm": True, "learning_rate": 1e-3, "logging_steps": 1,
        "save_strategy": "no", "remove_unused_columns": False, "model_init_kwargs": {"dtype": "float32"},
    }  # fmt: skip
    return GRPOConfig(**(plain | changes))


def make(folder: Path, policy: Path, tea: TeaSection | None, peft: LoraConfig | None = None, **changes: Any) -> Any:
    folder.mkdir(exist_ok=True)
    scorer = Letters(type="tests.e2e.scorers:Letters").build(Resources({}))
    engine = RewardEngine({"letters": scorer}, WeightedSumConfig(weights={"letters": 1}).build(), ["letters"], 60)
    return RulesGRPOTrainer(
        scorer=BatchScorer(engine, {}, RunLog(folder), 0.5, "group"),
        tea=tea,
        model=str(policy),
        args=config(folder, **changes),
        train_dataset=Dataset.from_list([{"prompt": f"Tell me about topic {n}."} for n in range(32)]),
        peft_config=peft,
    )


def one_step(trainer: Any, inputs: dict[str, Any], steps: int = 1) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of an optimiser step on `inputs`, in so many micro-batches, and the gradients."""
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps, trainer._step = steps, 0
    parts = {key: value.chunk(steps) for key, value in inputs.items() if value.ndim}
    same = {key: value for key, value in inputs.items() if not value.ndim}
    trainer._buffered_inputs = [{**{key: value[n] for key, value in parts.items()}, **same} for n in range(steps)]
    total = 0.0
    for n in range(steps):
        trainer.accelerator.gradient_state._set_sync_gradients(n == steps - 1)
        loss = trainer._compute_loss(trainer.model, trainer._buffered_inputs[n])
        loss.backward()
        total += float(loss.detach())
        trainer._step += 1
    return total, {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


def same_gradients(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], tolerance: float) -> bool:
    return one.keys() == two.keys() and all(torch.allclose(one[name], two[name], atol=tolerance) for name in one)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, policy: Path) -> Iterator[Any]:
    yield make(tmp_path_factory.mktemp("plain") / "run", policy, TeaSection(coef=0.3), steps_per_generation=4)


def reference(trainer: Any, inputs: dict[str, torch.Tensor], tea: TeaSection, kind: str) -> torch.Tensor:
    """Policy loss and term from explicit logits, all with plain loops over rows."""
    logps, entropies = logps_and_entropies(trainer.model, inputs)
    mask = (inputs["completion_mask"] * inputs.get("tool_mask", 1)).bool()
    scored = inputs.get("scored", torch.ones(len(mask), dtype=torch.bool))
    tokens = [(float(a), row) for a, row, s in zip(inputs["advantages"], mask, scored, strict=True) if s]
    mean = sum(a * int(row.sum()) for a, row in tokens) / sum(int(row.sum()) for _, row in tokens)
    rows = []
    for i, advantage in enumerate(inputs["advantages"]):
        kept = mask[i]
        value = -torch.exp(logps[i][kept] - logps[i][kept].detach()) * advantage
        if scored[i] and kept.any():
            weights = torch.softmax((advantage - mean) * logps[i][kept].detach() / tea.temperature, 0)
            k = tea.coef * torch.clamp(kept.sum() * weights, max=tea.cap)
            value = value - k * entropies[i][kept]
        rows.append(value)
    if kind == "grpo":
        return torch.stack([row.sum() / max(1, len(row)) for row in rows]).mean()
    return torch.cat(rows).sum() / int(mask.sum())


@pytest.mark.parametrize("kind", ["bnpo", "dapo", "grpo"])
def test_explicit_logits_give_the_same_loss_and_gradients(trainer: Any, kind: str) -> None:
    inputs = grpo_inputs()
    inputs["tool_mask"] = torch.ones_like(inputs["completion_mask"])
    inputs["tool_mask"][:, 1] = 0
    inputs["scored"] = torch.tensor([True, True, True, False])
    inputs["advantages"][3] = 0
    inputs["num_items_in_batch"] = (inputs["completion_mask"] * inputs["tool_mask"]).sum()
    trainer.loss_type, trainer.args.steps_per_generation = kind, 1
    loss, gradients = one_step(trainer, inputs)
    trainer.model.zero_grad()
    expected = reference(trainer, inputs, TeaSection(coef=0.3), kind)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
    known = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    assert same_gradients(gradients, known, 1e-5)
    assert trainer._metrics["train"]["tea/coef_mean"][-1] == pytest.approx(0.3, abs=1e-5)


def test_accumulated_gradients_are_those_of_one_batch(trainer: Any) -> None:
    inputs = grpo_inputs(rows=8)
    trainer.loss_type, trainer.args.steps_per_generation = "dapo", 1
    loss, gradients = one_step(trainer, inputs)
    for steps in (2, 4):
        trainer.args.steps_per_generation = steps
        again, accumulated = one_step(trainer, inputs, steps)
        assert again == pytest.approx(loss, abs=1e-6)
        assert same_gradients(gradients, accumulated, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_term_is_put_together_as_trl_puts_together_its_loss(
    trainer: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # At a ratio of 1 TRL's loss of advantages k * H, one a token, is the term; so it is at log-probabilities of -1 with
    # the other sign for the two that weigh log-probabilities. Those are constant here, hence k is the coefficient.
    inputs = grpo_inputs() | {"advantages": torch.zeros(4)}
    inputs["old_per_token_logps"] = torch.full(inputs["completion_mask"].shape, -1.0)
    entropies = torch.rand(inputs["completion_mask"].shape, generator=torch.Generator().manual_seed(5))
    seen = inputs["old_per_token_logps"].clone(), entropies, None
    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", lambda *_, **__: seen)
    trainer.model.train()
    trainer.loss_type, trainer.current_gradient_accumulation_steps, trainer._step = kind, 2, 0
    trainer.args.steps_per_generation, trainer._buffered_inputs = 4, [inputs] * 4
    trainer.epsilon_high, trainer.args.sapo_temperature_pos = 1.0, 2.0
    trainer.accelerator.gradient_state._set_sync_gradients(True)
    term = float(trainer._compute_loss(trainer.model, inputs))
    monkeypatch.setattr(trainer, "_entropy", None)
    sign = -1 if kind in ("cispo", "vespo") else 1
    plain = float(trainer._compute_loss(trainer.model, {**inputs, "advantages": sign * 0.3 * entropies}))
    assert term == pytest.approx(plain, rel=1e-5) and term < 0


@pytest.mark.parametrize(("advantage", "losses"), [(1.0, "positive"), (-1.0, "negative")])
def test_published_clipping(trainer: Any, monkeypatch: pytest.MonkeyPatch, advantage: float, losses: str) -> None:
    ratios = torch.tensor(GOLDEN["clip"]["ratios"])[:, None]
    inputs = grpo_inputs(rows=len(ratios), length=2) | {"advantages": torch.full((len(ratios),), advantage)}
    inputs = {key: value[:, :1] if value.ndim == 2 else value for key, value in inputs.items()}
    inputs["old_per_token_logps"] = torch.full_like(ratios, -5.0)
    monkeypatch.setattr(trainer, "_entropy", None)
    trainer.model.train()
    trainer.loss_type, trainer.current_gradient_accumulation_steps = "bnpo", 1
    trainer.epsilon_low = trainer.epsilon_high = GOLDEN["clip"]["epsilon"]
    trainer.args.delta = GOLDEN["clip"]["delta"]
    made = []
    for row in range(len(ratios)):
        one = {key: value[row : row + 1] if value.ndim else value for key, value in inputs.items()}
        seen = ratios[row : row + 1].log() - 5, torch.zeros(1, 1), None
        monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", lambda *_, found=seen, **__: found)
        made.append(float(trainer._compute_loss(trainer.model, one)))
    trainer.args.delta = None
    assert made == pytest.approx(GOLDEN["clip"][losses], abs=1e-4)


@pytest.mark.parametrize("tea", [None, TeaSection(coef=0)])
def test_without_a_coefficient_the_loss_is_trls_to_the_bit(tmp_path: Path, policy: Path, tea: Any) -> None:
    inputs = grpo_inputs()
    ours = make(tmp_path / "ours", policy, tea)
    rows = Dataset.from_list([{"prompt": "a"}] * 4)
    stock = GRPOTrainer(str(policy), lambda **_: [0.0], config(tmp_path), train_dataset=rows)
    one, two = one_step(ours, inputs), one_step(stock, inputs)
    assert one[0] == two[0] and all(torch.equal(one[1][name], two[1][name]) for name in two[1])


def test_checkpointing_and_adapters(tmp_path: Path, policy: Path) -> None:
    inputs, tea = grpo_inputs(), TeaSection()
    whole = one_step(make(tmp_path / "whole", policy, tea), inputs)
    saving = one_step(make(tmp_path / "saving", policy, tea, gradient_checkpointing=True), inputs)
    assert saving[0] == pytest.approx(whole[0], abs=1e-6) and same_gradients(whole[1], saving[1], 1e-6)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
    with_tea = one_step(make(tmp_path / "lora", policy, tea, lora), inputs)
    without = one_step(make(tmp_path / "bare", policy, None, lora), inputs)
    assert with_tea[0] == pytest.approx(whole[0], abs=1e-5)
    assert with_tea[1].keys() == without[1].keys() and all("lora" in name for name in with_tea[1])
    assert not same_gradients(with_tea[1], without[1], 1e-7)


def test_evaluation_has_no_term(trainer: Any) -> None:
    inputs = grpo_inputs()
    trainer.loss_type = "bnpo"
    trainer.model.eval()
    with torch.no_grad():
        loss = float(trainer._compute_loss(trainer.model, inputs))
    mask = inputs["completion_mask"]
    assert loss == pytest.approx(-float((mask * inputs["advantages"][:, None]).sum() / mask.sum()), abs=1e-6)


def test_a_rollout_feeds_four_steps(tmp_path: Path, policy: Path) -> None:
    for scope in ("sequence", "batch"):
        trainer = make(
            tmp_path / scope,
            policy,
            TeaSection(scope=scope),
            steps_per_generation=4,
            max_steps=4,
            loss_type="dapo",
            max_completion_length=4,
        )
        trainer.train()
        logged = [line for line in trainer.state.log_history if "loss" in line]
        assert [line["tea/coef_mean"] for line in logged] == [pytest.approx(0.05, abs=1e-6)] * 4
        completions = (tmp_path / scope / "completions.jsonl").read_text().splitlines()
        assert len(completions) == 16 and {json.loads(line)["step"] for line in completions} == {1}


def test_completions_without_a_reward_are_marked(tmp_path: Path, policy: Path) -> None:
    trainer = make(tmp_path / "run", policy, TeaSection())
    trainer._scorer.score = lambda batch, log: [1.0, None, 0.0, 0.5]
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    prepared = trainer._generate_and_score_completions([{"prompt": "Tell me."}] * 4)
    assert prepared["scored"].tolist() == [True, False, True, True]
    assert prepared["advantages"][1] == 0


def test_what_does_not_go_together_is_refused(tmp_path: Path, policy: Path) -> None:
    with pytest.raises(TrainingError, match=r"training.entropy_coef: .*leave one of them out"):
        make(tmp_path / "run", policy, TeaSection(), entropy_coef=0.01)
