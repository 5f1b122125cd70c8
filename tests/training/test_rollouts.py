"""The trainer on fake servers: what is asked, what is served, what TRL makes of it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file
from trl import GRPOConfig

from rlrules.errors import TrainingError
from rlrules.recipe.rollouts import RolloutsSection
from rlrules.rewards.base import Resources
from rlrules.rewards.engine import RewardEngine
from rlrules.rewards.objective import WeightedSumConfig
from rlrules.training.grpo import RulesGRPOTrainer
from rlrules.training.log import RunLog
from rlrules.training.rollouts import request_body
from rlrules.training.scoring import BatchScorer
from tests.e2e.scorers import Letters
from tests.fakes.policy_server import FakePolicyServer
from tests.training.tiny import tiny_qwen

LORA = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("qwen"))


def arguments(folder: Path, **changes: Any) -> GRPOConfig:
    plain = {
        "output_dir": str(folder / "checkpoints"), "per_device_train_batch_size": 4, "num_generations": 4,
        "max_completion_length": 30, "use_cpu": True, "bf16": False, "report_to": "none", "max_steps": 3,
        "gradient_checkpointing": False, "disable_tqdm": True, "learning_rate": 1e-2, "logging_steps": 1,
        "save_strategy": "no", "remove_unused_columns": False, "model_init_kwargs": {"dtype": "float32"},
    }  # fmt: skip
    return GRPOConfig(**(plain | changes))


def make(folder: Path, policy: Path, fake: FakePolicyServer, **section: Any) -> Any:
    scorer = Letters(type="tests.e2e.scorers:Letters").build(Resources({}))
    engine = RewardEngine({"letters": scorer}, WeightedSumConfig(weights={"letters": 1}).build(), ["letters"], 60)
    rollouts = {"urls": [fake.url], "sync": fake.sync, "timeout_s": 5.0, "retries": 0, **section}
    return RulesGRPOTrainer(
        scorer=BatchScorer(engine, {}, RunLog(folder), 0.5, "group"),
        rollouts=RolloutsSection.model_validate(rollouts),
        model=str(policy),
        args=arguments(folder),
        train_dataset=Dataset.from_list([{"prompt": f"Tell me about topic {n}."} for n in range(32)]),
        peft_config=LORA if fake.sync == "lora" else None,
    )


def served_is_trained(trainer: Any, folder: Path, sync: str) -> bool:
    """Whether the one version in the folder holds the trainer's weights of this moment."""
    [version] = folder.iterdir()
    if sync == "lora":
        saved, trained = load_file(version / "adapter_model.safetensors"), get_peft_model_state_dict(trainer.model)
    else:
        # Head and embedding are one in this model, and saved once.
        saved, trained = load_file(version / "model.safetensors"), dict(trainer.model.named_parameters())
    assert json.loads((version / ("adapter_config.json" if sync == "lora" else "config.json")).read_text())
    return set(saved) == set(trained) and all(torch.equal(saved[name], trained[name]) for name in saved)


@pytest.mark.parametrize(("sync", "shared"), [("lora", None), ("full", "elsewhere")])
def test_what_is_served_is_what_is_trained_at_every_step(
    sync: str, shared: str | None, policy: Path, tmp_path: Path
) -> None:
    folder = tmp_path / (shared or "policy")
    same: list[bool] = []
    bodies: list[dict[str, Any]] = []

    def look(body: dict[str, Any], number: int) -> None:
        bodies.append(body)
        if number % 4 == 1:
            same.append(served_is_trained(trainer, folder, sync))

    told: list[tuple[int, list[int]]] = []
    with FakePolicyServer(sync, meddle=look) as fake:
        trainer = make(tmp_path, policy, fake, **({"shared_dir": str(folder)} if shared else {}))
        trainer.vllm_generation.finished = lambda row, ids: told.append((row, ids))
        trainer.train()
        assert (fake.version, fake.adapters, fake.weights) == ("", {}, 0)
    assert same == [True] * 3
    assert list(folder.iterdir()) == []
    assert len(told) == 12 and [row for row, _ in told[:4]] != [] and {row for row, _ in told[8:]} == {0, 1, 2, 3}
    # The G rows of a prompt are asked for one by one; the fake answers with the prompt behind its weights' number.
    for row, ids in told[:4]:
        assert ids == [1, *bodies[row]["prompt"]] and bodies[row]["prompt"] == bodies[0]["prompt"]
    assert len({body["cache_salt"] for body in bodies}) == 3
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 3
    for entry in logged:
        assert entry["rollouts/loads"] == 1 and entry["rollouts/retried"] == 0
        assert entry["time/rollout_save_s"] > 0 and entry["time/rollout_s"] > 0
        # The fake's log-probabilities are made up: TRL tells by how much they are.
        assert entry["sampling/sampling_logp_difference/max"] > 1
        assert "sampling/importance_sampling_ratio/mean" in entry


def test_a_rollout_that_fails_ends_the_run_with_its_reason(policy: Path, tmp_path: Path) -> None:
    unlucky = (500, {"error": {"message": "no luck"}})
    with (
        FakePolicyServer("full", meddle=lambda *_: unlucky) as fake,
        pytest.raises(TrainingError, match=r"rollouts: a completion cannot be had: .*status 500: no luck"),
    ):
        make(tmp_path, policy, fake).train()


def test_a_folder_that_cannot_be_written_is_named(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with FakePolicyServer("full") as fake:
        trainer = make(tmp_path, policy, fake, shared_dir=str(tmp_path / "file"))
        with pytest.raises(TrainingError, match=r"rollouts.shared_dir: .*/file/rlrules-\w+-1 cannot be written"):
            trainer.train()


def test_what_the_callback_raises_ends_the_rollout(policy: Path, tmp_path: Path) -> None:
    def refuse(row: int, ids: list[int]) -> None:
        raise ValueError(f"not row {row}")

    with FakePolicyServer("full") as fake:
        trainer = make(tmp_path, policy, fake)
        trainer.vllm_generation.finished = refuse
        with pytest.raises(TrainingError, match=r"rollouts: ValueError: not row \d"):
            trainer.train()


def test_trls_sampling_options_by_vllms_names() -> None:
    options = {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.1,
        "max_completion_length": 5,
        "generation_kwargs": {"min_tokens": 3, "ignore_eos": False},
        "vllm_structured_outputs_regex": "a+",
    }
    assert request_body(SimpleNamespace(**options), [2, 0]) == {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.1,
        "max_tokens": 5,
        "min_tokens": 3,
        "stop_token_ids": [2, 0],
        "ignore_eos": False,
        "skip_special_tokens": False,
        "structured_outputs": {"regex": "a+"},
        "logprobs": 0,
        "return_token_ids": True,
    }
