"""Which prompts the next rollout takes, by domain: drawn when they are needed, from all that was learned before."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rlrules.errors import TrainingError
from rlrules.recipe.sampling import DomainAwareConfig, SamplingConfig, domains_of
from rlrules.rewards.engine import ScoredGroup
from rlrules.training.domain_weights import WeightRule, apportion, weight_rule
from rlrules.types import Progress


class Signal(NamedTuple):
    """What a completion says of its domain.

    Attributes:
        domain: Name.
        value: How right it is.
        malformed: Whether it could not be read.
    """

    domain: str
    value: float
    malformed: bool


class DomainSampler:
    """Draws rollouts by a recipe's `sampling` section; the same on all ranks, as all of them draw and learn the same.

    Trainers read their data ahead, so that an order which depends on rewards would come a rollout late. This one is
    asked at the moment of generation: what the last rollout taught decides on this one.

    Args:
        config: The section.
        rows: The prompts, with the section's column.
        prompts: Prompts of a rollout, on all ranks together.
        seed: Of the order within domains and within rollouts.
        signal_metric: Metric of the signal's scores that counts; empty: their value.
    """

    def __init__(
        self,
        config: SamplingConfig,
        rows: Sequence[Mapping[str, Any]],
        prompts: int,
        seed: int,
        signal_metric: str = "",
    ) -> None:
        self._column = config.column
        self._signal = config.signal if isinstance(config, DomainAwareConfig) else ""
        self._signal_metric = signal_metric
        self._prompts, self._seed = prompts, seed
        self.domains = domains_of(rows, config.column)
        members: dict[str, list[int]] = {domain: [] for domain in self.domains}
        for number, row in enumerate(rows):
            members[str(row[config.column])].append(number)
        self._passes = [_Passes(members[domain], f"{seed}/{domain}") for domain in self.domains]
        self._rule: WeightRule = weight_rule(config, self.domains, [len(members[domain]) for domain in self.domains])
        self._minimum = config.minimum(len(self.domains), prompts)
        self._drawn = [0] * len(self.domains)
        self._rollouts = 0
        self._metrics: dict[str, float] = {}

    def weights(self, progress: Progress) -> dict[str, float]:
        """Each domain's share of a rollout at this step, by all that was learned so far."""
        return dict(zip(self.domains, self._rule.weights(progress).tolist(), strict=True))

    def draw(self, progress: Progress) -> list[int]:
        """Numbers of the rows that the next rollout takes, in its order; moves on."""
        weights = self._rule.weights(progress)
        counts = apportion(weights, self._prompts, self._minimum, self._drawn)
        rows = [row for passes, count in zip(self._passes, counts, strict=True) for row in passes.take(count)]
        random.Random(f"{self._seed}//{self._rollouts}").shuffle(rows)
        self._rollouts += 1
        self._drawn = [before + count for before, count in zip(self._drawn, counts, strict=True)]
        self._metrics = {}
        for domain, weight, count in zip(self.domains, weights.tolist(), counts, strict=True):
            self._metrics |= {f"domains/{domain}/weight": weight, f"domains/{domain}/count": float(count)}
        return rows

    def signals(self, groups: Iterable[ScoredGroup]) -> list[Signal]:
        """The signal of each completion that has one; an unscored completion says nothing."""
        found: list[Signal] = []
        for group in groups if self._signal else ():
            domain = group.group.row.get(self._column)
            for score in group.scored[self._signal].scores:
                # Held-out rows may be without a domain; of those to train on it is checked.
                if score.value is not None and domain is not None:
                    value = score.metrics[self._signal_metric] if self._signal_metric else score.value
                    found.append(Signal(str(domain), value, score.status == "malformed"))
        return found

    def learn(self, signals: Iterable[Signal]) -> dict[str, float]:
        """Take in what `signals` gave on all ranks.

        Returns:
            Metrics of the rollout: per domain its weight and count as drawn, its mean signal, and the share of its
            completions that could not be read.
        """
        by_domain: defaultdict[str, list[Signal]] = defaultdict(list)
        for signal in signals:
            by_domain[signal.domain].append(signal)
        metrics, means = dict(self._metrics), {}
        for domain, heard in by_domain.items():
            # An exact sum: in whatever order ranks give their values, all weights agree to the last bit.
            mean = means[self.domains.index(domain)] = math.fsum(signal.value for signal in heard) / len(heard)
            unread = sum(signal.malformed for signal in heard) / len(heard)
            metrics |= {f"domains/{domain}/reward": mean, f"domains/{domain}/malformed": unread}
        self._rule.learn(means)
        return metrics

    def state(self) -> dict[str, Any]:
        """What decides on the rollouts to come."""
        return {
            "domains": [[domain, passes.size] for domain, passes in zip(self.domains, self._passes, strict=True)],
            "rollouts": self._rollouts,
            "drawn": self._drawn,
            "passes": [passes.state() for passes in self._passes],
            "rule": self._rule.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave.

        Raises:
            TrainingError: It is of other data, or of another type of sampling.
        """
        mine = self.state()
        if state["domains"] != mine["domains"]:
            raise TrainingError("the data has other domains, or other numbers of rows, than the run had before")
        if set(state["rule"]) != set(mine["rule"]):
            raise TrainingError("the run had another `sampling.type` before")
        self._rollouts, self._drawn = state["rollouts"], list(state["drawn"])
        for passes, one in zip(self._passes, state["passes"], strict=True):
            passes.restore(one)
        self._rule.restore(state["rule"])


class _Passes:
    """Goes through a domain's rows again and again, each pass in an order of its own, none left out.

    Args:
        rows: Their numbers.
        seed: Of all orders.
    """

    def __init__(self, rows: Sequence[int], seed: str) -> None:
        self._rows, self._seed = list(rows), seed
        self._pass, self._taken = 0, 0
        self._late: list[int] = []
        self._order = self._ordered()

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def take(self, count: int) -> list[int]:
        """The next rows; none twice while the domain has enough."""
        taken: list[int] = []
        while len(taken) < count:
            if self._taken == self.size:
                # What this rollout took from the end of a pass would soon come again: it goes last in the next pass.
                times = Counter(taken)
                least = min(times[row] for row in self._rows)
                self._late = [row for row in self._rows if times[row] > least]
                self._pass, self._taken = self._pass + 1, 0
                self._order = self._ordered()
            more = self._order[self._taken : self._taken + count - len(taken)]
            self._taken += len(more)
            taken += more
        return taken

    def state(self) -> dict[str, Any]:
        """Where it is."""
        return {"pass": self._pass, "taken": self._taken, "late": self._late}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go there."""
        self._pass, self._taken, self._late = state["pass"], state["taken"], list(state["late"])
        self._order = self._ordered()

    def _ordered(self) -> list[int]:
        order = list(self._rows)
        random.Random(f"{self._seed}/{self._pass}").shuffle(order)
        late = frozenset(self._late)
        return [row for row in order if row not in late] + [row for row in order if row in late]
