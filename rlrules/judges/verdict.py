"""From a judge's answer to a verdict: one of a closed set of labels with probabilities, or a typed failure."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rlrules.judges.base import Answer, JudgeFailure, Question

if TYPE_CHECKING:
    from rlrules.judges.judge import Judge

Outcome = Literal["value", "unparsed", "truncated", "failed"]
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
# What may stand around a label; the last two are how some tokenizers show a leading blank.
_BLANKS = " \t\r\n▁Ġ"
_AROUND = " \t\r\n[](){}\"'*.`▁Ġ"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's choice.

    Attributes:
        outcome: "value": a label; "unparsed": an answer outside the labels; "truncated": cut off before the
            label; "failed": no answer at all.
        label: The label chosen; empty unless the outcome is "value".
        probabilities: Probability of each label, summing to 1; from the hard label alone where the server
            gives no log-probabilities.
        raw: The answer as it came.
        reason: Why there is no label, in one line.
    """

    outcome: Outcome
    label: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    raw: str = ""
    reason: str = ""


def after_thought(text: str) -> str:
    """The text after the last closing think tag; all of it where there is none."""
    return text.rpartition(THINK_CLOSE)[2].strip()


def thought_and_answer(answer: Answer) -> tuple[str, str]:
    """The chain of thought and the visible answer, wherever the server puts the thought."""
    if answer.reasoning:
        return answer.reasoning.strip(), answer.text.strip()
    before, closed, after = answer.text.rpartition(THINK_CLOSE)
    if closed:
        # Some chat templates open the thought in the prompt, so that only its end is in the answer.
        return before.rpartition(THINK_OPEN)[2].strip(), after.strip()
    before, opened, thought = answer.text.partition(THINK_OPEN)
    return (thought.strip(), before.strip()) if opened else ("", answer.text.strip())


def parse_label(text: str, labels: Sequence[str], cut: bool = False) -> str | None:
    """The one of `labels` that `text` is, whole, once its thought is left out; None where there is none.

    Surrounding blanks, brackets, quotes, asterisks and full stops do not matter, nor does case, except where two
    labels differ by it alone.

    Args:
        text: A judge's answer.
        labels: What it may be.
        cut: The text may go on, so that it also stands for the label it begins, if it begins only one.
    """
    word = _bare(after_thought(text))
    begun = [label for label in labels if word and _bare(label).startswith(word)]
    found = begun if cut else [label for label in begun if _bare(label) == word]
    if len({_bare(label) for label in found}) == 1 < len(found):
        found = [label for label in found if label == after_thought(text).strip(_AROUND)]
    return found[0] if len(found) == 1 else None


def _bare(text: str) -> str:
    return text.strip(_AROUND).casefold()


def told_by_one_token(labels: Sequence[str]) -> bool:
    """Whether the first token of a label always tells which one it is, however short a tokenizer cuts it."""
    return len({label.strip()[:1].casefold() for label in labels}) == len(labels)


def label_probabilities(logprobs: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """Probability of each label among `labels`, from the first token's log-probabilities.

    Tokens that begin no label, or more than one without being one of them, are left out and the rest sums to 1.
    Empty when no token fits.
    """
    mass = dict.fromkeys(labels, 0.0)
    for token, logprob in logprobs.items():
        label = parse_label(token, labels) or parse_label(token, labels, cut=True)
        if label is not None:
            mass[label] += math.exp(logprob)
    total = sum(mass.values())
    return {label: value / total for label, value in mass.items()} if total > 0 else {}


def probabilities_on_the_way(answer: Answer, labels: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Probability of each label of several tokens, from what else could have been written in each token's place.

    Tokens that lead to no label are left out everywhere, and the rest sums to 1.

    Args:
        answer: To a labelled question.
        labels: None of which begins another.

    Returns:
        The labels' probabilities; and of beginnings of several labels that were not gone on with. Both are empty where
        the answer is no label or has no log-probabilities.
    """
    shares: defaultdict[str, float] = defaultdict(float)
    begun: defaultdict[str, float] = defaultdict(float)
    here, mass = "", 1.0
    for written, likely in answer.steps or ((answer.text, answer.logprobs),):
        leading: defaultdict[str, float] = defaultdict(float)
        for token, logprob in likely.items():
            text = here + (token if here else token.lstrip(_BLANKS))
            if text != here and any(label.startswith(text) for label in labels):
                leading[text] += math.exp(logprob)
        taken, total = here + (written if here else written.lstrip(_BLANKS)), sum(leading.values())
        if taken not in leading or not total:
            return {}, {}
        for text, share in leading.items():
            reached = [label for label in labels if label.startswith(text)]
            if text == taken:
                continue
            if len(reached) == 1:
                shares[reached[0]] += mass * share / total
            else:
                begun[text] += mass * share / total
        here, mass = taken, mass * leading[taken] / total
        if here in labels:
            shares[here] += mass
            return dict(shares), dict(begun)
    return {}, {}


def read_verdict(answer: Answer, labels: Sequence[str]) -> Verdict:
    """The verdict in `answer`."""
    text, cut = answer.text, answer.finish_reason == "length"
    thought = bool(answer.reasoning) or THINK_OPEN in text or THINK_CLOSE in text
    label = parse_label(text, labels, cut)
    if label is not None:
        # Where it thought first, the first token's probabilities are those of a thought; where labels begin alike and
        # are not scored whole, those of a beginning.
        known = not thought and (told_by_one_token(labels) or set(labels) <= answer.logprobs.keys())
        probabilities = label_probabilities(answer.logprobs, labels) if known else {}
        return Verdict("value", label, probabilities or {x: float(x == label) for x in labels}, text)
    shown = text[:80].replace("\n", " ")
    if cut and (thought or answer.completion_tokens > 1):
        return Verdict("truncated", raw=text, reason=f"the judge was cut off before a verdict: {shown!r}")
    return Verdict("unparsed", raw=text, reason=f"{shown!r} is none of {', '.join(labels)}")


async def ask_verdict(judge: "Judge", question: Question) -> Verdict:
    """Ask a labelled question; a failed judge becomes a "failed" verdict.

    Raises:
        JudgeFailure: Only of kind "overflow", which the caller can mend by a shorter prompt.
    """
    try:
        return read_verdict(await judge.ask(question), question.labels)
    except JudgeFailure as failure:
        if failure.kind == "overflow":
            raise
        return Verdict("failed", reason=f"judge {judge.name}: {failure}")
