"""TRL's own loss on Think-RM's numbers (T14): clipped at 0.2, twice where the advantage is negative; k3 KL."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from tests.e2e.training import tiny_policy


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> GRPOTrainer:
    folder = tmp_path_factory.mktemp("policy")
    arguments = GRPOConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=2, num_generations=2, epsilon=0.2, delta=3.0,
        beta=0.0, use_bias_correction_kl=False, loss_type="bnpo", use_cpu=True, bf16=False, report_to="none",
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": "a"}] * 2)
    return GRPOTrainer(str(tiny_policy(folder)), lambda **_: [0.0], arguments, train_dataset=rows)


def loss(trainer: Any, monkeypatch: pytest.MonkeyPatch, advantage: float, now: float, old: float, ref: float) -> float:
    """The loss of one completion of one token."""
    logps = torch.tensor([[now]])
    monkeypatch.setattr(
        trainer, "_get_per_token_logps_and_entropies", lambda *_, **__: (logps, torch.zeros(1, 1), None)
    )
    ones = torch.ones(1, 1, dtype=torch.long)
    inputs = {
        "prompt_ids": ones, "prompt_mask": ones, "completion_ids": ones, "completion_mask": ones,
        "advantages": torch.tensor([advantage]), "old_per_token_logps": torch.tensor([[old]]),
        "ref_per_token_logps": torch.tensor([[ref]]), "num_items_in_batch": torch.tensor(1),
    }  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    return float(trainer._compute_loss(trainer.model, inputs))


@pytest.mark.parametrize(
    ("advantage", "ratio", "expected"),
    [(0.982, 1.5, -1.1784), (-1.1456, 1.5, 1.7184), (-1.1456, 4.0, 3.4368)],
)
def test_delta_is_the_second_clip(
    trainer: GRPOTrainer, monkeypatch: pytest.MonkeyPatch, advantage: float, ratio: float, expected: float
) -> None:
    now = float(torch.tensor(ratio).log()) - 5.0
    assert loss(trainer, monkeypatch, advantage, now, -5.0, -5.0) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("now", "ref", "expected"), [(-1.0, -1.2, 0.01873), (-1.2, -1.0, 0.02140)])
def test_kl_is_k3_in_the_loss(
    trainer: GRPOTrainer, monkeypatch: pytest.MonkeyPatch, now: float, ref: float, expected: float
) -> None:
    monkeypatch.setattr(trainer, "beta", 1.0)
    assert loss(trainer, monkeypatch, 0.0, now, now, ref) == pytest.approx(expected, abs=1e-5)
