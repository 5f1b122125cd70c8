"""The reward of following verifiable constraints, dense or all-or-nothing (Light-IF, arXiv 2508.03178)."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rlrules.errors import DataError
from rlrules.rewards.base import Resources, ScorerConfig
from rlrules.rewards.constraint_set import IDS, KWARGS, Constraint, constraints_of, missing_data
from rlrules.rewards.instruction_checks import MissingData, follows, prepare, variants
from rlrules.rewards.thought import Parts, parts_of, thought_problem, thought_tokens
from rlrules.types import Group, Message, Score, Scored

Aggregate = Literal["fraction", "all", "weighted"]


class ConstraintsConfig(ScorerConfig):
    """How much of a prompt's constraints an answer follows: `all_bonus * all + (1 - all_bonus) * dense`."""

    type: Literal["constraints"] = "constraints"
    aggregate: Aggregate = Field(
        "fraction", description="fraction: the share followed; weighted: by Light-IF's increments; all: 1 or 0."
    )
    mode: Literal["strict", "loose"] = Field(
        "strict", description="loose: as IFEval, one of the answer's variants is enough."
    )
    think: Literal["required", "optional"] = Field(
        "optional", description="required: an answer without a thought of some length is worth 0."
    )
    all_bonus: float = Field(0.0, ge=0, le=1, description="Share of the reward that only following all gives.")
    nltk_data: str | None = Field(None, description="Folder of NLTK's data, where NLTK does not find it by itself.")

    def columns(self) -> tuple[str, ...]:
        """IFEval's."""
        return (IDS, KWARGS)

    def row_problem(self, row: Mapping[str, Any]) -> str:
        """All constraints must be known, whole, and have the data that they need."""
        try:
            self.prepare()
            problem = missing_data(constraints_of(row, ""))
        except DataError as error:
            return str(error)
        return f"{problem}; give its folder in `nltk_data`" if problem else ""

    def prepare(self) -> None:
        """Make the checkers usable.

        Raises:
            DataError: They are not installed, or `nltk_data` is no folder.
        """
        prepare(Path(self.nltk_data) if self.nltk_data else None)

    def build(self, resources: Resources) -> "ConstraintsScorer":
        """Make the scorer."""
        self.prepare()
        return ConstraintsScorer(self)


class ConstraintsScorer:
    """See `ConstraintsConfig`.

    A checker that raises counts as not followed; one whose data is missing leaves the completion unscored.

    Args:
        config: The recipe's section.
    """

    def __init__(self, config: ConstraintsConfig) -> None:
        self._config = config

    async def score(self, group: Group) -> Scored:
        """Check all completions, in a thread: a large rollout takes seconds."""
        constraints = constraints_of(group.row, _text(group.prompt))
        return await asyncio.to_thread(self._score, constraints, [one.text for one in group.completions])

    def _score(self, constraints: Sequence[Constraint], texts: Sequence[str]) -> Scored:
        return Scored(tuple(self._score_one(constraints, text) for text in texts))

    def _score_one(self, constraints: Sequence[Constraint], text: str) -> Score:
        parts = parts_of(text)
        if problem := thought_problem(parts, self._config.think == "required"):
            nothing = dict.fromkeys((one.label for one in constraints), False)
            return Score(0.0, "malformed", problem, _metrics(constraints, nothing, parts), nothing)
        answers = variants(parts.answer)
        if self._config.mode == "strict":
            answers = answers[:1]
        followed: dict[str, bool] = {}
        errors: dict[str, str] = {}
        for one in constraints:
            try:
                followed[one.label], error = follows(one.checker, answers)
            except MissingData as missing:
                return Score.unscored(f"{one.name}: {missing}; give its folder in `nltk_data`")
            if error:
                errors[one.label] = error
        details: dict[str, Any] = {**followed, "errors": errors} if errors else dict(followed)
        metrics = _metrics(constraints, followed, parts)
        return Score(self._value(constraints, followed), metrics=metrics, details=details)

    def _value(self, constraints: Sequence[Constraint], followed: Mapping[str, bool]) -> float:
        everything = float(all(followed.values()))
        if self._config.aggregate == "all":
            return everything
        weights = {one.label: one.weight if self._config.aggregate == "weighted" else 1.0 for one in constraints}
        earned = sum(weights[label] for label, holds in followed.items() if holds)
        dense = earned / sum(weights.values())
        return self._config.all_bonus * everything + (1 - self._config.all_bonus) * dense


def _metrics(constraints: Sequence[Constraint], followed: Mapping[str, bool], parts: Parts) -> dict[str, float]:
    kinds: dict[str, list[bool]] = {}
    for one in constraints:
        kinds.setdefault(one.name, []).append(followed[one.label])
    return {
        "all": float(all(followed.values())),
        "fraction": sum(followed.values()) / len(followed),
        "thought_tokens": float(thought_tokens(parts.thought)),
        **{f"kind/{name}": sum(flags) / len(flags) for name, flags in kinds.items()},
    }


def _text(prompt: Sequence[Message]) -> str:
    """What the user asked last."""
    content = prompt[-1]["content"] if prompt else ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")
