import asyncio

import pytest

from rlrules.judges import Answer, JudgeFailure
from rlrules.judges.verdict import (
    after_thought,
    ask_verdict,
    label_probabilities,
    parse_label,
    read_verdict,
    told_by_one_token,
)
from tests.fakes.judge import Reply, scripted_judge
from tests.judges.asking import YES_NO, question

THREE = ("Yes", "No", "Irrelevant")
TENTHS = tuple(str(number) for number in range(1, 11))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Yes", "Yes"),
        ("yes", "Yes"),
        (" YES\n", "Yes"),
        ("Yes.", "Yes"),
        ("[[Yes]]", "Yes"),
        ("**Yes**", "Yes"),
        ('"No"', "No"),
        ("`No`.", "No"),
        ("<think>Yes, surely Yes</think>\n\nNo", "No"),
        ("a stray </think> tag</think>No.", "No"),
        ("", None),
        (" \n", None),
        ("...", None),
        ("Yes, it does.", None),
        ("The answer is Yes", None),
        ("Yes No", None),
        ("[[Yes]] [[No]]", None),
        ("Yes\nNo", None),
        ("Yesterday", None),
        ("Y", None),
        ("I", None),
        ("Maybe", None),
        ("<think>Yes", None),
        ("No</think>", None),
        ("Ye\u200bs", None),
    ],
)
def test_only_a_whole_label_counts(text: str, label: str | None) -> None:
    assert parse_label(text, THREE) == label


@pytest.mark.parametrize(
    ("text", "labels", "label"),
    [
        ("Ir", THREE, "Irrelevant"),
        ("n", THREE, "No"),
        ("Yes", THREE, "Yes"),
        ("", THREE, None),
        ("Yes, it", THREE, None),
        ("1", TENTHS, None),
        ("10", TENTHS, "10"),
        ("2", TENTHS, "2"),
        ("T", ("True", "Tie"), None),
    ],
)
def test_a_text_cut_off_stands_for_the_one_label_it_begins(
    text: str, labels: tuple[str, ...], label: str | None
) -> None:
    assert parse_label(text, labels, cut=True) == label


@pytest.mark.parametrize("labels", [("[[A]]", "[[B]]"), ("A.", "B."), ("(A)", "(B)")])
def test_labels_that_come_in_brackets_are_found(labels: tuple[str, ...]) -> None:
    for text in ("A", labels[0], f" {labels[0]} ", "[[a]]"):
        assert parse_label(text, labels) == labels[0]


def test_labels_that_differ_by_case_alone_are_told_apart_by_it() -> None:
    assert [parse_label(text, ("m", "M")) for text in ("m", " M", "[M]", "**m**")] == ["m", "M", "M", "m"]
    assert parse_label("m", ("m", "M"), cut=True) == "m"
    assert label_probabilities({"m": -1.0, "▁M": -1.0}, ("m", "M")) == {"m": 0.5, "M": 0.5}


def test_labels_that_look_the_same_are_told_apart_by_nobody() -> None:
    assert parse_label("a", ("A", "A.")) is None


def test_the_last_closing_tag_ends_the_thought() -> None:
    assert after_thought("<think>a</think>b</think> c ") == "c"
    assert after_thought(" no thought ") == "no thought"


def test_probabilities_by_hand() -> None:
    from math import log

    found = label_probabilities(
        {"Yes": log(0.3), " yes": log(0.1), "▁YES": log(0.05), "N": log(0.15), "The": log(0.3), "Maybe": -2.0}, YES_NO
    )
    assert found == pytest.approx({"Yes": 0.75, "No": 0.25})


def test_tokens_that_begin_two_labels_are_left_out() -> None:
    assert label_probabilities({"T": -0.1, "Tr": -1.0, "Ti": -1.0}, ("True", "Tie")) == {"True": 0.5, "Tie": 0.5}
    # A token that is a label counts for it, though it also begins another.
    assert label_probabilities({"1": -1.0, "10": -1.0}, ("1", "10")) == {"1": 0.5, "10": 0.5}


@pytest.mark.parametrize("logprobs", [{}, {"The": -0.1}, {"Yes": -9999.0, "No": -9999.0}, {"": -0.1, ".": -0.1}])
def test_without_a_token_that_fits_there_are_no_probabilities(logprobs: dict[str, float]) -> None:
    assert label_probabilities(logprobs, YES_NO) == {}


def test_impossible_tokens_weigh_nothing() -> None:
    assert label_probabilities({"Yes": -0.7, "No": -9999.0}, YES_NO) == {"Yes": 1.0, "No": 0.0}


def test_a_verdict_has_probabilities_of_all_labels() -> None:
    verdict = read_verdict(Answer("Yes", finish_reason="length", logprobs={"Yes": -0.5, "Ir": -0.5}), THREE)
    assert (verdict.outcome, verdict.label, verdict.raw) == ("value", "Yes", "Yes")
    assert verdict.probabilities == {"Yes": 0.5, "No": 0.0, "Irrelevant": 0.5}
    assert read_verdict(Answer("No"), THREE).probabilities == {"Yes": 0.0, "No": 1.0, "Irrelevant": 0.0}


@pytest.mark.parametrize(
    "answer",
    [
        Answer("<think>No way around</think>Yes", logprobs={"No": -0.1}),
        Answer("no thought tag opened</think>Yes", logprobs={"No": -0.1}),
        Answer("Yes", reasoning="No, wait.", logprobs={"No": -0.1}),
    ],
)
def test_the_first_token_of_a_thought_is_no_verdict(answer: Answer) -> None:
    assert read_verdict(answer, YES_NO).probabilities == {"Yes": 1.0, "No": 0.0}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer("Ir", finish_reason="length"), "value"),
        (Answer("Ir", finish_reason="stop"), "unparsed"),
        (Answer("The", finish_reason="length", completion_tokens=1), "unparsed"),
        (Answer("", finish_reason="stop"), "unparsed"),
        (Answer("<think>Let me", finish_reason="length"), "truncated"),
        (Answer("<think>So</think> The rule", finish_reason="length"), "truncated"),
        (Answer("", reasoning="Let me", finish_reason="length"), "truncated"),
        (Answer("Okay, let me see: the", finish_reason="length", completion_tokens=6), "truncated"),
        (Answer("Okay, it is fine.", finish_reason="stop", completion_tokens=6), "unparsed"),
    ],
)
def test_an_answer_without_a_label_says_why(answer: Answer, outcome: str) -> None:
    verdict = read_verdict(answer, THREE)
    assert verdict.outcome == outcome
    assert (verdict.label != "") == (outcome == "value") == (verdict.reason == "")
    assert "\n" not in verdict.reason


@pytest.mark.parametrize("kind", ["connection", "timeout", "rejected", "empty"])
def test_a_failure_becomes_a_failed_verdict_that_names_the_judge(kind: str) -> None:
    judge, _ = scripted_judge(lambda _: JudgeFailure(kind, "http://x/v1: gone"))  # type: ignore[arg-type]
    verdict = asyncio.run(ask_verdict(judge, question("?")))
    assert (verdict.outcome, verdict.label, verdict.probabilities) == ("failed", "", {})
    assert verdict.reason == "judge verifier: http://x/v1: gone"


def test_an_overflow_is_for_the_caller_to_mend() -> None:
    judge, _ = scripted_judge(lambda _: JudgeFailure("overflow", "too long", 10, 20))
    with pytest.raises(JudgeFailure) as caught:
        asyncio.run(ask_verdict(judge, question("?")))
    assert (caught.value.limit, caught.value.size) == (10, 20)


def test_labels_that_begin_one_another_are_asked_for_whole() -> None:
    def reply(_: object) -> Reply:
        return Answer("10", finish_reason="stop")

    judge, backend = scripted_judge(reply)
    assert asyncio.run(ask_verdict(judge, question("?", TENTHS))).label == "10"
    asyncio.run(ask_verdict(judge, question("?", THREE)))
    assert [asked.max_tokens for asked in backend.questions] == [judge.config.max_tokens, 1]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (YES_NO, True),
        (THREE, True),
        (("A", "B"), True),
        (("-", "1", "2"), True),
        (TENTHS, False),
        (("-2", "-1", "1"), False),
        (("[[A]]", "[[B]]"), False),
        (("True", "Tie"), False),
        (("yes", "Yes!"), False),
    ],
)
def test_what_the_first_token_tells(labels: tuple[str, ...], told: bool) -> None:
    assert told_by_one_token(labels) == told


def test_the_probabilities_of_beginnings_are_not_those_of_labels() -> None:
    labels = ("-2", "-1", "1", "2")
    beginnings = Answer("-1", logprobs={"-": -0.1, "1": -3.0})
    assert read_verdict(beginnings, labels).probabilities == {"-2": 0.0, "-1": 1.0, "1": 0.0, "2": 0.0}
    whole = Answer("-1", logprobs={"-2": -2.0, "-1": -1.0, "1": -2.0, "2": -2.0})
    assert read_verdict(whole, labels).probabilities["-1"] == pytest.approx(1 / (1 + 3 / 2.718281828))
