"""What a run drew from each domain of its data, and how well the domain was solved."""

import re
from dataclasses import dataclass

from rlrules.reporting.run_data import Run
from rlrules.reporting.text import shorten


@dataclass(frozen=True, slots=True)
class DomainRow:
    """A domain over the run.

    Attributes:
        name: Its name.
        share: Of all prompts drawn in the logged steps.
        weights: Its weight in the first and the last fifth.
        rewards: Its mean signal likewise; None where none was logged.
    """

    name: str
    share: float
    weights: tuple[float, float]
    rewards: tuple[float, float] | None


def domain_rows(run: Run) -> tuple[DomainRow, ...]:
    """A row for each domain, by name; none where prompts were not drawn by domain."""
    found = (re.fullmatch(r"domains/(.+)/count", metric) for metric in run.metrics)
    counts = {match[1]: run.metrics[match[0]].total for match in found if match}
    total = sum(counts.values())
    rows: list[DomainRow] = []
    for name, count in counts.items():
        weight, reward = run.metrics.get(f"domains/{name}/weight"), run.metrics.get(f"domains/{name}/reward")
        if weight is not None and total > 0:
            rows.append(
                DomainRow(shorten(name, 80), count / total, weight.fifths(), reward.fifths() if reward else None)
            )
    return tuple(rows)
