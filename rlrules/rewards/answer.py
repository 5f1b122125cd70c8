"""The reward of a question with one right answer, given in tags behind a thought (RuleReasoner, section 4.1)."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from rlrules.errors import DataError
from rlrules.judges.verdict import THINK_CLOSE, THINK_OPEN
from rlrules.rewards.base import Context, PointwiseScorer, Resources, ScorerConfig
from rlrules.types import Completion, Score

OPEN, CLOSE = "<answer>", "</answer>"
# Signs stay: an answer may be a number.
_AROUND = " \t\r\n()[]{}<>\"'*_`.,:;!?“”‘’"
_OPTION = re.compile(r"([a-z])(?:[)\]]|[.:](?=\s)).*", re.DOTALL)
RIGHT, WRONG, RIGHT_MALFORMED, WRONG_MALFORMED = 1.0, 0.0, -0.5, -1.0


class AnswerConfig(ScorerConfig):
    """1 for the right answer and 0 for a wrong one, in one answer tag behind the thought; otherwise -0.5 and -1.

    A completion may begin inside its thought, as it does after a template that opens it.
    """

    signal_metric: ClassVar[str] = "accuracy"

    type: Literal["answer"] = "answer"
    answer_column: str = Field("answer", description="Column with the right answer.")
    labels_column: str = Field("labels", description="Column with all answers that can be given, where a row has it.")

    def columns(self) -> tuple[str, ...]:
        """The one with the right answer."""
        return (self.answer_column,)

    def row_problem(self, row: Mapping[str, Any]) -> str:
        """The right answer must be one, and among those that can be given."""
        value, labels = row[self.answer_column], row.get(self.labels_column)
        if not isinstance(value, (str, int, float)) or not normalized(right_answer(value)):
            return f"column {self.answer_column!r}: {value!r} is no answer: text or a number"
        if labels is None:
            return ""
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            return f"column {self.labels_column!r}: {labels!r} is no list of texts"
        if _option(normalized(right_answer(value))) not in {_option(normalized(label)) for label in labels}:
            return f"column {self.answer_column!r}: {value!r} is none of {', '.join(labels)}"
        return ""

    def build(self, resources: Resources) -> "AnswerScorer":
        """Make the scorer."""
        return AnswerScorer(self)


@dataclass(frozen=True, slots=True)
class Read:
    """What a completion says.

    Attributes:
        answer: As it stands in the tag; of a completion without tags all that stands behind its thought.
        problem: What is wrong with its form; empty where nothing is.
    """

    answer: str
    problem: str


class AnswerScorer(PointwiseScorer):
    """See `AnswerConfig`.

    Args:
        config: The recipe's section.
    """

    def __init__(self, config: AnswerConfig) -> None:
        self._config = config

    async def score_one(self, context: Context, completion: Completion) -> Score:
        """Read one completion's answer and compare it."""
        config, row = self._config, context.row
        if problem := config.row_problem(row):
            raise DataError(problem)
        right, read = right_answer(row[config.answer_column]), read_answer(completion.text)
        correct = same(read.answer, right)
        problem = read.problem
        if not problem and row.get(config.labels_column) is not None:
            labels: list[str] = row[config.labels_column]
            if not any(same(read.answer, label) for label in labels):
                problem = f"{read.answer[:80]!r} is none of {', '.join(labels)}"
        metrics = {"accuracy": float(correct)}
        details = {"answer": read.answer[:200], "right": right, "correct": correct, "well_formed": not problem}
        if problem:
            return Score(RIGHT_MALFORMED if correct else WRONG_MALFORMED, "malformed", problem, metrics, details)
        return Score(RIGHT if correct else WRONG, metrics=metrics, details=details)


def right_answer(value: str | float) -> str:
    """A row's answer as text: without the tags that RuleReasoner's data has around it; 3.0, of a table, is 3."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().removeprefix(OPEN).removesuffix(CLOSE).strip()


def read_answer(text: str) -> Read:
    """The answer of a completion, and what is wrong with its form.

    Whole is one thought (whose opening tag may have been the prompt's) and behind it one answer tag with something in
    it. Text around the tag does not matter, nor do tags within the thought.
    """
    before, closed, after = text.rpartition(THINK_CLOSE)
    found = after.rpartition(OPEN)[2].partition(CLOSE)[0].strip()
    if not closed:
        return Read(found, f"no {THINK_CLOSE}")
    if THINK_CLOSE in before or THINK_OPEN in after or before.count(THINK_OPEN) > 1:
        return Read(found, "more than one thought")
    if (after.count(OPEN), after.count(CLOSE)) != (1, 1) or after.index(OPEN) > after.index(CLOSE):
        return Read(found, f"not one {OPEN}…{CLOSE} behind the thought")
    return Read(found, "" if normalized(found) else "an empty answer")


def same(answer: str, right: str) -> bool:
    """Whether two answers are the same but for case, blanks, what stands around them, and an option's text.

    "B) blue", "(B)" and "b." are all B where the right answer is an option's letter.
    """
    expected, given = _option(normalized(right)), normalized(answer)
    if len(expected) == 1 and expected.isalpha():
        given = _option(given)
    return given == expected != ""


def normalized(text: str) -> str:
    """An answer without case, doubled blanks, and brackets, quotes and full stops around it."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_AROUND)


def _option(text: str) -> str:
    found = _OPTION.fullmatch(text)
    return found[1] if found else text
