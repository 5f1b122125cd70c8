"""Preferences between answers to MT-Bench's questions (Zheng et al. 2023), by people or by GPT-4."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from rlrules.data.preferences_base import (
    LeftOut,
    Preference,
    PreferenceConfig,
    assistant,
    column_of,
    located_rows,
    messages_of,
    number_of,
    parted,
    text_of,
    user,
)
from rlrules.data.rows import Row
from rlrules.errors import DataError
from rlrules.types import Message

QUESTIONS = range(81, 161)
# Ten questions a category: AutoRule extracts from the first five of each and evaluates on the others.
EXTRACTION_QUESTIONS = frozenset(question for question in QUESTIONS if (question - 81) % 10 < 5)
HELDOUT_QUESTIONS = frozenset(QUESTIONS) - EXTRACTION_QUESTIONS


class MTBenchConfig(PreferenceConfig):
    """Fields of both kinds of judgments."""

    questions: Literal["extraction", "heldout", "all"] = Field(
        "extraction", description="The first five questions of each category, the last five, or all ten."
    )
    per_question: int | None = Field(8, ge=1, description="At most this many judgments of one question; null: all.")

    def choose(self, pairs: list[Preference], dropped: Counter[str]) -> list[Preference]:
        """Keep the first `per_question` judgments of every question."""
        if self.per_question is None:
            return pairs
        seen: Counter[int] = Counter()
        kept: list[Preference] = []
        for pair in pairs:
            seen[pair.meta["question_id"]] += 1
            if seen[pair.meta["question_id"]] <= self.per_question:
                kept.append(pair)
        dropped["per_question"] += len(pairs) - len(kept)
        return kept

    def asked(self, row: Row, where: str) -> tuple[int, int, bool]:
        """Question id, turn (1 or 2), and whether the question is among `questions`."""
        question, turn = number_of(row, "question_id", where), number_of(row, "turn", where)
        if question not in QUESTIONS:
            raise DataError(f"{where}: `question_id`: {question:g} is none of MT-Bench's 81 to 160")
        if turn not in (1, 2):
            raise DataError(f"{where}: `turn`: expected 1 or 2, got {turn:g}")
        chosen = {"extraction": EXTRACTION_QUESTIONS, "heldout": HELDOUT_QUESTIONS, "all": QUESTIONS}[self.questions]
        return int(question), int(turn), question in chosen


class MTBenchHumanConfig(MTBenchConfig):
    """People's votes; a vote on the first turn is a preference between first answers only. Ties are left out."""

    type: Literal["mt_bench_human"] = "mt_bench_human"
    path: str = "lmsys/mt_bench_human_judgments"
    split: str = "human"
    seed: int | None = 42

    def read(self, row: Row, number: int, where: str) -> Preference | LeftOut:
        """Turn one vote into a preference."""
        question, turn, wanted = self.asked(row, where)
        if not wanted:
            return LeftOut("other questions")
        winner = text_of(row, "winner", where)
        if "tie" in winner:
            return LeftOut("tie")
        if winner not in ("model_a", "model_b"):
            raise DataError(f"{where}: `winner`: expected model_a, model_b or a tie, got {winner!r}")
        sides = {side: _turns(row, f"conversation_{side[-1]}", turn, where) for side in ("model_a", "model_b")}
        loser = "model_b" if winner == "model_a" else "model_a"
        prompt, chosen, rejected = parted(sides[winner], sides[loser])
        if not prompt:
            raise DataError(f"{where}: `conversation_b`: does not begin with the same question as `conversation_a`")
        named = {"chosen_model": text_of(row, winner, where), "rejected_model": text_of(row, loser, where)}
        meta = {"question_id": question, "turn": turn, "judge": row.get("judge"), **named}
        return Preference(f"{self.split}-{number}", "mt_bench_human", prompt, chosen, rejected, meta=meta)


class MTBenchPairsConfig(MTBenchConfig):
    """FastChat's pairwise judgments: kept where the judge prefers the same answer in both orders."""

    type: Literal["mt_bench_pairs"] = "mt_bench_pairs"
    path: str = Field(description="Judgments: {question_id, model_1, model_2, g1_winner, g2_winner, turn}.")
    answers: str = Field(description="Answers: FastChat's {model_id, question_id, choices} or {model, …, turns}.")
    question_file: str = Field(description="FastChat's question.jsonl: {question_id, turns}.")

    def read(self, row: Row, number: int, where: str) -> Preference | LeftOut:
        """Turn one judgment into a preference."""
        question, turn, wanted = self.asked(row, where)
        if not wanted:
            return LeftOut("other questions")
        winners = [text_of(row, name, where) for name in ("g1_winner", "g2_winner")]
        strange = [winner for winner in winners if winner not in ("model_1", "model_2", "tie", "error")]
        if strange:
            raise DataError(f"{where}: `g1_winner`, `g2_winner`: expected model_1, model_2, tie or error: {strange}")
        if "error" in winners:
            return LeftOut("judge's error")
        if winners[0] != winners[1]:
            return LeftOut("orders disagree")
        if winners[0] == "tie":
            return LeftOut("tie")
        loser = "model_2" if winners[0] == "model_1" else "model_1"
        named = {"chosen_model": text_of(row, winners[0], where), "rejected_model": text_of(row, loser, where)}
        conversations = [self._conversation(model, question, turn, where) for model in named.values()]
        prompt, chosen, rejected = parted(*conversations)
        meta = {"question_id": question, "turn": turn, **named}
        return Preference(f"pair-{number}", "mt_bench_pairs", prompt, chosen, rejected, meta=meta)

    def _conversation(self, model: str, question: int, turn: int, where: str) -> tuple[Message, ...]:
        asked, answered = self._tables()
        if question not in asked:
            raise DataError(f"{where}: `question_id`: {question} is not in {self.question_file}")
        if (model, question) not in answered:
            raise DataError(f"{where}: {self.answers} has no answer of {model!r} to question {question}")
        turns = list(zip(asked[question], answered[model, question], strict=False))[:turn]
        if len(turns) < turn:
            raise DataError(f"{where}: `turn`: {self.answers} has no answer of {model!r} to turn {turn} of {question}")
        return tuple(part for said, reply in turns for part in (user(said), assistant(reply)))

    def _tables(self) -> tuple[dict[int, list[str]], dict[tuple[str, int], list[str]]]:
        if self._loaded is None:
            asked: dict[int, list[str]] = defaultdict(list)
            for where, row in located_rows(self.question_file, "train"):
                asked[int(number_of(row, "question_id", where))] = list(column_of(row, "turns", where))
            answered: dict[tuple[str, int], list[str]] = {}
            for where, row in located_rows(self.answers, "train"):
                model = text_of(row, "model_id" if "model_id" in row else "model", where)
                answered[model, int(number_of(row, "question_id", where))] = answer_turns(row, where)
            self._loaded = (asked, answered)
        return self._loaded

    _loaded: tuple[dict[int, list[str]], dict[tuple[str, int], list[str]]] | None = None


def _turns(row: Row, name: str, turn: int, where: str) -> tuple[Message, ...]:
    conversation = messages_of(row, name, where)
    if len(conversation) < 2 * turn:
        raise DataError(f"{where}: `{name}`: has {len(conversation)} messages; turn {turn} needs {2 * turn}")
    return conversation[: 2 * turn]


def answer_turns(row: Row, where: str) -> list[str]:
    """A model's answers to the turns of one question, from FastChat's `choices` or from `turns`.

    Raises:
        DataError: They are neither.
    """
    turns: Any = row.get("turns")
    if turns is None:
        choices = column_of(row, "choices", where)
        first: Any = choices[0] if isinstance(choices, list) and choices else None
        turns = first.get("turns") if isinstance(first, Mapping) else None
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise DataError(f"{where}: `choices`: expected [{{turns: [text, text]}}]")
    return turns
