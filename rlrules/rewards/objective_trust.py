"""Outcomes plus thinking rewards that are trusted as far as they agree with them (SophiaVL-R1, section 3.3)."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from rlrules.errors import TrainingError
from rlrules.rewards.objective_base import Objective, ObjectiveConfig, Outcome, rewards_of, values
from rlrules.rewards.outcome import KINDS
from rlrules.rewards.trust import Sides, agreement, coefficient, correlation, imputed, saturated, sides
from rlrules.types import Group, Progress, Scored

OTHER = "other"
TYPES: tuple[str, ...] = (*KINDS, OTHER)
INITIAL_TRUST = 1.0
MEMORY = 64.0
"""Groups after which what was learned before weighs 1/e."""
SPARED = "not asked: the outcomes of this group are too much alike to weigh thinking against"


class TrustConfig(ObjectiveConfig):
    """R = outcome + gamma * alpha * exp(-step / horizon) * thinking.

    Only the outcome is required: a thinking reward that is missing counts as its group's mean.
    """

    type: Literal["trust"] = "trust"
    outcome: str = Field(description="The reward that says how right an answer is, 0 to 1; from 0.5 on it is correct.")
    thinking: str = Field(description="The reward that says how good the reasoning is, 0 to 1.")
    alpha: FiniteFloat = Field(0.3, ge=0, description="Weight of thinking at the start.")
    horizon: Literal["total_steps"] | Annotated[int, Field(ge=1)] = Field(
        "total_steps", description="Steps until 1/e of it is left."
    )
    trust: bool = Field(True, description="false: gamma is 1, for ablations.")
    anneal: bool = Field(True, description="false: the weight stays, for ablations.")

    @model_validator(mode="after")
    def _two_rewards(self) -> "TrustConfig":
        if self.outcome == self.thinking:
            raise ValueError(f"outcome and thinking are both {self.outcome!r}; they must be two rewards")
        return self

    def rewards_used(self) -> Collection[str]:
        """Both."""
        return (self.outcome, self.thinking)

    def optional(self) -> Collection[str]:
        """Thinking."""
        return (self.thinking,)

    def group_problem(self, size: int) -> str:
        """What thinking is worth is seen in how it goes with the outcomes of a group."""
        return "type: trust needs groups of 2 or more" if size < 2 else ""

    def build(self) -> "Trust":
        """Make the objective."""
        return Trust(self)


class Trust(Objective):
    """See `TrustConfig`.

    Its state is a running gamma by the kind of question, for groups in which all are correct, or all are wrong, and
    yet their outcomes differ: there the judge cannot be held against anything.

    Args:
        config: The recipe's section.
    """

    def __init__(self, config: TrustConfig) -> None:
        self._config = config
        self._running = dict.fromkeys(TYPES, INITIAL_TRUST)

    def first(self) -> Collection[str]:
        """The outcome."""
        return (self._config.outcome,)

    def spares(self, name: str, scored: Mapping[str, Scored]) -> str:
        """Thinking, in saturated groups."""
        spared = name == self._config.thinking and saturated(values(scored[self._config.outcome]))
        return SPARED if spared else ""

    def combine(self, group: Group, scored: Mapping[str, Scored], blanked: Sequence[bool]) -> Outcome:
        """Weigh and add."""
        given = scored[self._config.outcome].scores
        outcomes = np.where(np.array(blanked, dtype=bool), np.nan, values(scored[self._config.outcome]))
        malformed = np.array([score.status == "malformed" for score in given], dtype=bool)
        # What has no form was not judged for its thinking, and is no sign of how well the judge judges.
        apart = malformed | np.isnan(outcomes)
        thinking = np.where(apart, np.nan, values(scored[self._config.thinking]))
        annealed = coefficient(self._config.alpha, group.progress.step, self._horizon(group.progress))
        metrics = {"annealed": annealed, "judged": float((~np.isnan(thinking)).mean())}
        if saturated(outcomes):
            return Outcome(rewards_of(outcomes), {**metrics, "saturated": 1.0})
        metrics |= {"saturated": 0.0}
        if not apart.all():
            metrics["failed"] = float(np.isnan(thinking[~apart]).mean())
        if np.isnan(thinking).all():
            return Outcome(rewards_of(outcomes), metrics)
        kind = _kind(scored[self._config.outcome])
        found = sides(outcomes, thinking)
        gamma = self._gamma(found, kind)
        rewards = outcomes + gamma * annealed * imputed(thinking, malformed)
        metrics |= {"gamma": gamma, "coefficient": gamma * annealed, **_of_sides(found)}
        return Outcome(rewards_of(rewards), metrics, (*agreement(outcomes, thinking), *_learned(found, kind)))

    def settle(self, outcome: Outcome, totals: Sequence[float]) -> Outcome:
        """Tell how the judge's scores go with the outcomes, over the batch."""
        found = correlation(*totals[:3]) if totals and outcome.totals else math.nan
        return outcome if math.isnan(found) else replace(outcome, metrics={**outcome.metrics, "correlation": found})

    def learn(self, totals: Sequence[float]) -> None:
        """Move each kind's running gamma towards that of the batch, by how many groups had one."""
        for place, kind in enumerate(TYPES if totals else ()):
            count, total = totals[3 + 2 * place : 5 + 2 * place]
            if count:
                kept = math.exp(-count / MEMORY)
                self._running[kind] = kept * self._running[kind] + (1.0 - kept) * total / count

    def state(self) -> dict[str, Any]:
        """The running gamma by kind."""
        return {"gamma": dict(self._running)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            TrainingError: It is none of this objective's.
        """
        found = state.get("gamma")
        if not isinstance(found, Mapping) or set(found) != set(TYPES):
            raise TrainingError("no running trust by kind of question; start a new run, or take another checkpoint")
        self._running = {kind: float(found[kind]) for kind in TYPES}

    def _horizon(self, progress: Progress) -> int | None:
        if not self._config.anneal:
            return None
        return progress.total_steps if self._config.horizon == "total_steps" else self._config.horizon

    def _gamma(self, found: Sides, kind: str) -> float:
        if not self._config.trust:
            return 1.0
        return found.gamma if found.both else self._running[kind]


def _kind(scored: Scored) -> str:
    """The kind of question, where the outcome's scorer tells it."""
    kind = scored.scores[0].details.get("kind")
    return kind if kind in KINDS else OTHER


def _learned(found: Sides, kind: str) -> tuple[float, ...]:
    """How many groups of each kind had a gamma of their own, and its sum."""
    pairs = ((1.0, found.gamma) if found.both and known == kind else (0.0, 0.0) for known in TYPES)
    return tuple(number for pair in pairs for number in pair)


def _of_sides(found: Sides) -> dict[str, float]:
    told = {"thinking_correct": found.correct, "thinking_wrong": found.wrong}
    if found.both:
        told |= {"gap": found.gap, "inverted": float(found.gap < 0)}
    return {name: value for name, value in told.items() if not math.isnan(value)}
