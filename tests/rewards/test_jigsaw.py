"""Rewards for jigsaw answers: the checklist's tables, and whatever else a policy may write."""

import asyncio
import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlrules.rewards.advantages import advantages
from rlrules.rewards.base import Resources, scorer_config
from rlrules.rewards.jigsaw import JigsawConfig, row_problem
from rlrules.rewards.jigsaw_answers import connection_score
from rlrules.rewards.objective import WeightedSumConfig
from rlrules.types import Completion, Group, Score

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/jigsaw_r1.json").read_text())
FULL = {"question": "full", "m": 2, "n": 2, "answer": [4, 2, 1, 3]}
PAIR = {"question": "pair", "m": 2, "n": 1, "answer": "B"}
SINGLE = {"question": "single", "m": 2, "n": 2, "answer": 3}
BOX = {"question": "box", "m": 2, "n": 2, "answer": [0.1, 0.2, 0.5, 0.6], "image_size": [100, 100]}
MULTIPLE = {"question": "multiple", "m": 2, "n": 2, "answer": "C", "options": 4}


def tagged(answer: str) -> str:
    return f"<think>t</think><answer>{answer}</answer>"


def scored(text: str, row: dict[str, Any], **fields: Any) -> Score:
    group = Group(({"role": "user", "content": "?"},), (Completion(text, 1),), row)
    [score] = asyncio.run(JigsawConfig(**fields).build(Resources()).score(group)).scores
    return score


@pytest.mark.parametrize("case", GOLDEN["rewards"], ids=lambda case: f"{case['item']}: {case['text'][:40]!r}")
def test_the_checklists_rewards(case: dict[str, Any]) -> None:
    assert row_problem(case["row"]) == ""
    score = scored(case["text"], case["row"], think=case["think"])
    found = (score.details["accuracy"], score.details["format"], score.value)
    assert found == pytest.approx((case["accuracy"], case["format"], case["total"]), abs=1e-4)
    assert (score.status == "malformed") == (score.details["answer"] is None)


@pytest.mark.parametrize("case", GOLDEN["connections"]["cases"])
def test_connections(case: dict[str, Any]) -> None:
    assert connection_score(case["found"], case["right"], case["m"], case["n"]) == case["score"]
    row = {"question": "full", "m": case["m"], "n": case["n"], "answer": case["right"]}
    text = tagged(" ".join(map(str, case["found"])))
    assert scored(text, row, accuracy="connections").details["accuracy"] == case["score"]


@pytest.mark.parametrize("case", GOLDEN["advantages"]["cases"])
def test_advantages_of_the_sum(case: dict[str, Any]) -> None:
    assert advantages([case["totals"]], "group")[0] == pytest.approx(case["advantages"], abs=1e-4)


def test_advantages_of_each_part_on_its_own() -> None:
    case = GOLDEN["advantages"]["each_part"]
    texts = tuple(Completion(tagged(answer), 1) for answer in case["texts"])
    group = Group(({"role": "user", "content": "?"},), texts, PAIR)
    parts = {"accuracy": JigsawConfig(format_weight=0), "format": JigsawConfig(accuracy_weight=0)}
    both = {name: asyncio.run(part.build(Resources()).score(group)) for name, part in parts.items()}
    assert [score.value for score in both["accuracy"].scores] == case["accuracies"]
    assert [score.value for score in both["format"].scores] == [0.5 * formed for formed in case["formats"]]
    objective = WeightedSumConfig(weights={"accuracy": 0.5, "format": 0.5}, normalize="group").build()
    made = objective.combine(group, both, [False] * len(texts)).rewards
    assert advantages([made], "none")[0] == pytest.approx(case["advantages"], abs=1e-4)


def test_exact_is_all_or_nothing() -> None:
    for answer, fraction, exact in (("4 2 1 3", 1, 1), ("4 2 3 1", 0.5, 0)):
        assert scored(tagged(answer), FULL).details["accuracy"] == fraction
        assert scored(tagged(answer), FULL, accuracy="exact").details["accuracy"] == exact
    # Half of the box is not more than half.
    half, most = tagged("10,20,50,40"), tagged("10,20,50,50")
    assert [scored(text, BOX, accuracy="exact").value for text in (half, most)] == [0.5, 1.5]


# The strict form of an index is a bare one; in a sentence the only number counts, and two cancel out.
@pytest.mark.parametrize(
    ("text", "think", "accuracy", "formed"),
    [
        (tagged("3"), True, 1, 1),
        (tagged("(3)."), True, 1, 1),
        (tagged("2"), True, 0, 1),
        (tagged("5"), True, 0, 0),
        (tagged("position 3 of 4"), True, 0, 0),
        (tagged("three"), True, 0, 0),
        ("3", False, 1, 1),
        ("It is 3", False, 1, 0),
        ("It is 3.", False, 1, 0),
        ("3.5", False, 0, 0),
    ],
)
def test_indices(text: str, think: bool, accuracy: int, formed: int) -> None:
    score = scored(text, SINGLE, think=think)
    assert (score.details["accuracy"], score.details["format"]) == (accuracy, formed)


@pytest.mark.parametrize(
    ("answer", "accuracy", "formed"),
    [
        ("[10, 20, 50, 60]", 1, 1),
        ("The box is 10, 20, 50, 60.", 1, 0),
        ("10, 20, 50, 60, 70", 0, 0),
        ("10,20,50,60 or 10,20,50,61", 0, 0),
        ("50,60,10,20", 0, 0),
        ("10,20,10,60", 0, 0),
        ("-10,20,50,60", 0, 0),
        ("9999999,20,50,60", 0, 0),
    ],
)
def test_boxes(answer: str, accuracy: int, formed: int) -> None:
    score = scored(tagged(answer), BOX)
    assert (score.details["accuracy"], score.details["format"]) == (accuracy, formed)


def test_a_rows_answer_is_read_only() -> None:
    right = [0.1, 0.2, 0.5, 0.6]
    row = BOX | {"answer": right}
    assert [scored(tagged("10,20,50,60"), row).value for _ in range(2)] == [1.5, 1.5]
    assert right == [0.1, 0.2, 0.5, 0.6]


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        (FULL | {"answer": "[4, 2, 1, 3]"}, "4 2 1 3"),
        (SINGLE | {"answer": "3"}, "3"),
        (BOX | {"answer": "[0.1, 0.2, 0.5, 0.6]", "image_size": "[100, 100]"}, "10,20,50,60"),
        (PAIR | {"options": '["above", "below"]'}, "B"),
    ],
)
def test_columns_of_text_hold_json(row: dict[str, Any], answer: str) -> None:
    assert JigsawConfig().row_problem(row) == ""
    assert scored(tagged(answer), row).value == 1.5
    # As many letters as options, not as the text has signs.
    assert scored(tagged("C"), row).value == 0


def test_letters_are_those_that_are_offered() -> None:
    assert scored(tagged("C"), MULTIPLE).value == 1.5
    assert scored(tagged("E"), MULTIPLE).value == 0
    named = MULTIPLE | {"options": ["left", "right", "above"]}
    assert scored(tagged("D"), named).value == 0
    # Without the column: a row or a column has two, a grid eight.
    assert scored(tagged("H"), PAIR | {"m": 2, "n": 2}).details["format"] == 1
    assert scored(tagged("C"), PAIR).details["format"] == 0
    # A leading letter decides; two letters cancel out.
    assert scored(tagged("(A) and not B"), PAIR).details["accuracy"] == 0
    assert scored(tagged("not A but B"), PAIR).status == "malformed"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (FULL | {"question": "whole"}, "`question` is 'whole'; known are full, pair, multiple, single, box"),
        (FULL | {"m": 0}, "`m` is 0, no count of pieces"),
        (FULL | {"n": True}, "`n` is True, no count of pieces"),
        (FULL | {"answer": [1, 2, 3, 3]}, "`answer` is not each of 1 to 4 once"),
        (FULL | {"answer": "4 2 1 3"}, "`answer` is not each of 1 to 4 once"),
        (PAIR | {"answer": "C"}, "`answer` is 'C', not one of A, B"),
        (PAIR | {"options": 1}, "`options` is 1: expected"),
        (PAIR | {"options": 2.0}, "`options` is 2.0: expected"),
        (SINGLE | {"answer": 5}, "`answer` is no index from 1 to 4"),
        (BOX | {"answer": [10, 20, 50, 60]}, "`answer` is no box"),
        (BOX | {"image_size": None}, "`image_size` is not the width and height"),
    ],
)
def test_unsound_rows_are_named(row: dict[str, Any], problem: str) -> None:
    assert problem in JigsawConfig().row_problem(row)


def test_found_by_its_type() -> None:
    config = scorer_config({"type": "jigsaw", "think": False})
    assert isinstance(config, JigsawConfig) and config.columns() == ("question", "m", "n", "answer")


TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
RIGHT = ["4 2 1 3", "4 2\n1 3", "B", "(B)", "A", "3", "10,20,50,60"]
PIECES = st.sampled_from([*TAGS, *RIGHT, " ", "\n", "，", "²", "٣", "is", ".", "1e9", "9" * 5000])
TEXTS = st.one_of(
    st.text(), st.lists(st.one_of(PIECES, st.text(string.printable, max_size=4)), max_size=12).map("".join)
)
STRICT = {
    "full": {"4 2 1 3"},
    "pair": {"B", "(B)", "B.", "(B)."},
    "multiple": {"C", "(C)", "C.", "(C)."},
    "single": {"3", "(3)", "3.", "(3)."},
    "box": {"10 20 50 60"},
}


@given(TEXTS, st.sampled_from([FULL, PAIR, MULTIPLE, SINGLE, BOX]), st.booleans())
def test_never_an_exception_never_all_of_it_for_a_malformed_answer(text: str, row: dict[str, Any], think: bool) -> None:
    for written in (text, tagged(text)):
        score = scored(written, row, think=think)
        assert score.status != "unscored", score.reason
        assert score.value is not None and 0 <= score.value <= 1.5
        if score.value == 1.5:
            body = written.strip()
            if think:
                head, _, rest = body.partition("</think>")
                assert head.startswith("<think>") and all(body.count(tag) == 1 for tag in ("<think>", "<answer>"))
                body = rest.strip().removeprefix("<answer>").removesuffix("</answer>").strip()
            plain = " ".join("".join(" " if c in ",;`|()[]{}" else c for c in body).split())
            assert body in STRICT[str(row["question"])] or plain in STRICT[str(row["question"])]
