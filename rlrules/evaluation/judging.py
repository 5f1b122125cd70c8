"""Which of two answers a judge prefers: by the probabilities of two labels, in either order or both."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlrules.data.stage_log import Tell, each
from rlrules.errors import DataError, JudgeError
from rlrules.evaluation.results import Outcome, ResultRows
from rlrules.judges import Answer, Judge, JudgeFailure, Question
from rlrules.judges.comparison import LABELS, comparison_messages
from rlrules.judges.verdict import parse_label, read_verdict
from rlrules.types import Message

LOW_MASS = 0.5
"""Labels that are less likely than this, together, are no choice between them."""

_TURN = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)\n?<\|im_end\|>", re.DOTALL)
_PLACE = re.compile(r"\{(instruction|output_1|output_2)\}")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, in one order.

    Attributes:
        key: Its key in rows.jsonl.
        prompt: What both answer.
        first: The answer shown first.
        second: The one shown second.
        meta: What its row holds beside the verdict.
    """

    key: str
    prompt: tuple[Message, ...]
    first: str
    second: str
    meta: dict[str, Any]


class PairTemplate:
    """How a judge is asked; our own, or a file in alpaca_eval's form, whose labels are m (first) and M (second).

    Args:
        path: The file; None: our own.

    Raises:
        DataError: The file is none of this form.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._turns: list[tuple[str, str]] = []
        self.labels: tuple[str, ...] = LABELS["binary"]
        self.version = comparison_messages((), "", "", "binary", think=False)[1]
        if path is None:
            return
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise DataError(f"--template: {path}: {error.strerror}") from error
        self._turns = _TURN.findall(text)
        places = {place for _, content in self._turns for place in _PLACE.findall(content)}
        if places != {"instruction", "output_1", "output_2"}:
            raise DataError(
                f"--template: {path}: expected turns between <|im_start|> and <|im_end|> with the places "
                "{instruction}, {output_1} and {output_2}"
            )
        self.labels = ("m", "M")
        self.version = f"{path.name}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def question(self, pair: Pair) -> Question:
        """The question that shows `pair.first` first."""
        if not self._turns:
            messages, version = comparison_messages(pair.prompt, pair.first, pair.second, "binary", think=False)
            return Question(messages, version, labels=self.labels)
        instruction = "\n\n".join(str(message["content"]) for message in pair.prompt if message["role"] == "user")
        values = {"instruction": instruction, "output_1": pair.first, "output_2": pair.second}
        filled: tuple[Message, ...] = tuple(
            # One pass: what an answer holds is never taken for a place.
            {"role": role, "content": _PLACE.sub(lambda match: values[match[1]], content)}
            for role, content in self._turns
        )
        return Question(filled, self.version, labels=self.labels)

    def frame(self) -> list[str]:
        """The lines around the answers, which an answer could imitate."""
        blank = self.question(Pair("", (), "", "", {}))
        return [line.strip() for message in blank.messages for line in str(message["content"]).splitlines()]


def label_mass(answer: Answer, labels: Sequence[str]) -> float | None:
    """Probability that the first token begins a label; None without log-probabilities."""
    if not answer.logprobs:
        return None
    known = (token for token in answer.logprobs if _label_of(token, labels) is not None)
    return math.fsum(math.exp(answer.logprobs[token]) for token in known)


async def probe(judge: Judge, template: PairTemplate) -> None:
    """Ask the judge two obvious pairs, to see that both labels come back as first tokens.

    Raises:
        JudgeError: It does not answer, or gives no log-probabilities of the labels; with what to do.
    """
    prompt: tuple[Message, ...] = ({"role": "user", "content": "Name a primary colour."},)
    pair = Pair("probe", prompt, "Red is a primary colour.", "I do not know any.", {})
    seen: set[str] = set()
    tokens: list[str] = []
    for asked in (pair, replace(pair, first=pair.second, second=pair.first)):
        try:
            answer = await judge.ask(template.question(asked))
        except JudgeFailure as failure:
            raise JudgeError(f"judge {judge.config.model}: does not answer: {failure}") from failure
        tokens += answer.logprobs or [answer.text]
        seen |= {label for token in answer.logprobs if (label := _label_of(token, template.labels))}
    missing = [label for label in template.labels if label not in seen]
    if missing:
        raise JudgeError(
            f"judge {judge.config.model}: the label {missing[0]!r} is not among its likeliest first tokens "
            f"({', '.join(repr(token) for token in tokens[:6])}); serve it with log-probabilities (vLLM: "
            "--max-logprobs 20), and with thinking off, or take a judge that answers by a bare label"
        )


async def judge_pairs(
    pairs: Sequence[Pair], judge: Judge, template: PairTemplate, rows: ResultRows, tell: Tell
) -> None:
    """Ask for every pair that has no verdict yet; its row gets `p_first`, `label`, `mass`."""
    by_key = {pair.key: pair for pair in pairs}

    async def work(key: str) -> None:
        pair = by_key[key]
        try:
            answer = await judge.ask(template.question(pair))
        except JudgeFailure as failure:
            rows.add(key, pair.meta, "failed", f"judge {judge.config.model}: {failure}")
            return
        verdict = read_verdict(answer, template.labels)
        outcome: Outcome = "ok" if verdict.outcome == "value" else "unparsed"
        said = {
            "p_first": verdict.probabilities.get(template.labels[0]),
            "label": verdict.label,
            "mass": label_mass(answer, template.labels),
            "raw": verdict.raw if outcome != "ok" else "",
        }
        rows.add(key, pair.meta | said, outcome, verdict.reason)

    await each("verdicts", rows.pending([pair.key for pair in pairs]), work, tell)


def low_mass(rows: ResultRows) -> int:
    """How many verdicts chose between two labels that were unlikely both."""
    masses = (line.data.get("mass") for line in rows.latest.values())
    return sum(mass is not None and mass < LOW_MASS for mass in masses)


def _label_of(token: str, labels: Sequence[str]) -> str | None:
    return parse_label(token, labels) or parse_label(token, labels, cut=True)
