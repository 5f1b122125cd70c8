"""Entropy-preserving fine-tuning: published numbers, and the trainer on a tiny Qwen3 against explicit logits."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from rlrules.recipe.schema import EntropySelection
from rlrules.training.entropy_selection import kept_of, select, selected
from rlrules.training.sft import RulesSFTTrainer
from tests.training.tiny import tiny_qwen

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/light_if_entropy.json").read_text())
TABLE = GOLDEN["selection"]
LOSSES, ENTROPIES = torch.tensor(TABLE["losses"]), torch.tensor(TABLE["entropies"])


@pytest.mark.parametrize("case", TABLE["cases"])
def test_published_selections(case: dict[str, Any]) -> None:
    chosen = select(EntropySelection(coef=case["coef"], keep=case["keep"]), LOSSES, ENTROPIES).sort().values
    assert chosen.tolist() == case["kept"]
    assert float(LOSSES[chosen].mean()) == pytest.approx(case["loss"], abs=1e-6)


def test_published_means_of_entropies() -> None:
    mask = torch.ones(1, 10, dtype=torch.bool)
    outputs = SimpleNamespace(label_mask=mask, log_probs=-LOSSES[None], entropy=ENTROPIES[None])
    sums = selected(EntropySelection(), outputs).sums
    assert sums[0] == 8 and sums[3] == 2
    assert float(sums[2] / sums[0]) == pytest.approx(TABLE["entropy_kept"])
    assert float(sums[5] / sums[3]) == pytest.approx(TABLE["entropy_dropped"])


def test_published_numbers_from_logits() -> None:
    case = GOLDEN["selection_logits"]
    logits = torch.tensor(case["logits"], dtype=torch.float32, requires_grad=True)
    every, labels = logits.log_softmax(-1), torch.tensor(case["labels"])
    logps, entropies = every.gather(1, labels[:, None])[:, 0], -(every.exp() * every).sum(-1)
    assert (-logps).tolist() == pytest.approx(case["losses"], abs=1e-6)
    assert entropies.tolist() == pytest.approx(case["entropies"], abs=1e-6)
    outputs = SimpleNamespace(
        label_mask=torch.ones(1, 5, dtype=torch.bool), log_probs=logps[None], entropy=entropies[None]
    )
    loss = -selected(EntropySelection(), outputs).outputs.log_probs.sum() / 4
    assert float(loss.detach()) == pytest.approx(case["loss"], abs=1e-6)
    loss.backward()
    expected = (every.detach().exp() - torch.nn.functional.one_hot(labels, 4)) / 4
    expected[case["dropped"]] = 0
    assert logits.grad is not None and torch.allclose(logits.grad, expected, atol=1e-6)
    assert torch.equal(logits.grad[case["dropped"]], torch.zeros(1, 4))


@pytest.mark.parametrize(("tokens", "kept"), GOLDEN["kept_counts"])
def test_the_share_is_rounded_down(tokens: int, kept: int) -> None:
    assert kept_of(EntropySelection(), tokens) == kept


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("qwen"))


LENGTHS = (13, 16, 18, 9, 21, 5)


def make(folder: Path, policy: Path, selection: EntropySelection | None, kind: Any = RulesSFTTrainer, **changes: Any):  # type: ignore[no-untyped-def]
    draw = torch.Generator().manual_seed(2)
    rows = [
        {"input_ids": torch.randint(5, 200, (n + 4,), generator=draw).tolist(), "labels": [-100] * 4 + [0] * n}
        for n in LENGTHS
    ]
    for row in rows:
        row["labels"][4:] = row["input_ids"][4:]
    plain = {
        "output_dir": str(folder / "out"), "per_device_train_batch_size": 1, "use_cpu": True, "bf16": False,
        "report_to": "none", "gradient_checkpointing": False, "disable_tqdm": True, "logging_steps": 1,
        "save_strategy": "no", "learning_rate": 1e-3, "max_steps": 3, "shuffle_dataset": False, "seed": 0,
    }  # fmt: skip
    arguments = {
        "model": str(policy), "args": SFTConfig(**{**plain, **changes}), "train_dataset": Dataset.from_list(rows),
        "eval_dataset": Dataset.from_list(rows[:2]),
    }  # fmt: skip
    return kind(selection=selection, **arguments) if kind is RulesSFTTrainer else kind(**arguments)


def batches(trainer: Any, *places: int) -> list[dict[str, torch.Tensor]]:
    return [trainer.data_collator([trainer.train_dataset[n]]) for n in places]


def from_logits(trainer: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and entropies of the supervised tokens, each of shape (N,)."""
    given = {key: value for key, value in batch.items() if key != "labels"}
    labels = batch["labels"][0, 1:]
    every = trainer.model(**given).logits[0, :-1][labels != -100].float().log_softmax(-1)
    chosen = labels[labels != -100]
    return -every.gather(1, chosen[:, None])[:, 0], -(every.exp() * every).sum(-1)


def gradients(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("places", [(0,), (1, 2), (0, 3, 5)])
def test_explicit_logits_give_the_same_loss_and_gradients(
    tmp_path: Path, policy: Path, places: tuple[int, ...]
) -> None:
    trainer = make(tmp_path, policy, EntropySelection())
    trainer.model.train()
    step = batches(trainer, *places)
    count = trainer._get_num_items_in_batch(step, torch.device("cpu"))
    assert int(count) == sum(int(0.8 * LENGTHS[n]) for n in places)
    total = 0.0
    for batch in step:
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
        loss.backward()
        total += float(loss.detach())
    found = gradients(trainer)
    trainer.model.zero_grad()
    kept = []
    for batch in step:
        losses, entropies = from_logits(trainer, batch)
        order = (losses - 0.8 * entropies).argsort(descending=True)
        kept.append(losses[order[: int(0.8 * len(losses))]])
    expected = torch.cat(kept).mean()
    expected.backward()
    assert total == pytest.approx(float(expected.detach()), abs=1e-5)
    known = gradients(trainer)
    assert found.keys() == known.keys() and all(torch.allclose(found[n], known[n], atol=1e-5) for n in known)
    alone = trainer.compute_loss(trainer.model, dict(step[0]))
    assert float(alone.detach()) == pytest.approx(float(kept[0].mean().detach()), abs=1e-5)


def test_keeping_all_is_trls_loss_to_the_bit(tmp_path: Path, policy: Path) -> None:
    made = [
        make(tmp_path / "ours", policy, EntropySelection(keep=1)),
        make(tmp_path / "stock", policy, None, SFTTrainer),
    ]
    for trainer in made:
        trainer.train()
    ours, stock = ([line["loss"] for line in trainer.state.log_history if "loss" in line] for trainer in made)
    assert ours == stock and len(ours) == 3
    weights = [dict(trainer.model.named_parameters()) for trainer in made]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_three_steps_log_what_was_selected_and_evaluation_selects_nothing(tmp_path: Path, policy: Path) -> None:
    trainer = make(tmp_path, policy, EntropySelection(), gradient_accumulation_steps=2)
    plain = make(tmp_path, policy, None, SFTTrainer)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"], abs=1e-6)
    trainer.train()
    logged = [line for line in trainer.state.log_history if "loss" in line]
    assert len(logged) == 3
    for line in logged:
        assert 0.75 < line["selection/share"] <= 0.8
        assert line["selection/loss_kept"] > line["selection/loss"] > 0
        assert line["selection/entropy_dropped"] > 0 and line["selection/entropy_kept"] > 0
        assert line["loss"] == pytest.approx(line["selection/loss_kept"], rel=0.1)


def test_a_batch_without_supervised_tokens_is_zero(tmp_path: Path, policy: Path) -> None:
    trainer = make(tmp_path, policy, EntropySelection())
    trainer.model.train()
    batch = batches(trainer, 0)[0]
    batch["labels"] = torch.full_like(batch["labels"], -100)
    count = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not any(bool(gradient.any()) for gradient in gradients(trainer).values())
