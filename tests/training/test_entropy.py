"""TEA's coefficients: published numbers, and what holds of them on any batch, rank count and accumulation."""

import json
import math
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlrules.recipe.schema import TeaSection
from rlrules.training.entropy import EntropyTerm, Totals, batch_coefficients, sequence_coefficients

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/light_if_entropy.json").read_text())
TABLE = {key: torch.tensor(value) for key, value in GOLDEN["tea"].items()}
MASK, LOGPS, ENTROPIES = TABLE["mask"], TABLE["logps"], TABLE["entropies"]
TOTALS = Totals(MASK.sum(), TABLE["mean_advantage"], TABLE["mean_logp"])
CENTRED = Totals(torch.tensor(1.0), torch.tensor(0.0))


class Ranks:
    """Accelerators of ranks that are threads: what one reduces waits for the others."""

    def __init__(self, count: int) -> None:
        self.count, self.calls, self._given = count, 0, [torch.empty(0)] * count
        self._barrier = threading.Barrier(count)

    def accelerator(self, rank: int) -> Any:
        def everyone(tensor: torch.Tensor) -> list[torch.Tensor]:
            self._given[rank] = tensor
            self._barrier.wait(10)
            found = list(self._given)
            self._barrier.wait(10)
            self.calls += rank == 0
            return found

        return SimpleNamespace(
            reduce=lambda tensor, reduction: torch.stack(everyone(tensor)).sum(0),
            gather=lambda tensor: torch.cat(everyone(tensor)),
            num_processes=self.count,
            sync_gradients=False,
        )


def arguments(**changes: Any) -> Any:
    plain = {
        "entropy_coef": 0.0, "use_adaptive_entropy": False, "top_entropy_quantile": 1.0, "num_iterations": 1,
        "steps_per_generation": 1, "gradient_accumulation_steps": 1, "use_vllm": False,
        "vllm_importance_sampling_correction": True,
    }  # fmt: skip
    return SimpleNamespace(**(plain | changes))


def trainer(accelerator: Any, batches: list[dict[str, Any]], kind: str, steps: int) -> Any:
    """What the term looks at in a trainer that is about to start an optimiser step of `steps` micro-batches."""
    return SimpleNamespace(
        accelerator=accelerator, _buffered_inputs=batches, _step=0, current_gradient_accumulation_steps=steps,
        loss_type=kind, max_completion_length=8, args=arguments(steps_per_generation=len(batches)),
        _metrics={"train": {f"tea/{name}": [] for name in METRICS}},
    )  # fmt: skip


METRICS = ("coef_mean", "coverage", "effective_tokens", "entropy", "loss")


def whole(rows: int = 8, length: int = 6) -> dict[str, Any]:
    """A rollout of rows of unequal lengths; the third has no token left, and the last no reward."""
    draw = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, length + 1, (rows,), generator=draw)
    lengths[2] = 0
    mask = (torch.arange(length)[None] < lengths[:, None]).long()
    scored = torch.ones(rows, dtype=torch.bool)
    scored[-1] = False
    logps = -3 * torch.rand(rows, length, generator=draw)
    return {
        "completion_mask": mask, "tool_mask": torch.randint(0, 5, (rows, length), generator=draw).clamp(max=1),
        "advantages": torch.randn(rows, generator=draw) * scored, "scored": scored, "old_per_token_logps": logps,
        "logps": logps, "entropies": torch.rand(rows, length, generator=draw),
    }  # fmt: skip


def split(batch: dict[str, Any], count: int) -> list[dict[str, Any]]:
    parts = {key: value.chunk(count) for key, value in batch.items()}
    return [{key: value[n] for key, value in parts.items()} for n in range(count)]


def run(batch: dict[str, Any], ranks: int, steps: int, scope: str, kind: str = "dapo") -> tuple[float, dict[str, Any]]:
    """The term of an optimiser step, as data-parallel training makes it of ranks and micro-batches, and its metrics."""
    section = TeaSection(coef=0.05, scope=scope)  # type: ignore[arg-type]
    world = Ranks(ranks)
    tokens = (batch["completion_mask"] * batch["tool_mask"]).sum()
    losses: list[float] = []
    logged: list[dict[str, Any]] = []

    def rank(number: int, part: dict[str, Any]) -> None:
        batches = [{**micro, "num_items_in_batch": tokens} for micro in split(part, steps)]
        accelerator = world.accelerator(number)
        one = trainer(accelerator, batches, kind, steps)
        term = EntropyTerm(section, arguments(use_vllm=scope == "batch"))
        total = 0.0
        for place, micro in enumerate(batches):
            accelerator.sync_gradients = place == steps - 1
            term.see(micro["logps"], micro["entropies"])
            total += float(term.loss(one, micro).detach())
            one._step += 1
        losses.append(total)
        logged.append({name: one._metrics["train"][f"tea/{name}"] for name in METRICS})

    threads = [threading.Thread(target=rank, args=pair) for pair in enumerate(split(batch, ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(losses) == ranks
    # Before the first micro-batch one reduction (and of a batch's softmax one more); after the last one of metrics.
    assert world.calls == (2 if scope == "sequence" else 3)
    assert all(one == logged[0] for one in logged)
    return sum(losses) / ranks, logged[0]


def test_published_coefficients_of_a_sequence() -> None:
    made = sequence_coefficients(TeaSection(), LOGPS, TABLE["advantages"], MASK, TOTALS)
    assert made.tolist() == [pytest.approx(row, abs=1e-6) for row in GOLDEN["tea"]["coefficients"]]
    assert float((made * ENTROPIES).sum() / MASK.sum()) == pytest.approx(GOLDEN["tea"]["loss_sequence"], abs=1e-6)
    assert float(made.sum() / MASK.sum()) == pytest.approx(0.05)


def test_published_loss_of_a_step_in_both_scopes() -> None:
    batch = {
        "completion_mask": MASK, "tool_mask": torch.ones_like(MASK), "advantages": TABLE["advantages"].float(),
        "scored": torch.ones(2, dtype=torch.bool), "old_per_token_logps": LOGPS, "logps": LOGPS,
        "entropies": ENTROPIES,
    }  # fmt: skip
    for scope in ("sequence", "batch"):
        for ranks, steps in ((1, 1), (2, 1), (1, 2)):
            loss, logged = run(batch, ranks, steps, scope)
            assert loss == pytest.approx(-GOLDEN["tea"][f"loss_{scope}"], abs=1e-6)
            assert logged["coef_mean"] == [pytest.approx(0.05)]


def test_constant_log_probabilities_are_a_plain_entropy_bonus() -> None:
    made = sequence_coefficients(TeaSection(), torch.full((2, 4), -0.7), TABLE["advantages"], MASK, TOTALS)
    assert made.tolist() == [pytest.approx(row) for row in (0.05 * MASK).tolist()]
    bonus = float((made * ENTROPIES).sum() / MASK.sum())
    assert bonus == pytest.approx(GOLDEN["tea"]["loss_constant_logps"], abs=1e-6)


def test_the_cap() -> None:
    case = GOLDEN["cap"]
    logps = torch.full((2, case["length"]), case["logp"])
    logps[1, 17] = case["rare"]
    advantages, mask = torch.tensor([1.0, -1.0]), torch.ones_like(logps)
    free = sequence_coefficients(TeaSection(cap=math.inf), logps, advantages, mask, CENTRED)
    assert float(free[1, 17]) == pytest.approx(0.05 * case["length"] * case["weight"], abs=1e-3)
    capped = sequence_coefficients(TeaSection(), logps, advantages, mask, CENTRED)
    assert float(capped[1, 17]) == pytest.approx(case["coefficient"])
    assert torch.equal(capped[0], free[0])


def test_a_temperature_spreads_the_bonus() -> None:
    made = sequence_coefficients(TeaSection(temperature=1e6), LOGPS, TABLE["advantages"], MASK, TOTALS)
    assert made.tolist() == [pytest.approx(row, abs=1e-6) for row in (0.05 * MASK).tolist()]


def test_coefficients_carry_no_gradient_and_entropies_theirs() -> None:
    case = GOLDEN["gradient"]
    logits = torch.tensor(case["logits"], dtype=torch.float32, requires_grad=True)
    every = logits.log_softmax(0)
    entropy = -(every.exp() * every).sum()
    assert float(entropy.detach()) == pytest.approx(case["entropy"], abs=1e-6)
    term = EntropyTerm(TeaSection(coef=case["coefficient"]), arguments())
    batch = {"completion_mask": torch.ones(1, 1), "advantages": torch.zeros(1)}
    one = trainer(Ranks(1).accelerator(0), [batch], "bnpo", 1)
    term.see(every[:1][None], entropy[None, None])
    term.loss(one, batch).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx(case["gradient"], abs=1e-5)
    detached = torch.rand(1, 3, requires_grad=True)
    made = sequence_coefficients(TeaSection(), detached, torch.ones(1), torch.ones(1, 3), CENTRED)
    assert not made.requires_grad


def test_a_row_without_tokens_is_zeros() -> None:
    mask = torch.zeros(2, 4, dtype=torch.long)
    made = sequence_coefficients(TeaSection(), LOGPS, TABLE["advantages"], mask, CENTRED)
    assert made.tolist() == torch.zeros(2, 4).tolist()
    empty = Totals(torch.tensor(1.0), torch.tensor(0.0), log_total=torch.tensor(-math.inf))
    made = batch_coefficients(TeaSection(), LOGPS, TABLE["advantages"], mask, empty)
    assert made.tolist() == torch.zeros(2, 4).tolist()


@pytest.mark.parametrize("scope", ["sequence", "batch"])
def test_accumulation_and_ranks_change_nothing(scope: str) -> None:
    batch = whole()
    expected, metrics = run(batch, 1, 1, scope)
    # By hand: means over the tokens that count, one softmax for each row or for all of them.
    mask = (batch["completion_mask"] * batch["tool_mask"] * batch["scored"][:, None]).bool()
    advantages = batch["advantages"][:, None].expand_as(mask)
    covariance = (advantages - advantages[mask].mean()) * (batch["logps"] - batch["logps"][mask].mean())
    parts = [(row, kept) for row, kept in zip(covariance, mask, strict=True) if kept.any()]
    k = torch.zeros_like(covariance)
    if scope == "sequence":
        k[mask] = torch.cat([row[kept].softmax(0) * kept.sum() for row, kept in parts]) * 0.05
    else:
        k[mask] = covariance[mask].softmax(0) * mask.sum() * 0.05
    tokens = (batch["completion_mask"] * batch["tool_mask"]).sum()
    assert expected == pytest.approx(-float((k * batch["entropies"]).sum() / tokens), abs=1e-6)
    assert metrics["coef_mean"] == [pytest.approx(0.05)]
    assert metrics["coverage"] == [int((k > 0.5).sum())]
    assert metrics["effective_tokens"] == [pytest.approx(float(k.sum() ** 2 / (k * k).sum()), rel=1e-5)]
    assert metrics["entropy"] == [pytest.approx(float((k * batch["entropies"]).sum() / k.sum()), rel=1e-5)]
    for ranks, steps in ((1, 2), (2, 1), (2, 2), (1, 4), (4, 2)):
        loss, again = run(batch, ranks, steps, scope)
        assert loss == pytest.approx(expected, abs=1e-6)
        assert {name: pytest.approx(value, rel=1e-5) for name, value in metrics.items()} == again


def test_an_optimiser_step_within_a_rollout_takes_its_own_mean() -> None:
    batches = [{**part, "num_items_in_batch": torch.tensor(1)} for part in split(whole(), 4)]
    one = trainer(Ranks(1).accelerator(0), batches, "bnpo", 2)
    term = EntropyTerm(TeaSection(), arguments())
    for start in (0, 2):
        expected, _ = run({key: torch.cat([b[key] for b in batches[start : start + 2]]) for key in whole()}, 1, 2,
                          "sequence", "bnpo")  # fmt: skip
        total = 0.0
        for place in (start, start + 1):
            one._step, one.accelerator.sync_gradients = place, place == start + 1
            term.see(batches[place]["logps"], batches[place]["entropies"])
            total += float(term.loss(one, batches[place]))
        assert total == pytest.approx(expected)
