"""The arithmetic of sampling by domain: weights, and whole prompts out of weights. Nothing here is drawn by lot."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from rlrules.recipe.sampling import CurriculumConfig, DomainAwareConfig, SamplingConfig, UniformConfig
from rlrules.types import Progress

Weights = NDArray[np.float64]
# A domain is never shut out, not even where its exponential underflows: a weight of 0 has no minimum.
_LEAST = 1e-100


class WeightRule:
    """Says which share of a rollout each domain gets; domains are numbered."""

    def weights(self, progress: Progress) -> Weights:
        """Shape (domains,), a sum of 1: the shares of the rollout at this step."""
        raise NotImplementedError(f"{type(self).__name__}.weights")  # pragma: no cover

    def learn(self, means: Mapping[int, float]) -> None:
        """Take in a rollout's mean signal by domain; a domain without any is not in it."""
        return

    def state(self) -> dict[str, Any]:
        """What it has learned."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        return


class Fixed(WeightRule):
    """The same shares at every step.

    Args:
        sizes: By domain, in proportion to the shares.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._weights = np.array(sizes, dtype=np.float64) / sum(sizes)

    def weights(self, progress: Progress) -> Weights:
        """As at every step."""
        return self._weights


class Curriculum(WeightRule):
    """Opens domain k of n once k / n of the opening time has passed; the open ones share equally.

    Args:
        places: By domain, its place in the order, from 0, the easiest.
        open_by: Share of the run's steps after which all are open.
    """

    def __init__(self, places: Sequence[int], open_by: float) -> None:
        self._places = np.array(places)
        self._open_by = open_by

    def weights(self, progress: Progress) -> Weights:
        """Equal shares of what is open at this step."""
        passed = (progress.step - 1) / (self._open_by * max(1, progress.total_steps))
        shares = (self._places <= passed * len(self._places)).astype(np.float64)
        weights: Weights = shares / shares.sum()
        return weights


class DomainAware(WeightRule):
    """Shares by how far a domain's smoothed mean is from 1 (arXiv 2506.08672, Algorithm 1).

    m <- alpha m + (1 - alpha) mean, from m = 0; the share is proportional to exp((1 - m) / temperature) + epsilon. A
    domain that was not seen keeps its m.

    Args:
        domains: How many there are.
        config: The rule's numbers.
    """

    def __init__(self, domains: int, config: DomainAwareConfig) -> None:
        self._config = config
        self.smoothed = [0.0] * domains

    def weights(self, progress: Progress) -> Weights:
        """By the means so far; equal before any."""
        config = self._config
        exponents = (1 - np.array(self.smoothed)) / config.temperature
        # In logarithms, so that a signal far outside of [0, 1] does not overflow.
        logs = np.logaddexp(exponents, math.log(config.epsilon)) if config.epsilon else exponents
        weights: Weights = np.maximum(softmax(logs), _LEAST)
        return weights if config.max_weight is None else capped(weights, config.max_weight)

    def learn(self, means: Mapping[int, float]) -> None:
        """Smooth."""
        alpha = self._config.alpha
        for domain, mean in means.items():
            self.smoothed[domain] = alpha * self.smoothed[domain] + (1 - alpha) * mean

    def state(self) -> dict[str, Any]:
        """The smoothed means."""
        return {"smoothed": list(self.smoothed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set them."""
        self.smoothed = [float(mean) for mean in state["smoothed"]]


def weight_rule(config: SamplingConfig, domains: Sequence[str], sizes: Sequence[int]) -> WeightRule:
    """The rule of a recipe's section.

    Args:
        config: The section.
        domains: Names, easy ones first where the section gives no order.
        sizes: Rows of each.
    """
    if isinstance(config, DomainAwareConfig):
        return DomainAware(len(domains), config)
    if isinstance(config, CurriculumConfig):
        order = config.order or list(domains)
        return Curriculum([order.index(domain) for domain in domains], config.open_by)
    return Fixed([1] * len(domains) if isinstance(config, UniformConfig) else sizes)


def capped(weights: Weights, most: float) -> Weights:
    """Weights of which none is over `most`; what is cut off goes to the others in proportion.

    Args:
        weights: Shape (N,), a sum of 1.
        most: At least 1 / N.
    """
    cut = np.zeros(len(weights), dtype=bool)
    while (over := ~cut & (weights > most * (1 + 1e-12))).any():
        cut |= over
        rest = np.where(cut, 0.0, weights)
        if not rest.any():
            rest = np.where(cut, 0.0, 1.0)
        weights = np.where(cut, most, rest * (1 - most * cut.sum()) / max(rest.sum(), 1e-300))
    return weights


def apportion(weights: Sequence[float] | Weights, seats: int, minimum: int, drawn: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to weights: the largest-remainder method, in exact arithmetic.

    Where that gives a domain of some weight less than `minimum`, it gets the minimum, and the others share the rest in
    the same way.

    Args:
        weights: Non-negative, one per domain.
        seats: What the numbers add up to; at least `minimum` for each weight that is not 0.
        minimum: See above.
        drawn: What each got so far: of equal remainders that of the one which got least counts as larger, then the
            first.
    """
    counts = [0] * len(weights)
    sharing = [domain for domain, weight in enumerate(weights) if weight > 0]
    while sharing:
        shares = {domain: Fraction(float(weights[domain])) for domain in sharing}
        left = seats - sum(count for domain, count in enumerate(counts) if domain not in shares)
        total = sum(shares.values())
        quotas = {domain: share * left / total for domain, share in shares.items()}
        for domain, quota in quotas.items():
            counts[domain] = math.floor(quota)
        missing = seats - sum(counts)
        ranked = sorted(sharing, key=lambda domain: (counts[domain] - quotas[domain], drawn[domain], domain))
        for domain in ranked[:missing]:
            counts[domain] += 1
        low = [domain for domain in sharing if counts[domain] < minimum]
        for domain in low:
            counts[domain] = minimum
        if not low:
            break
        sharing = [domain for domain in sharing if domain not in low]
    return counts
