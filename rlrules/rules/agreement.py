"""How far rules agree with preferences and with each other: arithmetic on an array of verdicts.

Verdicts have the shape (N pairs, 2 [chosen, rejected], K rules): 1 the rule is satisfied, 0 it is not, NaN it does
not apply or its verdict is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of n cases in [0, 1], with its Wilson 95 % interval; NaN where n is 0."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class RuleAgreement:
    """What one rule says of the preferences.

    Attributes:
        agreement: P(satisfied by the chosen answer only | by exactly one of the two); n: pairs it tells apart.
        discordance: P(satisfied by exactly one of the two); n: pairs with both verdicts.
        applicability: Share of answered verdicts in which the rule applies.
        satisfied_chosen: Share of chosen answers that satisfy it, where it applies.
        satisfied_rejected: Share of rejected ones.
    """

    agreement: Share
    discordance: Share
    applicability: Share
    satisfied_chosen: Share
    satisfied_rejected: Share


def share(cases: float, n: int) -> Share:
    """`cases` of `n`, with Wilson's interval.

    Half a case (a tie) widens it: the lower end is that of the whole number below, the upper that of the one above.
    """
    from scipy.stats import binomtest  # Takes a second to import.

    if n == 0:
        return Share(float("nan"), float("nan"), float("nan"), 0)
    low = binomtest(int(np.floor(cases)), n).proportion_ci(method="wilson").low
    high = binomtest(int(np.ceil(cases)), n).proportion_ci(method="wilson").high
    return Share(cases / n, float(low), float(high), n)


def rule_agreement(verdicts: Floats, failed: Bools | None = None) -> list[RuleAgreement]:
    """Each rule's agreement with the preferences.

    Args:
        verdicts: Shape (N, 2, K).
        failed: Shape (N, 2, K): verdicts that are missing, to be told from rules that do not apply; none by default.

    Returns:
        K results, in the rules' order.
    """
    answered = np.ones(verdicts.shape, bool) if failed is None else ~failed
    known = ~np.isnan(verdicts)
    found: list[RuleAgreement] = []
    for k in range(verdicts.shape[2]):
        both = verdicts[known[:, :, k].all(axis=1), :, k]
        told_apart = both[both[:, 0] != both[:, 1]]
        chosen, rejected = (verdicts[known[:, side, k], side, k] for side in (0, 1))
        found.append(
            RuleAgreement(
                agreement=share(int((told_apart[:, 0] > told_apart[:, 1]).sum()), len(told_apart)),
                discordance=share(len(told_apart), len(both)),
                applicability=share(int(known[:, :, k].sum()), int((known | answered)[:, :, k].sum())),
                satisfied_chosen=share(int(chosen.sum()), len(chosen)),
                satisfied_rejected=share(int(rejected.sum()), len(rejected)),
            )
        )
    return found


def set_accuracy(
    verdicts: Floats,
    weights: Sequence[float] | None = None,
    na: Literal["excluded", "satisfied"] = "excluded",
    failed: Bools | None = None,
) -> Share:
    """How often the whole set prefers the chosen answer: P(mean chosen > mean rejected) + P(tie) / 2.

    Args:
        verdicts: Shape (N, 2, K).
        weights: K weights of the rules; equal by default.
        na: Rules that do not apply are left out of an answer's mean, or count as satisfied.
        failed: Shape (N, 2, K): missing verdicts, left out either way.

    Returns:
        The accuracy; n: pairs in which both answers have a mean.
    """
    if na == "satisfied":
        missing = np.zeros(verdicts.shape, bool) if failed is None else failed
        verdicts = np.where(np.isnan(verdicts) & ~missing, 1.0, verdicts)
    weight = np.ones(verdicts.shape[2]) if weights is None else np.asarray(weights, float)
    total = np.where(np.isnan(verdicts), 0.0, weight).sum(axis=2)
    satisfied = (np.nan_to_num(verdicts) * weight).sum(axis=2)
    usable = (total > 0).all(axis=1)
    means = satisfied[usable] / total[usable]
    # Equal counts reached by different divisions may differ in the last bit; that is a tie all the same.
    tied = np.isclose(means[:, 0], means[:, 1], rtol=0, atol=1e-12)
    wins = (means[:, 0] > means[:, 1]) & ~tied
    return share(float(wins.sum() + tied.sum() / 2), int(usable.sum()))


@dataclass(frozen=True, slots=True)
class RuleMatrix:
    """How far rules agree with each other; all arrays have the shape (K, K) and are symmetric.

    Attributes:
        agreement: Share of responses on which both rules have the same verdict; NaN without shared verdicts.
        phi: Correlation of the two verdicts; NaN where one of them never changes.
        n: Responses on which both have a verdict.
    """

    agreement: Floats
    phi: Floats
    n: NDArray[np.int64]


def rule_matrix(verdicts: Floats) -> RuleMatrix:
    """Compare every two rules on all 2N responses of `verdicts`, shape (N, 2, K)."""
    flat = verdicts.reshape(-1, verdicts.shape[2])
    known = (~np.isnan(flat)).astype(float)
    yes = np.nan_to_num(flat)
    no = known - yes
    n11, n00, n10, n01 = yes.T @ yes, no.T @ no, yes.T @ no, no.T @ yes
    n = known.T @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement = np.where(n > 0, (n11 + n00) / n, np.nan)
        spread = np.sqrt((n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00))
        phi = np.where(spread > 0, (n11 * n00 - n10 * n01) / spread, np.nan)
    return RuleMatrix(agreement, phi, n.astype(np.int64))


@dataclass(frozen=True, slots=True)
class Flag:
    """Two rules that say the same ("redundant") or the opposite ("conflict"), by their places."""

    kind: Literal["redundant", "conflict"]
    first: int
    second: int
    phi: float
    n: int


def flags(matrix: RuleMatrix, redundant: float = 0.8, conflict: float = -0.3, min_n: int = 20) -> list[Flag]:
    """Pairs of rules whose phi is at least `redundant` or at most `conflict`, strongest first.

    Pairs with fewer than `min_n` shared verdicts are never flagged.
    """
    found: list[Flag] = []
    for first, second in zip(*np.triu_indices(len(matrix.phi), 1), strict=True):
        phi, n = float(matrix.phi[first, second]), int(matrix.n[first, second])
        if n >= min_n and phi >= redundant:
            found.append(Flag("redundant", int(first), int(second), phi, n))
        elif n >= min_n and phi <= conflict:
            found.append(Flag("conflict", int(first), int(second), phi, n))
    return sorted(found, key=lambda flag: -abs(flag.phi))


def flip_rates(draws: Floats, failed: Bools | None = None) -> list[Share]:
    """How often repeated verdicts on the same question are not all the same; "does not apply" is a verdict, too.

    Args:
        draws: Shape (R repeats, N, 2, K).
        failed: Same shape: missing verdicts, not compared; none by default.

    Returns:
        K shares; n: responses with at least two verdicts on that rule.
    """
    missing = np.zeros(draws.shape, bool) if failed is None else failed
    codes = np.where(np.isnan(draws), 0.5, draws)
    lowest = np.where(missing, np.inf, codes).min(axis=0)
    highest = np.where(missing, -np.inf, codes).max(axis=0)
    counted = (~missing).sum(axis=0) >= 2
    flipped = counted & (lowest != highest)
    return [share(int(flipped[:, :, k].sum()), int(counted[:, :, k].sum())) for k in range(draws.shape[3])]
