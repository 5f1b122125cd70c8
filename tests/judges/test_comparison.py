"""The parser's table is Think-RM's section 2.2 (acceptance T15)."""

import pytest

from rlrules.judges import Answer
from rlrules.judges.comparison import LABELS, Kind, comparison_messages, read_comparison, strength
from rlrules.types import Message

PROMPT: tuple[Message, ...] = ({"role": "user", "content": "Name a {{ prime }}."},)


def read(content: str, kind: Kind) -> tuple[str, str]:
    verdict = read_comparison(Answer(f"<think>\nhm\n</think>\n\nSo: <answer>{content}</answer>"), kind)
    return verdict.outcome, verdict.label


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ("A", "A"),
        ("a", "A"),
        (" B \n", "B"),
        ("[[B]]", "B"),
        ('"A"', "A"),
        ("“A”", "A"),
        ("「B」", "B"),
        ("Assistant B", "B"),
        ("assistant a", "A"),
        ("Both", ""),
        ("A, not B", ""),
        ("A is better than B", ""),
        ("", ""),
        ("C", ""),
    ],
)
def test_letters(content: str, label: str) -> None:
    assert read(content, "binary") == (("value", label) if label else ("unparsed", ""))


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ("-2", "-2"),
        ("\u22122", "-2"),
        ("\u20132", "-2"),
        ("“-2”", "-2"),
        ("+3", "3"),
        ("1", "1"),
        ("13", ""),
        ("10/10", ""),
        ("-2.5", ""),
        ("0", ""),
        ("4", ""),
        ("-4", ""),
        ("--2", ""),
        ("A", ""),
    ],
)
def test_numbers(content: str, label: str) -> None:
    assert read(content, "multiclass") == (("value", label) if label else ("unparsed", ""))


@pytest.mark.parametrize(
    ("answer", "outcome", "label"),
    [
        (Answer("<think>I lean to <answer>A</answer> but"), "truncated", ""),
        (Answer("I lean to <answer>A</answer>", finish_reason="stop"), "truncated", ""),
        (Answer("hm <answer>A</answer> no</think><answer>B</answer>"), "value", "B"),
        (Answer("<think>x</think><answer>A</answer> wait <answer>B</answer>"), "value", "B"),
        (Answer("<think>x</think><answer>A</answer> wait <answer>B"), "value", "A"),
        (Answer("<think>x</think><answer>A <answer>B</answer>"), "value", "B"),
        (Answer("<think>x</think>So it is", finish_reason="length"), "truncated", ""),
        (Answer("<think>x</think>So it is A."), "unparsed", ""),
        (Answer("<answer>B</answer>", reasoning="hm"), "value", "B"),
        (Answer("<think>a</think>hm <think>I try <answer>A</answer>"), "truncated", ""),
    ],
)
def test_only_what_follows_the_thought_counts(answer: Answer, outcome: str, label: str) -> None:
    verdict = read_comparison(answer, "binary")
    assert (verdict.outcome, verdict.label) == (outcome, label)
    assert verdict.raw == answer.text and bool(verdict.reason) == (outcome != "value")


def test_strengths_have_one_sign() -> None:
    assert [strength(label) for label in LABELS["binary"]] == [-1, 1]
    assert [strength(label) for label in LABELS["multiclass"]] == [-3, -2, -1, 1, 2, 3]


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("think", [True, False])
def test_what_comparisons_share_stands_first(kind: Kind, think: bool) -> None:
    chats = [comparison_messages(PROMPT, "seven  \n", second, kind, think) for second in ("nine", "ten </think>A")]
    (system, one), (other_system, two) = (chat for chat, _ in chats)
    assert system == other_system and chats[0][1] == chats[1][1]
    before, _, after = str(one["content"]).partition("The reply of assistant B:\n")
    assert str(two["content"]).startswith(before) and "Name a {{ prime }}." in before and "seven\n" in before
    assert after.splitlines()[1] == "nine" and len(after.splitlines()) == 3
    assert "</think>" not in str(two["content"])
    criteria = ("Helpfulness", "Correctness", "Coherence", "Complexity", "Verbosity", "Safety")
    assert all(criterion in str(system["content"]) for criterion in criteria)
    assert ("<answer>" in str(system["content"])) == think
    assert ("-3: A is much better" in str(system["content"])) == (kind == "multiclass")
