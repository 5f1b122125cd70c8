"""The reward for an answer in tags: the spec's cases, its values, and whatever a policy may write."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrules.rewards.advantages import advantages
from rlrules.rewards.answer import AnswerConfig, normalized, read_answer, same
from rlrules.rewards.base import Context, Resources, config_class
from rlrules.types import Completion, Score

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/rule_reasoner.json").read_text())


def score(text: str, right: Any, **row: Any) -> Score:
    scorer = AnswerConfig().build(Resources())
    return asyncio.run(scorer.score_one(Context((), {"answer": right} | row), Completion(text, 9)))


@pytest.mark.parametrize("case", GOLDEN["answers"], ids=lambda case: f"{case['text'][-24:]}-{case['gold']}")
def test_the_spec_s_cases(case: dict[str, Any]) -> None:
    found = score(case["text"], case["gold"])
    assert (found.value, found.metrics["accuracy"]) == (case["value"], case["accuracy"])
    assert (found.status == "malformed") == (case["value"] < 0)
    assert found.details["well_formed"] == (case["value"] >= 0)


@pytest.mark.parametrize(
    ("right", "expected"), [("<answer>3</answer>", 1), (" <answer> 3 </answer>\n", 1), (3, 1), (3.0, 1), (3.5, 0)]
)
def test_right_answers_as_data_has_them(right: Any, expected: float) -> None:
    found = score("<think>x</think><answer>3</answer>", right, labels=["3", "3.5"])
    assert found.value == expected
    assert AnswerConfig().row_problem({"answer": "<answer></answer>"}).endswith("is no answer: text or a number")


def test_advantages_of_the_spec_s_rewards() -> None:
    for case in GOLDEN["advantages"]:
        [made] = advantages([case["rewards"]], "group")
        assert made.tolist() == pytest.approx(case["advantages"], abs=5e-5)
    [made] = advantages([[1.0] + [0.0] * 63], "group")
    assert float(made[0]) == pytest.approx(GOLDEN["one_success_in_64"], abs=5e-5)


@pytest.mark.parametrize(
    ("text", "answer", "problem"),
    [
        ("a <answer>X</answer> in thought</think>so <answer> Y </answer> it is", "Y", ""),
        ("<think>a</think><answer>X</answer><answer>Y</answer>", "Y", "not one <answer>"),
        ("<think>a</think><answer>X", "X", "not one <answer>"),
        ("<think>a</think></answer>X<answer>", "", "not one <answer>"),
        ("<think>a</think><think>b</think><answer>X</answer>", "X", "more than one thought"),
        ("a</think>b</think><answer>X</answer>", "X", "more than one thought"),
        ("</think><think><answer>X</answer>", "X", "more than one thought"),
        ("<think>it never ends <answer>X</answer>", "X", "no </think>"),
        ("<think>a</think><answer> . </answer>", ".", "an empty answer"),
        ("<think>a</think>X", "X", "not one <answer>"),
        ("", "", "no </think>"),
    ],
)
def test_reading(text: str, answer: str, problem: str) -> None:
    found = read_answer(text)
    assert found.answer == answer
    assert found.problem.startswith(problem) and bool(found.problem) == bool(problem)


@pytest.mark.parametrize(
    ("answer", "right", "expected"),
    [
        ("  TRUE ", "True", True),
        ("self contradiction", "Self  Contradiction", True),
        ("“mother”", "mother", True),
        ("[B]", "B", True),
        ("b: blue", "B", True),
        ("B", "B) blue", True),
        ("C) blue", "B) blue", False),
        ("blue", "B", False),
        ("b.c", "B", False),
        ("-3", "3", False),
        ("Ｂ", "B", True),
        ("", "", False),
        ("a. cat", "cat", False),
    ],
)
def test_what_is_the_same(answer: str, right: str, expected: bool) -> None:
    assert same(answer, right) is expected


def test_an_answer_outside_of_the_labels_is_unreadable() -> None:
    labels = ["True", "False", "Unknown"]
    text = "<think>x</think><answer>{}</answer>"
    assert score(text.format("false"), "True", labels=labels).value == 0.0
    found = score(text.format("Maybe"), "True", labels=labels)
    assert (found.value, found.status, found.reason) == (-1.0, "malformed", "'Maybe' is none of True, False, Unknown")


def test_rows_that_cannot_be_scored_against() -> None:
    config = config_class("answer")(type="answer")
    assert config.row_problem({"answer": 3}) == config.row_problem({"answer": True}) == ""
    assert config.row_problem({"answer": "B", "labels": ["A) red", "B) blue"]}) == ""
    assert "is no answer" in config.row_problem({"answer": " . "})
    assert "is no answer" in config.row_problem({"answer": ["True"]})
    assert "is none of True, False" in config.row_problem({"answer": "Unknown", "labels": ["True", "False"]})
    assert "is no list" in config.row_problem({"answer": "True", "labels": "True"})


PIECES = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "True", "False", "(", "B) ", "\n", " "])


@settings(max_examples=60)
@given(st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=16), st.sampled_from(["True", "B", "mother"]))
def test_whatever_is_written_gets_one_of_the_four_values(pieces: list[str], right: str) -> None:
    text = "".join(pieces)
    found = score(text, right)
    accuracy, malformed = found.metrics["accuracy"], found.status == "malformed"
    assert found.value == {(1, False): 1, (0, False): 0, (1, True): -0.5, (0, True): -1}[int(accuracy), malformed]
    # The last answer tag decides, and never more than one of them is well-formed.
    twice = score(text + "</think><answer>no such</answer>", right)
    assert twice.metrics["accuracy"] == 0.0
    assert score(f"<think>{normalized(text)}</think><answer>{right}</answer>", right).metrics["accuracy"] == 1.0
