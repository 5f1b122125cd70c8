"""TEA: an entropy bonus whose weight on a token follows the covariance of advantage and log-probability (Light-IF)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from rlrules.errors import TrainingError
from rlrules.recipe.entropy import tea_conflicts
from rlrules.recipe.schema import TeaSection

SCORED = "scored"
"""Key of a micro-batch: shape (B,), whether a completion has a reward. Without it all have one."""

# A coefficient of more than this many times the mean counts as one that protects its token.
_COVERED = 10


MicroBatch = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Totals:
    """What the coefficients of an optimiser step have in common, over all ranks and micro-batches; scalars.

    Attributes:
        tokens: Those that count.
        advantage: Their mean advantage.
        logp: Their mean log-probability; of scope `batch` only, as is the next.
        log_total: Logarithm of the sum of exp(Cov / temperature) over them.
    """

    tokens: torch.Tensor
    advantage: torch.Tensor
    logp: torch.Tensor | float = 0.0
    log_total: torch.Tensor | float = 0.0


def sequence_coefficients(
    tea: TeaSection, logps: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, totals: Totals
) -> torch.Tensor:
    """Coefficients k of the entropies, where the softmax goes over one completion.

    With Cov_it = (A_i - mean A)(log p_it - mean log p), w_i the softmax of Cov_i / temperature over the completion's
    |T_i| tokens: k_it = coef * min(|T_i| * w_it, cap). Unless capped their mean is `coef` in every completion. The mean
    log-probability shifts all tokens of a completion alike, so no softmax depends on it and none is taken.

    Args:
        tea: The recipe's section.
        logps: Of the sampled tokens, shape (B, T).
        advantages: Shape (B,).
        mask: Which tokens count, shape (B, T). A row without any gets zeros.
        totals: Of the optimiser step.

    Returns:
        Shape (B, T), without a gradient; 0 where masked.
    """
    mask = mask.bool()
    with torch.no_grad():
        # The lowest finite number rather than -inf: a row without tokens must not become NaN.
        exponents = _exponents(tea, logps, advantages, totals).masked_fill(~mask, torch.finfo(torch.float32).min)
        weights = exponents.softmax(-1) * mask.sum(-1, keepdim=True)
        return tea.coef * weights.clamp(max=tea.cap) * mask


def batch_coefficients(
    tea: TeaSection, logps: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, totals: Totals
) -> torch.Tensor:
    """As `sequence_coefficients`, where the softmax goes over all tokens of the optimiser step.

    Args:
        tea: The recipe's section.
        logps: Of the sampled tokens when they were rolled out, shape (B, T).
        advantages: Shape (B,).
        mask: Which tokens count, shape (B, T).
        totals: Of the optimiser step.

    Returns:
        Shape (B, T); 0 where masked.
    """
    with torch.no_grad():
        exponents = _exponents(tea, logps, advantages, totals) - totals.log_total
        weights = exponents.masked_fill(~mask.bool(), -torch.inf).exp() * totals.tokens
        return tea.coef * weights.clamp(max=tea.cap)


def _exponents(tea: TeaSection, logps: torch.Tensor, advantages: torch.Tensor, totals: Totals) -> torch.Tensor:
    """Covariances over the temperature, shape (B, T)."""
    centred = (advantages.float() - totals.advantage)[:, None] * (logps.detach().float() - totals.logp)
    return centred / tea.temperature


class EntropyTerm:
    """TEA's term for a trainer's loss, from the log-probabilities and entropies of the policy's own forward pass.

    The term of a token is -k * H. It is put together over tokens exactly as TRL puts together the policy loss of the
    configured type, micro-batches and ranks included: mean over a micro-batch's tokens for `bnpo`, over the step's for
    `dapo`, `cispo` and `vespo`, over completions' means for `grpo` and `sapo`, by the greatest length for `dr_grpo`,
    over completions' sums for `luspo`. So k weighs against the advantage of a token in the same way in all of them.

    Masked tokens (tools' output, truncated completions) get no bonus and are in no mean; nor are completions without a
    reward, whose zero advantage is none. In evaluation there is no term.

    Args:
        tea: The recipe's section.
        arguments: TRL's configuration.
        served: The recipe's `rollouts` generate.

    Raises:
        TrainingError: The two do not go together.
    """

    def __init__(self, tea: TeaSection, arguments: Any, served: bool = False) -> None:
        conflicts = tea_conflicts(tea, arguments, served)
        if conflicts:
            raise TrainingError("; ".join(f"training.{field}: {message}" for field, message in conflicts.items()))
        self._tea = tea
        self._pass: tuple[torch.Tensor, torch.Tensor] | None = None
        self._step: _Step | None = None

    def see(self, logps: torch.Tensor, entropies: torch.Tensor) -> None:
        """Take what the policy's forward pass gave, both of shape (B, T)."""
        self._pass = logps, entropies

    def loss(self, trainer: Any, inputs: MicroBatch) -> torch.Tensor:
        """The term to add to a micro-batch's loss, a scalar; all ranks call it together."""
        assert self._pass is not None
        logps, entropies = self._pass
        self._pass = None
        if self._step is None:
            self._step = _Step(self._tea, trainer.accelerator, _micro_batches(trainer, inputs))
        coefficients = self._step.coefficients(logps, inputs)
        loss = -_aggregate(trainer, inputs, coefficients * entropies)
        self._step.count(coefficients, entropies, _scored_tokens(inputs), loss)
        if trainer.accelerator.sync_gradients:
            for name, value in self._step.metrics().items():
                trainer._metrics["train"][f"tea/{name}"].append(value)
            self._step = None
        return loss


class _Step:
    """One optimiser step: what its coefficients have in common, and what they come to."""

    def __init__(self, tea: TeaSection, accelerator: Any, batches: Sequence[MicroBatch]) -> None:
        self._tea = tea
        self._accelerator = accelerator
        self._totals = _totals(tea, accelerator, batches)
        self._counts: list[torch.Tensor] = []

    def coefficients(self, logps: torch.Tensor, inputs: MicroBatch) -> torch.Tensor:
        mask, advantages = _scored_tokens(inputs), inputs["advantages"]
        if self._tea.scope == "sequence":
            return sequence_coefficients(self._tea, logps, advantages, mask, self._totals)
        return batch_coefficients(self._tea, inputs["old_per_token_logps"], advantages, mask, self._totals)

    def count(self, k: torch.Tensor, entropies: torch.Tensor, mask: torch.Tensor, loss: torch.Tensor) -> None:
        """Add a micro-batch to the metrics."""
        with torch.no_grad():
            covered = (k > _COVERED * self._tea.coef).float()
            sums = (k, k * k, covered, k * entropies, mask)
            self._counts.append(torch.stack([*(part.float().sum() for part in sums), loss.detach().float()]))

    def metrics(self) -> dict[str, float]:
        """Of the step, over all ranks."""
        totals = self._accelerator.reduce(torch.stack(self._counts).sum(0), reduction="sum").tolist()
        weight, squares, covered, entropy, tokens, loss = totals
        return {
            "coef_mean": weight / max(tokens, 1.0),
            "coverage": covered,
            "effective_tokens": weight**2 / squares if squares else 0.0,
            "entropy": entropy / weight if weight else 0.0,
            "loss": loss / self._accelerator.num_processes,
        }


def _totals(tea: TeaSection, accelerator: Any, batches: Sequence[MicroBatch]) -> Totals:
    """Of an optimiser step of which this rank has `batches`."""
    masks = [_scored_tokens(batch) for batch in batches]
    pairs = list(zip(masks, batches, strict=True))
    sums = [_sum(batch["advantages"][:, None] * mask for mask, batch in pairs), _sum(masks)]
    if tea.scope == "batch":
        sums.append(_sum(batch["old_per_token_logps"].float() * mask for mask, batch in pairs))
    summed = accelerator.reduce(torch.stack(sums), reduction="sum")
    tokens = summed[1].clamp(min=1)
    totals = Totals(tokens, *(summed[[0, *range(2, len(sums))]] / tokens))
    if tea.scope == "sequence":
        return totals
    exponents = [
        _exponents(tea, batch["old_per_token_logps"], batch["advantages"], totals)[mask.bool()] for mask, batch in pairs
    ]
    ranks = accelerator.gather(torch.cat(exponents).logsumexp(0)[None])
    return replace(totals, log_total=ranks.logsumexp(0))


def _sum(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of all elements of all parts."""
    return torch.stack([part.sum() for part in parts]).sum()


def _micro_batches(trainer: Any, inputs: MicroBatch) -> list[MicroBatch]:
    """This rank's micro-batches of the optimiser step that begins with `inputs`."""
    count = trainer.current_gradient_accumulation_steps
    if count == 1:
        return [inputs]
    buffered = trainer._buffered_inputs
    return [buffered[(trainer._step + ahead) % len(buffered)] for ahead in range(count)]


def _tokens(inputs: MicroBatch) -> torch.Tensor:
    """TRL's mask of the loss, shape (B, T)."""
    mask = inputs["completion_mask"]
    return mask if "tool_mask" not in inputs else mask * inputs["tool_mask"]


def _scored_tokens(inputs: MicroBatch) -> torch.Tensor:
    """The loss's tokens of completions that have a reward, shape (B, T), as numbers."""
    mask = _tokens(inputs).float()
    return mask if SCORED not in inputs else mask * inputs[SCORED][:, None]


def _aggregate(trainer: Any, inputs: MicroBatch, values: torch.Tensor) -> torch.Tensor:
    """One number of a value per token, shape (B, T), the way TRL 1.16 makes one of its policy loss."""
    mask, kind = _tokens(inputs), trainer.loss_type
    sums, accumulated = (values * mask).sum(-1), int(trainer.current_gradient_accumulation_steps)
    if kind in ("cispo", "dapo", "vespo"):
        # Counted over the rollout on all ranks: brought down to one rank and one optimiser step.
        share: float = accumulated / trainer.args.steps_per_generation / trainer.accelerator.num_processes
        return sums.sum() / (inputs["num_items_in_batch"].clamp(min=1.0) * share)
    if kind == "bnpo":
        mean = sums.sum() / mask.sum().clamp(min=1.0)
    elif kind == "dr_grpo":
        mean = sums.sum() / (mask.size(0) * int(trainer.max_completion_length))
    elif kind == "luspo":
        mean = sums.mean()
    else:
        mean = (sums / mask.sum(-1).clamp(min=1.0)).mean()
    return mean / accumulated
