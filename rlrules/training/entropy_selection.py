"""Entropy-preserving fine-tuning: which tokens are learned (Light-IF)."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from rlrules.recipe.schema import EntropySelection


def kept_of(section: EntropySelection, tokens: int) -> int:
    """How many of a micro-batch's tokens are learned: the share, rounded down; one at least where there is any."""
    return min(tokens, max(math.floor(section.keep * tokens), 1))


def select(section: EntropySelection, losses: torch.Tensor, entropies: torch.Tensor) -> torch.Tensor:
    """Indices of the tokens that are learned: those of the greatest loss - coef * entropy.

    A token whose loss is small for its entropy is a branching point that the model covers already; sharpening it would
    cost the entropy that reinforcement learning starts from.

    Args:
        section: The recipe's.
        losses: Cross-entropies in nats, shape (N,).
        entropies: Of the model's distributions, in nats, shape (N,).

    Returns:
        Shape (kept_of(section, N),).
    """
    ranks = losses.detach().float() - section.coef * entropies.detach().float()
    return ranks.topk(kept_of(section, len(ranks)), sorted=False).indices


@dataclass(frozen=True, slots=True)
class Selected:
    """A micro-batch's outputs with the dropped tokens' log-probabilities at 0, a constant.

    Attributes:
        outputs: The model's, for TRL's loss.
        sums: Shape (6,): tokens, and the sums of losses and of entropies, each of the kept and of the dropped.
    """

    outputs: Any
    sums: torch.Tensor


def selected(section: EntropySelection, outputs: Any) -> Selected:
    """Select among a micro-batch's supervised tokens.

    Args:
        section: The recipe's.
        outputs: Of TRL's fused head: `log_probs`, `entropy` and `label_mask`, each of shape (B, T).
    """
    mask = outputs.label_mask
    losses, entropies = -outputs.log_probs.detach()[mask].float(), outputs.entropy.detach()[mask].float()
    chosen = torch.zeros_like(losses, dtype=torch.bool)
    if len(losses):
        chosen[select(section, losses, entropies)] = True
    kept = torch.zeros_like(mask)
    kept[mask] = chosen
    parts = [part for which in (chosen, ~chosen) for part in (which.sum(), losses[which].sum(), entropies[which].sum())]
    outputs.log_probs = outputs.log_probs.masked_fill(~kept, 0)
    return Selected(outputs, torch.stack([part.float() for part in parts]))


def metrics(sums: torch.Tensor) -> dict[str, float]:
    """What to log of `Selected.sums`, added up over ranks; a mean over no token stays out."""
    kept, loss_kept, entropy_kept, dropped, loss_dropped, entropy_dropped = sums.tolist()
    found: dict[str, float] = {}
    if kept + dropped:
        found |= {"share": kept / (kept + dropped), "loss": (loss_kept + loss_dropped) / (kept + dropped)}
    if kept:
        found |= {"loss_kept": loss_kept / kept, "entropy_kept": entropy_kept / kept}
    if dropped:
        found |= {"loss_dropped": loss_dropped / dropped, "entropy_dropped": entropy_dropped / dropped}
    return found
