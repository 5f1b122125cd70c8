"""Graders of answers in tags: what is right, wrong, or without form; and nothing a policy writes stops them."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrules.errors import DataError
from rlrules.rewards import graders, numeric
from rlrules.rewards.base import Context, Resources
from rlrules.rewards.numeric import same_number, same_plain
from rlrules.rewards.outcome import KINDS, OutcomeConfig
from rlrules.rewards.tagged import read_tagged
from rlrules.types import Completion, Score

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/trust_grpo.json").read_text("utf-8"))
TOWER = "9^{9^{9^9}}"
TRUTHS = {
    "numerical": "14",
    "multiple_choice": "A, C",
    "ocr": "two words",
    "free_form": "a red 车",
    "regression": "-3.5",
}


def grade(kind: str, truth: Any, text: str, **row: Any) -> Score:
    scorer = OutcomeConfig().build(Resources())
    context = Context((), {"problem_type": kind, "answer": truth, **row})
    return asyncio.run(scorer.score_one(context, Completion(text, 1)))


def tagged(answer: str, thought: str = "Let me see.") -> str:
    return f"<think>{thought}</think>\n<answer>{answer}</answer>"


def accuracy(kind: str, truth: Any, answer: str, **row: Any) -> float:
    score = grade(kind, truth, tagged(answer), **row)
    assert score.value == score.details["accuracy"] * score.details["format"]
    assert score.value is not None
    return score.value


@pytest.mark.parametrize(("truth", "answer", "expected"), GOLDEN["multiple_choice"])
def test_multiple_choice(truth: str, answer: str, expected: float) -> None:
    assert graders.choice(truth, answer) == expected
    assert accuracy("multiple choice", truth, answer) == expected


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        ("A", "A. Paris, France", 1),
        ("A", "Paris,  france", 1),
        ("A", "A. Rome", 0),  # The letter says one option, the text another.
        ("Rome", "b", 1),
        (["A", "B"], "A. Paris, France; B) Rome", 1),
        ("AB", "A and B", 1),
        ("A", "A or B", 0),
        ("C", "Option C", 1),
        ("C", "Cairo", 1),
        ("C", "Berlin", 0),
    ],
)
def test_multiple_choice_by_the_options_texts(truth: Any, answer: str, expected: float) -> None:
    options = ["Paris, France", "Rome", "C. Cairo"]
    assert accuracy("multiple_choice", truth, answer, options=options) == expected


@pytest.mark.parametrize(("truth", "answer", "expected"), GOLDEN["numerical"])
def test_numbers(truth: str, answer: str, expected: float) -> None:
    assert accuracy("numerical", truth, answer) == expected


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        (r"\frac{1}{2}", "0.5", 1),
        (r"\sqrt{2}/2", r"\frac{1}{\sqrt{2}}", 1),
        ("x + 1", "1+x", 1),
        ("1/3", "0.3333333333", 1),
        ("1/3", "0.33", 0),
        ("1000", "1e3", 1),
        ("14", r"$\boxed{14}$", 1),
        ("0.14", "14%", 1),
        ("14", "0.14", 0),
        # Guesses in a row, and equations that say two things, are not right because one of them is.
        ("14", "13, 14", 0),
        ("14", "13 or 14", 0),
        ("14", "13 = 14", 0),
        ("14", "14}{15", 0),
        ("14", "banana", 0),
        ("14", "9" * 5000, 0),
    ],
)
def test_expressions(truth: str, answer: str, expected: float) -> None:
    assert accuracy("numerical", truth, answer) == expected


def test_an_answer_without_end_is_0_with_a_reason_and_the_next_one_is_graded() -> None:
    score = grade("numerical", "14", tagged(TOWER))
    assert (score.value, score.status) == (0, "malformed") and "within 2 s" in score.reason
    assert score.details["format"] == 1 and score.details["accuracy"] == 0
    assert accuracy("numerical", "14", "2 + 12") == 1


def test_a_worker_that_dies_of_something_else_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Dying:
        def ask(self, truth: str, answer: str) -> list[dict[str, bool]]:
            asked.append(answer)
            return [{"truth": True}] if len(asked) < 2 else [{"truth": True}, {"read": True, "equal": True}]

        def hung(self) -> bool:
            return False

    monkeypatch.setattr(numeric, "_worker", Dying)
    assert asyncio.run(same_number("x", "x + 0 (once)")).equal and len(asked) == 2


def test_a_truth_that_is_no_number_is_unscorable() -> None:
    with pytest.raises(DataError, match="neither a number nor an expression"):
        grade("numerical", "the fruit {", tagged("14"))


def test_plain_numbers_need_no_worker() -> None:
    assert same_plain("14", "14.0") and same_plain("$1,000", "1000.") and same_plain("−3", "-3")
    assert same_plain("3.1416", "3.14") is False
    assert same_plain("1", "1.0000000001") is None and same_plain("14", "1/0") is None and same_plain("14", "") is None


@pytest.mark.parametrize(("truth", "answer", "expected"), GOLDEN["ocr"])
def test_transcriptions(truth: str, answer: str, expected: float) -> None:
    assert accuracy("OCR", truth, answer) == pytest.approx(expected, abs=1e-6)


def test_transcriptions_are_compared_after_nfkc_and_blanks() -> None:
    assert accuracy("ocr", "ﬁne  print", "fine\nprint") == 1 and graders.transcription("a", " ") == 0


@pytest.mark.parametrize("kind", ["free-form", "free_form", "text"])
def test_free_form(kind: str) -> None:
    for truth, answer, expected in GOLDEN["free_form"]:
        assert accuracy(kind, truth, answer) == pytest.approx(expected, abs=1e-6)


def test_free_form_reads_signs_one_by_one_and_stems_words() -> None:
    # Signs 红色的车 and 蓝色的车: three of four, two pairs of three, a common run of three.
    assert accuracy("text", "红色的车", "蓝色的车") == pytest.approx((3 / 4 + 2 / 3 + 3 / 4) / 3)
    assert accuracy("text", "красный дом", "красный дом") == 1
    assert accuracy("text", "running dogs", "runs dog") == pytest.approx(1)


def test_free_form_is_rouge_s_own_on_ascii() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    truth, answer = "Running dogs_x don't stop, at 3.14 flies", "A dog that runs\ndoes not stop flying at 3"
    scores = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(truth, answer)
    expected = sum(score.fmeasure for score in scores.values()) / 3
    assert 0 < expected < 1 and graders.overlap(truth, answer) == pytest.approx(expected)


def test_free_form_without_words() -> None:
    assert accuracy("text", "→ ?", "→  ?") == 1 and accuracy("text", "→", "←") == 0
    assert accuracy("text", "→", "an arrow") == 0 and accuracy("text", "an arrow", "→") == 0


def test_options_may_be_json() -> None:
    assert accuracy("multiple choice", "B", "Rome", options='["Paris", "Rome"]') == 1
    assert accuracy("multiple choice", "B", "Paris", options='["Paris", "Rome"]') == 0


def test_free_form_of_long_answers() -> None:
    # 150 words against 90,000: every third of the truth's is missing, and the common run is a b a b … of all 100.
    graders.overlap("a", "a")  # Imports.
    started = time.process_time()
    found = graders.overlap("a b c " * 50, "a b x " * 30_000)
    # Pairs: of 149 and 89,999 only a b, 50 times.
    runs = [(100, 150, 90_000), (50, 149, 89_999), (100, 150, 90_000)]
    assert found == pytest.approx(sum(2 * same / (one + other) for same, one, other in runs) / 3)
    # With rouge-score's own table: 13 million steps in Python.
    assert time.process_time() - started < 3


def test_a_text_is_no_number() -> None:
    started = time.process_time()
    for answer in ("the answer " * 20_000, "1+" * 20_000 + "1"):
        score = grade("numerical", "14", tagged(answer))
        assert (score.value, score.status) == (0, "ok")
    assert "too long" in asyncio.run(same_number("14", "1+" * 4096)).problem
    assert time.process_time() - started < 1
    assert accuracy("numerical", "14", "0" * 2000 + "14") == 1


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [("10", "9", 0.9), ("-10", "-12", 0.8), (10, "31", 0), ("0", "0", 1), ("2", "two", 0)],
)
def test_regression(truth: Any, answer: str, expected: float) -> None:
    assert accuracy("regression", truth, answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think><answer>14</answer>", "14"),
        ("  <think>a</think> so <answer> 14\n</answer> done", "14"),
        ("<think>a</think><answer>13</answer><answer>14</answer>", "14"),
        ("<think><answer>13</answer></think><answer>14</answer>", "14"),
        ("<think></think><answer>14</answer>", "14"),
        ("<think>a</think><answer>14</answer><answer>15", "14"),
    ],
)
def test_the_form(text: str, answer: str) -> None:
    assert read_tagged(text).answer == answer and not read_tagged(text).problem
    assert grade("numerical", "14", text).value == 1


@pytest.mark.parametrize(
    "text",
    [
        "<answer>14</answer>",
        "<think>a<answer>14</answer>",
        "a</think><answer>14</answer>",
        "x <think>a</think><answer>14</answer>",
        "<think>a</think>14",
        "<think>a</think><answer>14",
        "<think>a</think><answer>  </answer>",
        "<think>a</think><think>b</think><answer>14</answer>",
        "<think>a<answer>14</answer></think>",
        "<think>a</think></think><answer>14</answer>",
        "",
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_form_is_malformed_whatever_the_kind(kind: str, text: str) -> None:
    score = grade(kind, TRUTHS[kind], text.replace("14", TRUTHS[kind]))
    assert (score.value, score.status, score.details["format"]) == (0, "malformed", 0) and score.reason


def test_the_truth_may_stand_in_a_tag() -> None:
    assert accuracy("numerical", "<answer>14</answer>", "14") == 1 and accuracy("numerical", 14.0, "14") == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"problem_type": "sums", "answer": "1"}, "no kind 'sums'"),
        ({"problem_type": "ocr", "answer": " "}, "'answer' is empty"),
        ({"problem_type": "multiple choice", "answer": "Paris"}, "names no option"),
        ({"problem_type": "regression", "answer": "ten"}, "is no number"),
    ],
)
def test_rows_that_cannot_be_graded(row: dict[str, str], problem: str) -> None:
    assert problem in OutcomeConfig().row_problem(row)
    with pytest.raises(DataError, match=problem):
        grade(row["problem_type"], row["answer"], tagged("1"))


PIECES = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "A",
        ",",
        "14",
        "7*2",
        "\\frac{1}{2}",
        "{",
        "}",
        "$",
        "%",
        " ",
        "=",
    ]
)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), text=st.lists(PIECES | st.text(max_size=4), max_size=12).map("".join))
def test_nothing_a_policy_writes_raises_or_earns_without_form(kind: str, text: str) -> None:
    for written in (text, tagged(text)):
        score = grade(kind, TRUTHS[kind], written)
        assert score.value is not None and 0 <= score.value <= 1
        if read_tagged(written).problem:
            assert score.value == 0 and score.status == "malformed"
