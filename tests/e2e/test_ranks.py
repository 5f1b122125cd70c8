"""One rank and two, with and without ZeRO: the same rewards, losses and weights from the same global batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.training import lines, run, tiny_policy, write_recipe

pytestmark = pytest.mark.e2e
TRAINING = {
    "num_generations": 4,
    "num_iterations": 2,
    "max_steps": 4,
    # Of the second step on a batch the ratios, and from there on the KL term, are part of the loss too.
    "beta": 0.5,
    "loss_type": "dapo",
    # Adam makes of a gradient that is nearly zero a step like any other.
    "optim": "sgd",
    "learning_rate": 1.0,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.5,
    "save_strategy": "no",
    "use_cpu": True,
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("policy"))


class Run:
    """What a run said and left behind."""

    def __init__(self, folder: Path, policy: Path, ranks: int, config: str) -> None:
        recipe = write_recipe(folder, policy, training={**TRAINING, "per_device_train_batch_size": 8 // ranks})
        options: dict[str, Any] = {"launcher": ["--mixed_precision", "no"], "script": "tests/e2e/fixed_completions.py"}
        code, output = run(folder, recipe, ranks=ranks, config=config, **options)
        assert code == 0, output
        written = folder / "runs/run"
        self.metrics = [line for line in lines(written / "metrics.jsonl") if "loss" in line]
        self.completions = [
            (line["step"], line["prompt"], line["completion"], line["reward"], line["advantage"])
            for line in lines(written / "completions.jsonl")
        ]
        self.weights = load_file(written / "model/model.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, policy: Path) -> Run:
    return Run(tmp_path_factory.mktemp("alone"), policy, 1, "cpu")


def test_the_policy_moves(policy: Path, alone: Run) -> None:
    start = load_file(policy / "model.safetensors")
    assert max(float((alone.weights[name] - start[name]).abs().max()) for name in start) > 1e-3
    assert len({reward for *_, reward, _ in alone.completions}) > 4
    assert min(abs(line["loss"]) for line in alone.metrics) > 1e-3 and alone.metrics[-1]["kl"] > 1e-6


@pytest.mark.parametrize("config", ["cpu", "zero2", "zero3"])
def test_two_ranks_learn_what_one_rank_learns(tmp_path: Path, policy: Path, alone: Run, config: str) -> None:
    if config != "cpu":
        pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install 'rlrules[deepspeed]'")
    two = Run(tmp_path, policy, 2, config)
    assert two.completions == alone.completions
    assert len(two.metrics) == len(alone.metrics) == 4
    for one, other in zip(alone.metrics, two.metrics, strict=True):
        assert (other["step"], other.get("reward")) == (one["step"], one.get("reward"))
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
    for name, weights in alone.weights.items():
        torch.testing.assert_close(two.weights[name], weights, rtol=0, atol=1e-5)
