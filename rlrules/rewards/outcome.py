"""The outcome: how right the answer in the answer tag is, by the kind of the question (SophiaVL-R1, section 3).

What the paper leaves open, and where its released graders pay for wrong answers, is in docs/fidelity.md.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field

from rlrules.errors import DataError
from rlrules.rewards import graders
from rlrules.rewards.base import Context, PointwiseScorer, Resources, ScorerConfig, unpacked
from rlrules.rewards.numeric import same_number
from rlrules.rewards.tagged import ANSWER, read_tagged
from rlrules.types import Completion, Score

Kind = Literal["numerical", "multiple_choice", "ocr", "free_form", "regression"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OPTIONS = "options"
_ALIASES: dict[str, Kind] = {"text": "free_form"}
_SHOWN = 200


class OutcomeConfig(ScorerConfig):
    """0 to 1 by the grader of the row's kind; 0 where the completion is no `<think>…</think>…<answer>…</answer>`.

    numerical: equal as mathematics, or not. multiple_choice: the same set of options, whose texts the column `options`
    may hold. ocr: exp(-WER). free_form: mean ROUGE F. regression: max(0, 1 - |p - g| / |g|).
    """

    type: Literal["outcome"] = "outcome"
    kind_column: str = Field("problem_type", description="Column with the kind of the question.")
    answer_column: str = Field("answer", description="Column with the right answer, in an answer tag or bare.")

    def columns(self) -> tuple[str, ...]:
        """Both."""
        return (self.kind_column, self.answer_column)

    def row_problem(self, row: Mapping[str, Any]) -> str:
        """The kind must be known, and the answer one that a completion can give."""
        kind = kind_of(row[self.kind_column])
        if kind is None:
            return f"column {self.kind_column!r}: no kind {row[self.kind_column]!r} (known: {', '.join(KINDS)}, text)"
        truth = truth_of(row[self.answer_column])
        where = f"column {self.answer_column!r}: {truth[:60]!r}"
        if not truth:
            return f"column {self.answer_column!r} is empty"
        if kind == "multiple_choice" and not graders.letters(truth, options_of(row)):
            return f"{where} names no option, by its letter or by its text in {OPTIONS!r}"
        if kind == "regression" and graders.number_of(truth) is None:
            return f"{where} is no number"
        return ""

    def build(self, resources: Resources) -> "OutcomeScorer":
        """Make the scorer."""
        return OutcomeScorer(self)


class OutcomeScorer(PointwiseScorer):
    """See `OutcomeConfig`.

    A broken form is `malformed`, and so is an answer that has no end for whoever compares it. A well-formed answer
    that is no number, or no letter, is wrong and nothing else.

    Args:
        config: The recipe's section.
    """

    def __init__(self, config: OutcomeConfig) -> None:
        self._config = config

    async def score_one(self, context: Context, completion: Completion) -> Score:
        """Grade one completion."""
        if problem := self._config.row_problem(context.row):
            raise DataError(problem)
        kind = kind_of(context.row[self._config.kind_column])
        assert kind is not None
        tagged = read_tagged(completion.text)
        if tagged.problem:
            return _score(kind, 0.0, 0.0, tagged.answer, tagged.problem)
        truth = truth_of(context.row[self._config.answer_column])
        if kind == "numerical":
            same = await same_number(truth, tagged.answer)
            return _score(kind, float(same.equal), 1.0, tagged.answer, same.problem if same.hung else "")
        accuracy = await asyncio.to_thread(_graded, kind, truth, tagged.answer, context.row)
        return _score(kind, accuracy, 1.0, tagged.answer)


def kind_of(value: object) -> Kind | None:
    """The kind that a column's value names, however it is written."""
    name = str(value).strip().lower().replace(" ", "_").replace("-", "_")
    return _ALIASES.get(name) or next((kind for kind in KINDS if kind == name), None)


def truth_of(value: object) -> str:
    """The right answer: what the first answer tag of a text holds, or all of it; a list's entries with commas."""
    if isinstance(value, list | tuple):
        return ", ".join(str(entry) for entry in value).strip()
    found = ANSWER.search(str(value))
    return (found[1] if found else str(value)).strip()


def options_of(row: Mapping[str, Any]) -> list[str]:
    """The options' texts, where the row has them."""
    options = unpacked(row.get(OPTIONS))
    return [str(option) for option in options] if isinstance(options, list | tuple) else []


def _graded(kind: Kind, truth: str, answer: str, row: Mapping[str, Any]) -> float:
    if kind == "multiple_choice":
        return graders.choice(truth, answer, options_of(row))
    by_kind = {"ocr": graders.transcription, "free_form": graders.overlap, "regression": graders.nearness}
    return by_kind[kind](truth, answer)


def _score(kind: Kind, accuracy: float, form: float, answer: str, problem: str = "") -> Score:
    components = {"accuracy": accuracy, "format": form}
    details = {**components, "kind": kind, "answer": answer[:_SHOWN]}
    return Score(form * accuracy, "malformed" if problem else "ok", problem, components, details)
