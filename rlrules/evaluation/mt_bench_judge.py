"""What a judge is asked about MT-Bench's answers, and what it says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlrules.data.preferences_base import assistant, user
from rlrules.evaluation.mt_bench_data import (
    NEED_REFERENCE,
    Question,
    Template,
    pair_values,
    single_values,
    template_name,
)
from rlrules.evaluation.mt_bench_parse import HIGHEST, LOWEST, read_grade, read_side
from rlrules.evaluation.results import Outcome
from rlrules.judges import Answer
from rlrules.judges import Question as Asked
from rlrules.judges.templates import conversation, fenced, render
from rlrules.judges.verdict import after_thought, read_verdict
from rlrules.types import Message

GRADES = tuple(str(grade) for grade in range(int(LOWEST), int(HIGHEST) + 1))
SIDES = ("A", "B", "C")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge's answer says: a grade, or the side that is better ("A", "B", "tie")."""

    outcome: Outcome
    value: float | str | None = None
    reason: str = ""


def grade_question(before: str, answer: str, reference: str | None, explain: bool) -> Asked:
    """Asks for the grade of a reply.

    Args:
        before: The conversation up to it, rendered.
        answer: The reply.
        reference: A correct reply.
        explain: Explain first; otherwise answer by the bare grade.
    """
    content, version = render(
        "grade",
        conversation=before,
        answer=fenced(answer),
        reference=fenced(reference) if reference is not None else "",
        explain=explain,
    )
    return Asked((user(content.rstrip()),), version, labels=() if explain else GRADES)


class MTBenchTemplates:
    """How the judge is asked.

    Args:
        given: Templates in FastChat's form; None: our own.
        explain: Of our own: the judge explains first.
        references: Reference answers to both turns, by question.
    """

    def __init__(
        self, given: Mapping[str, Template] | None, explain: bool, references: Mapping[int, Sequence[str]]
    ) -> None:
        self._given, self._explain, self._references = given, explain, references

    def reference(self, question: Question) -> Sequence[str] | None:
        """The reference answers that a question is judged with."""
        return self._references.get(question.id) if question.category in NEED_REFERENCE else None

    def grade(self, question: Question, answers: Sequence[str], turn: int) -> Asked:
        """Asks for the grade of the answer to a turn."""
        known = self.reference(question)
        if self._given is not None:
            return self._of_given("single", question, turn, single_values(question, answers, known))
        before = conversation(_chat(question, answers, turn)[:-1])
        return grade_question(before, answers[turn - 1], known[turn - 1] if known else None, self._explain)

    def compare(self, question: Question, first: Sequence[str], second: Sequence[str], turn: int) -> Asked:
        """Asks whose answer to a turn is better."""
        known = self.reference(question)
        if self._given is not None:
            return self._of_given("pair", question, turn, pair_values(question, first, second, known))
        content, version = render(
            "mt_bench_pair",
            first=conversation(_chat(question, first, turn)),
            second=conversation(_chat(question, second, turn)),
            reference=fenced(known[turn - 1]) if known else "",
            explain=self._explain,
        )
        return Asked((user(content.rstrip()),), version, labels=() if self._explain else SIDES)

    def _of_given(self, mode: str, question: Question, turn: int, values: Mapping[str, str]) -> Asked:
        assert self._given is not None
        template = self._given[template_name(mode, question.category if self.reference(question) else "", turn)]
        system: tuple[Message, ...] = ({"role": "system", "content": template.system},) if template.system else ()
        return Asked((*system, user(template.fill(values))), template.version)


def read_judgment(answer: Answer, asked: Asked, graded: bool) -> Judged:
    """The grade in an answer or, where answers are compared, the side."""
    if asked.labels:
        verdict = read_verdict(answer, asked.labels)
        if verdict.outcome != "value":
            return Judged("unparsed", reason=verdict.reason)
        value = float(verdict.label) if asked.labels == GRADES else verdict.label.replace("C", "tie")
        return Judged("ok", value)
    text = after_thought(answer.text)
    found: float | str | None = read_grade(text) if graded else read_side(text)
    if found is not None:
        return Judged("ok", found)
    cut = " (it was cut off; raise its max_tokens)" if answer.finish_reason == "length" else ""
    return Judged("unparsed", reason=f"no verdict in {' '.join(text[-80:].split())!r}{cut}")


def _chat(question: Question, answers: Sequence[str], turn: int) -> tuple[Message, ...]:
    turns = list(zip(question.turns, answers, strict=False))[:turn]
    return tuple(message for said, reply in turns for message in (user(said), assistant(reply)))
