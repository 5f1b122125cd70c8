"""Asking a judge which of two replies is better, until there is a verdict (Think-RM, section 4 and its limits).

A thought that runs out is closed and the verdict decoded behind it under constraint; so are the label probabilities,
which are those of the label's own tokens given the thought as it was.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rlrules.judges.base import Answer, JudgeFailure, Question
from rlrules.judges.comparison import (
    ANSWER_OPEN,
    LABELS,
    OPENING,
    UNCLOSED,
    Kind,
    comparison_messages,
    label_behind_tag,
    read_comparison,
)
from rlrules.judges.fit import ask_all_fitting
from rlrules.judges.judge import Judge
from rlrules.judges.verdict import (
    THINK_CLOSE,
    THINK_OPEN,
    Outcome,
    Verdict,
    label_probabilities,
    read_verdict,
    told_by_one_token,
)
from rlrules.types import Message

MINUS, SIZES = "-", ("1", "2", "3")
# A label, its sign and the tags around it.
LABEL_TOKENS = 8
# The last two are how some tokenizers show a leading blank.
BLANKS = " \t\r\n▁Ġ"


@dataclass(frozen=True, slots=True)
class Compared:
    """What a judge made of two replies.

    Attributes:
        verdict: Its choice, with probabilities where they were asked for, or why there is none.
        own: What it came to by itself: "truncated" where its thought ran out before a verdict, "unparsed" where what
            it wrote is none.
        forced: Whether the verdict was decoded behind a thought that ran out.
        characters: Length of what the judge wrote by itself, thought and answer.
        tokens: The same in tokens.
        cut: Whether the replies lost their middle to fit the judge's context.
    """

    verdict: Verdict
    own: Outcome
    forced: bool = False
    characters: int = 0
    tokens: int = 0
    cut: bool = False


class Comparer:
    """Asks one judge for comparisons.

    Args:
        judge: Who compares.
        kind: Which is better, or also by how much.
        think: Whether the judge reasons first; otherwise its answer is the bare label.
        probabilities: Whether the labels' probabilities are needed, or only the verdict.
    """

    def __init__(self, judge: Judge, kind: Kind, think: bool, probabilities: bool) -> None:
        self._judge = judge
        self._kind: Kind = kind
        self._think = think
        self._probabilities = probabilities

    async def compare(self, prompt: Sequence[Message], first: str, second: str, draw: int = 0) -> Compared:
        """Compare two replies; a failed judge is a "failed" verdict, never an exception.

        Args:
            prompt: What both reply to.
            first: The reply shown as A.
            second: The reply shown as B.
            draw: Which of several independent verdicts this is.
        """

        async def ask(texts: tuple[str, ...]) -> Compared:
            messages, version = comparison_messages(prompt, texts[0], texts[1], self._kind, self._think)
            asked = Question(messages, version, draw=draw)
            return await (self._after_thinking(asked) if self._think else self._at_once(asked))

        try:
            compared, shown = await ask_all_fitting(ask, (first, second))
        except JudgeFailure as failure:
            failed = self._failed(failure)
            return Compared(failed, failed.outcome)
        return replace(compared, cut=shown != (first, second))

    async def _at_once(self, asked: Question) -> Compared:
        verdict = await self._label(asked, "", "")
        return Compared(verdict, verdict.outcome)

    async def _after_thinking(self, asked: Question) -> Compared:
        answer = await self._judge.ask(asked)
        verdict = read_comparison(answer, self._kind)
        own, ran_out, forced = verdict.outcome, verdict.outcome == "truncated", False
        if ran_out or self._probabilities:
            # Greedy: what is left to chance is the thought.
            behind = replace(asked, temperature=0.0, draw=0)
            try:
                verdict = await self._label(behind, _up_to_label(answer), OPENING)
                verdict, forced = replace(verdict, raw=answer.text), ran_out and bool(verdict.label)
            except JudgeFailure as failure:
                told = f"{verdict.reason}; " if verdict.reason else ""
                reason = f"{told}the verdict behind the thought: {self._failed(failure).reason}"
                verdict = Verdict("truncated" if ran_out else "failed", raw=answer.text, reason=reason)
        size = len(answer.reasoning) + len(answer.text)
        return Compared(verdict, own, forced, size, answer.completion_tokens)

    async def _label(self, asked: Question, written: str, opening: str) -> Verdict:
        """The label that comes next in the assistant's turn.

        Args:
            asked: The chat up to that turn.
            written: The turn as far as it is written; empty: it has not begun.
            opening: What still stands between that and the label.
        """
        labels = LABELS[self._kind]
        # A server refuses what might not fit: beside a long thought there is room for little more than a label.
        bounded = written or (self._judge.config.one_token_labels() and not told_by_one_token(labels))
        question = replace(
            _going_on(asked, written),
            labels=tuple(opening + label for label in labels),
            max_tokens=LABEL_TOKENS if bounded else None,
        )
        answer = await self._judge.ask(question)
        answer = replace(answer, text=opening + label_behind_tag(answer.text))
        verdict = read_verdict(answer, question.labels)
        if not verdict.label:
            return verdict
        label = labels[question.labels.index(verdict.label)]
        if not self._probabilities:
            return replace(verdict, label=label, probabilities={known: float(known == label) for known in labels})
        found = await self._found(asked, written, opening, answer.logprobs)
        if not found:
            told = f"none of {', '.join(labels)} is among the likeliest tokens" if answer.logprobs else "none came"
            return Verdict("unparsed", raw=answer.text, reason=f"no probabilities of labels: {told}")
        return replace(verdict, label=max(found, key=lambda known: found[known]), probabilities=found)

    async def _found(
        self, asked: Question, written: str, opening: str, logprobs: Mapping[str, float]
    ) -> dict[str, float]:
        """Each label's probability, from a labelled answer and, where tokens are shorter, from what follows them."""
        labels = LABELS[self._kind]
        whole = {opening + label: label for label in labels}
        if (not opening and told_by_one_token(labels)) or whole.keys() <= logprobs.keys():
            mass = label_probabilities(logprobs, tuple(whole))
            return {whole[label]: value for label, value in mass.items()}
        # Some tokenizers make one token of the opening and what follows it, for some labels and not for others: what
        # stands behind the opening's own token counts as far as that token is likely.
        begun: defaultdict[str, float] = defaultdict(float)
        for token, logprob in logprobs.items():
            begun[token.strip(BLANKS)] += math.exp(logprob)
        if opening and not any(token.startswith(opening) for token in begun):
            # A server that is not held to the labels may leave out what opens them.
            return await self._found(asked, written + opening, "", logprobs)
        undecided = begun[opening] if opening else 0.0
        signed = self._kind == "multiclass"
        heads = (MINUS, *SIZES) if signed else labels
        behind, below = await asyncio.gather(
            self._next(asked, written + opening, heads) if undecided else _nothing(),
            self._next(asked, written + opening + MINUS, SIZES) if signed else _nothing(),
        )
        if (undecided and not behind) or (signed and not below):
            return {}
        shares = {one: begun[opening + one] + undecided * behind.get(one, 0.0) for one in heads}
        if signed:
            negative = shares.pop(MINUS)
            shares |= {MINUS + size: begun[opening + MINUS + size] + negative * below[size] for size in SIZES}
        total = sum(shares.values())
        return {label: shares[label] / total for label in labels} if total else {}

    async def _next(self, asked: Question, written: str, tokens: tuple[str, ...]) -> dict[str, float]:
        answer = await self._judge.ask(replace(_going_on(asked, written), labels=tokens, temperature=0.0, draw=0))
        return label_probabilities(answer.logprobs, tokens)

    def _failed(self, failure: JudgeFailure) -> Verdict:
        return Verdict("failed", reason=f"judge {self._judge.name}: {failure}")


async def _nothing() -> dict[str, float]:
    return {}


def _going_on(asked: Question, written: str) -> Question:
    if not written:
        return asked
    turn: Message = {"role": "assistant", "content": written}
    return replace(asked, messages=(*asked.messages, turn))


def _up_to_label(answer: Answer) -> str:
    """The judge's turn up to its label, the thought closed where it was not.

    The tag is left open for the label to close: `>A` and `>-` are tokens of many tokenizers, `>B` of fewer, and behind
    a bracket that stands alone a judge that knows them would hardly ever go on with what they begin.
    """
    whole = f"{answer.reasoning}\n{THINK_CLOSE}\n\n{answer.text}" if answer.reasoning else answer.text
    # Missing where the template wrote it, where the server took it out, or where a model does not know of thoughts.
    if not whole.lstrip().startswith(THINK_OPEN):
        whole = f"{THINK_OPEN}\n{whole.lstrip()}"
    thought, close, after = whole.rpartition(THINK_CLOSE)
    if not close or THINK_OPEN in after:
        return f"{whole.rstrip()}\n{THINK_CLOSE}\n\n{UNCLOSED}"
    said, tag, _ = after.rpartition(ANSWER_OPEN)
    return thought + close + (said if tag else f"{after.rstrip()}\n\n") + UNCLOSED
