"""MT-Bench's files: questions, references, answers, and judge templates in FastChat's form."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrules.data.preferences_base import number_of, text_of
from rlrules.data.preferences_mt_bench import answer_turns
from rlrules.errors import DataError
from rlrules.evaluation.files import need, refuse_again

WRONG_REFERENCES = (104, 105, 109, 111, 113, 114, 120, 122, 124, 125, 126, 128, 130)
"""Questions whose published reference is wrong in at least one turn (FastChat's pull request 3158)."""

NEED_REFERENCE = ("reasoning", "math", "coding")
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Question:
    """A question of two turns."""

    id: int
    category: str
    turns: tuple[str, str]


def read_questions(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Question]:
    """Read question.jsonl, {question_id, category, turns}, or the hub's rows, {prompt_id, category, prompt}.

    Raises:
        DataError: A column is missing, or an id stands twice.
    """
    found: dict[int, Question] = {}
    for where, row in rows:
        hub = "prompt_id" in row
        need(row, ("prompt_id", "category", "prompt") if hub else ("question_id", "category", "turns"), where)
        turns = row["prompt"] if hub else row["turns"]
        if not isinstance(turns, list) or len(turns) != 2 or not all(isinstance(turn, str) for turn in turns):
            raise DataError(f"{where}: `turns`: expected two texts")
        question = Question(
            int(number_of(row, "prompt_id" if hub else "question_id", where)),
            text_of(row, "category", where),
            (turns[0], turns[1]),
        )
        refuse_again(question.id, found, where, "prompt_id" if hub else "question_id")
        found[question.id] = question
    return list(found.values())


def read_answers(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[tuple[str, int], tuple[str, ...]]:
    """Answers by model and question, in FastChat's form or as {model, question_id, turns}; also of references.

    Raises:
        DataError: A column is missing or malformed, or a model answers a question twice.
    """
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    for where, row in rows:
        key = str(row.get("model_id", row.get("model", ""))), int(number_of(row, "question_id", where))
        refuse_again(key, found, where, "question_id")
        found[key] = tuple(answer_turns(row, where))
    return found


@dataclass(frozen=True, slots=True)
class Template:
    """One judge template.

    Attributes:
        name: As in judgments: "single-v1", "pair-math-v1-multi-turn", ….
        system: The system message; empty for none.
        user: The user message, with {places}.
    """

    name: str
    system: str
    user: str

    @property
    def version(self) -> str:
        """Name and hash, for caches and manifests."""
        content = "\0".join((self.system, self.user))
        return f"{self.name}@{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def fill(self, values: Mapping[str, str]) -> str:
        """The user message, filled in one pass: braces in the values mean nothing.

        Raises:
            DataError: A place has no value.
        """

        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                raise DataError(f"judge template {self.name!r}: nothing is known for {match[0]}")
            return values[match[1]]

        return _PLACE.sub(value, self.user)


def read_templates(path: Path, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Template]:
    """Judge templates in FastChat's form, {name, system_prompt, prompt_template}.

    Raises:
        DataError: A column is missing.
    """
    found = {
        text_of(row, "name", where): Template(
            row["name"], text_of(row, "system_prompt", where), text_of(row, "prompt_template", where)
        )
        for where, row in rows
    }
    if not found:
        raise DataError(f"{path}: no templates")
    return found


def single_values(question: Question, answers: Sequence[str], references: Sequence[str] | None) -> dict[str, str]:
    """What a single-grading template may name."""
    values = {"question": question.turns[0], "answer": answers[0], "question_1": question.turns[0]}
    values |= {"question_2": question.turns[1], "answer_1": answers[0]}
    if len(answers) > 1:
        values["answer_2"] = answers[1]
    return values | _references(references)


def pair_values(
    question: Question, first: Sequence[str], second: Sequence[str], references: Sequence[str] | None
) -> dict[str, str]:
    """What a pairwise template may name."""
    values = {"question": question.turns[0], "question_1": question.turns[0], "question_2": question.turns[1]}
    for letter, answers in (("a", first), ("b", second)):
        values[f"answer_{letter}"] = answers[0]
        values |= {f"answer_{letter}_{turn}": answer for turn, answer in enumerate(answers, 1)}
    return values | _references(references)


def template_name(mode: str, category: str, turn: int) -> str:
    """FastChat's name of the template for a mode ("single" or "pair"), a question's category and a turn."""
    math = category in NEED_REFERENCE
    name = {"single": ("single-v1", "single-math-v1"), "pair": ("pair-v2", "pair-math-v1")}[mode][math]
    return name + ("-multi-turn" if turn == 2 else "")


def _references(references: Sequence[str] | None) -> dict[str, str]:
    return {f"ref_answer_{turn}": text for turn, text in enumerate(references or (), 1)}
