"""RM-Bench (Liu et al. 2024): does substance beat style? Three right and three wrong answers, in rising style."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrules.errors import DataError
from rlrules.evaluation.files import need
from rlrules.evaluation.stats import RESAMPLES, bootstrap

Floats = NDArray[np.float64]

STYLES = ("concise", "detailed", "markdown")
DOMAINS = ("chat", "math", "code", "safety")
DIFFICULTIES = ("easy", "normal", "hard")


def difficulty_of(chosen_style: int, rejected_style: int) -> str:
    """Easy where the right answer has the richer style, hard where the wrong one has it."""
    return DIFFICULTIES[1 + int(np.sign(rejected_style - chosen_style))]


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt; answers in the order of `STYLES`."""

    id: str
    domain: str
    prompt: str
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One of the nine pairs of an item."""

    item: Item
    chosen_style: int
    rejected_style: int

    @property
    def difficulty(self) -> str:
        """Of the pair."""
        return difficulty_of(self.chosen_style, self.rejected_style)


def read_items(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Item]:
    """Read {id, domain, prompt, chosen, rejected}; domains such as safety-refuse belong to what stands before the dash.

    Raises:
        DataError: A column is missing, a side has not three texts, the domain is unknown, or an id stands twice.
    """
    found: dict[tuple[str, str], Item] = {}
    for where, row in rows:
        need(row, ("id", "domain", "prompt", "chosen", "rejected"), where)
        sides = [tuple(row[side]) for side in ("chosen", "rejected") if isinstance(row[side], list | tuple)]
        if len(sides) != 2 or any(len(side) != len(STYLES) for side in sides):
            raise DataError(
                f"{where}: `chosen`, `rejected`: expected three texts each, in the styles {', '.join(STYLES)}"
            )
        domain = str(row["domain"]).partition("-")[0]
        if domain not in DOMAINS:
            raise DataError(f"{where}: `domain`: expected one of {', '.join(DOMAINS)}, got {row['domain']!r}")
        item = Item(str(row["id"]), domain, str(row["prompt"]), *sides)
        # Ids are unique within a published file only, whose name is the domain in full.
        key = (str(row["domain"]), item.id)
        if key in found:
            raise DataError(f"{where}: `id`: {item.id!r} stands more than once in {row['domain']}")
        found[key] = Item(f"{row['domain']}:{item.id}", domain, item.prompt, *sides)
    if not found:
        raise DataError("RM-Bench: no rows")
    return list(found.values())


def comparisons(items: Iterable[Item]) -> list[Comparison]:
    """All nine pairs of every item, of which three are easy, three normal, three hard."""
    places = range(len(STYLES))
    return [Comparison(item, i, j) for item in items for i in places for j in places]


def outcomes_of_scores(chosen: Floats, rejected: Floats) -> Floats:
    """Outcomes of the pairs that scores make: 1 the chosen one is higher, 0 lower, 0.5 a tie, NaN unknown.

    Args:
        chosen: Shape (n, 3).
        rejected: Shape (n, 3).

    Returns:
        Shape (n, 3 [chosen style], 3 [rejected style]).
    """
    difference = chosen[:, :, None] - rejected[:, None, :]
    return np.where(np.isnan(difference), np.nan, (1 + np.sign(difference)) / 2)


def rm_bench_metrics(
    domains: Sequence[str], outcomes: Floats, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """All numbers of RM-Bench; a tie is wrong.

    Args:
        domains: Each item's domain.
        outcomes: Shape (n, 3 [chosen style], 3 [rejected style]), as `outcomes_of_scores` gives.
        resamples: Of the bootstrap over items.
        seed: Of the bootstrap.

    Returns:
        `cells` domain by difficulty, each domain's mean over its difficulties, each difficulty's mean over domains,
        `overall` (the official mean of domain means) and `example_weighted` (the mean over all comparisons).
    """
    right = np.where(np.isnan(outcomes), np.nan, outcomes == 1)
    places = range(len(STYLES))
    masks = {name: np.array([[difficulty_of(i, j) == name for j in places] for i in places]) for name in DIFFICULTIES}
    names = np.array(domains)
    there = [domain for domain in DOMAINS if (names == domain).any()]
    cells = {
        domain: {difficulty: _accuracy(right[names == domain], mask) for difficulty, mask in masks.items()}
        for domain in there
    }
    by_domain = {domain: float(np.mean(list(cells[domain].values()))) for domain in there}
    known = ~np.isnan(right)
    weighted = bootstrap(np.nansum(right, axis=(1, 2)), known.sum(axis=(1, 2)), resamples, seed)
    return {
        "overall": float(np.mean(list(by_domain.values()))),
        "overall_of": ", ".join(there),
        "example_weighted": weighted.value,
        "domains": by_domain,
        **{name: float(np.mean([cells[domain][name] for domain in there])) for name in DIFFICULTIES},
        "cells": cells,
        "ties": float(np.nanmean(np.where(known, outcomes == 0.5, np.nan))),
        "n": len(domains),
        "n_comparisons": int(known.sum()),
        "n_failed": int((~known).sum()),
        "intervals": {"example_weighted": weighted.record()} if resamples else {},
    }


def domain_averages(accuracy: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, float]:
    """The two averages of domain accuracies that publications mix up.

    Returns:
        `macro`, the domains' plain mean, and `example_weighted`.
    """
    total = sum(counts[domain] * value for domain, value in accuracy.items())
    return {
        "macro": float(np.mean(list(accuracy.values()))),
        "example_weighted": total / sum(counts[domain] for domain in accuracy),
    }


def _accuracy(right: Floats, mask: NDArray[np.bool_]) -> float:
    return float(np.nanmean(right[:, mask])) if not np.isnan(right[:, mask]).all() else float("nan")
