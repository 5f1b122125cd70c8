"""The GUI reward: the specification's checklist, what a row must have, lengths, and anything a model may write."""

import ast
import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rlrules.errors import RecipeError
from rlrules.rewards.advantages import advantages
from rlrules.rewards.base import Context, PointwiseScorer, Resources, Scorer, scorer_config
from rlrules.rewards.gui import GuiConfig
from rlrules.rewards.gui_length import LengthAdapted, length_budget, length_rewards
from rlrules.rewards.gui_parse import keeps_format, read_action
from rlrules.types import Completion, Group, Score, Scored

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ui_r1.json").read_text())
PARTS = ("type", "coordinate", "format")
CLICK = "[{'action': 'click', 'coordinate': [1000, 100]}]"
ROW = {"action": "click", "bbox": GOLDEN["box"], "image_size": [2800, 2800]}


def build(limit: int | None = None, **fields: Any) -> Scorer:
    return scorer_config({"type": "gui", **fields}).build(Resources(max_completion_length=limit))


def group_of(row: dict[str, Any], *completions: Completion) -> Group:
    return Group(({"role": "user", "content": "?"},), completions, row)


def scores(row: dict[str, Any], *texts: str, limit: int | None = None, **fields: Any) -> tuple[Score, ...]:
    group = group_of(row, *(Completion(text, len(text.split())) for text in texts))
    return asyncio.run(build(limit, **fields).score(group)).scores


def thought(payload: str) -> str:
    return f"<think>x</think><answer>{payload}</answer>"


@pytest.mark.parametrize("case", GOLDEN["completions"], ids=lambda case: case["item"])
def test_the_checklist(case: dict[str, Any]) -> None:
    row = {"action": case.get("action", "click"), "bbox": case.get("bbox", GOLDEN["box"]), "image_size": [28000, 28000]}
    across, down = case.get("scale", (1, 1))
    row |= {"resized_size": [28000 / across, 28000 / down]}
    if "image_size" in case:
        row = {"action": "click", "bbox": case["bbox"], "image_size": case["image_size"]}
    [score] = scores(row, case["completion"], **case.get("config", {}))
    assert [score.details[part] for part in PARTS] == case["expected"]
    assert score.value == sum(case["expected"])
    assert score.status == ("malformed" if case.get("malformed") else "ok")
    assert bool(score.reason) == bool(case.get("malformed"))
    assert score.details["accuracy"] == case["expected"][0] * case["expected"][1]


def test_one_completion_and_its_group_are_scored_alike() -> None:
    scorer = build()
    assert isinstance(scorer, PointwiseScorer)
    texts = [case["completion"] for case in GOLDEN["completions"]]
    alone = [
        asyncio.run(scorer.score_one(Context(({"role": "user", "content": "?"},), ROW), Completion(text, 1)))
        for text in texts
    ]
    assert tuple(alone) == scores(ROW, *texts)


def test_frames() -> None:
    row = {"action": "click", "bbox": [950, 150, 1040, 260], "image_size": [1080, 2400]}
    assert scores(row, thought("[{'action': 'click', 'coordinate': [900, 90]}]"), frame="normalized_1000")[0].value == 3
    assert scores(row, thought("[{'action': 'click', 'coordinate': [1000, 200]}]"), frame="original")[0].value == 3
    # 1,003,520 pixels at most: 672 x 1484.
    small = thought("[{'action': 'click', 'coordinate': [620, 120]}]")
    assert scores(row, small, max_pixels=1_003_520)[0].value == 3
    assert scores(row, small)[0].value == 2
    assert scores(row | {"resized_size": [672, 1484]}, small)[0].value == 3


def test_boxes() -> None:
    row = {"action": "click", "bbox": [100, 100, 200, 200], "image_size": [280, 280]}
    answers = {
        "[{'action': 'click', 'bbox': [100, 100, 200, 200]}]": 3.0,
        # 5,000 of 10,000 pixels: half is not over half.
        "[{'action': 'click', 'bbox': [100, 100, 200, 150]}]": 2.0,
        "[{'action': 'click', 'bbox': [100, 100, 200, 151]}]": 3.0,
        "[{'action': 'click', 'bbox': [200, 200, 100, 100]}]": 2.0,
        "[{'action': 'click', 'coordinate': [150, 150]}]": 2.0,
    }
    found = scores(row, *map(thought, answers), answer="box")
    assert [score.value for score in found] == list(answers.values())
    assert [score.status for score in found] == ["ok", "ok", "ok", "malformed", "malformed"]
    assert scores(row, thought("[{'action': 'click', 'bbox': [100, 100, 200, 200]}]"))[0].status == "malformed"
    half = [{"action": "click", "bbox": [50, 50, 100, 100]}]
    assert scores(row | {"resized_size": [140, 140]}, thought(json.dumps(half)), answer="box")[0].value == 3


@pytest.mark.parametrize(
    "payload",
    [
        f"```json\n{CLICK}\n```",
        f"```python\n{CLICK}```",
        f"```\n{CLICK}\n```",
        CLICK[1:-1],
        f"\n  {CLICK}  \n",
        '{"action": "click", "coordinate": [1e3, 100]}',
    ],
)
def test_what_can_be_read(payload: str) -> None:
    assert scores(ROW, thought(payload))[0].value == 3


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "[]",
        "[[{'action': 'click', 'coordinate': [1000, 100]}]]",
        "'click'",
        "{'action': ['click']}",
        "{[]: 1}",
        "[" * 100_000,
        "[" * 90 + "]" * 90,
        "-" * 100_000 + "1",
        "{'action': 'click', 'coordinate': [" + "9" * 5000 + ", 1]}",
        "\x00",
        "\ud800",
        "__import__('os').getcwd()",
        "{'action': 'click', 'coordinate': [500 + 500, 100]}",
        "```json\n```",
    ],
)
def test_what_cannot(payload: str) -> None:
    [score] = scores(ROW, thought(payload))
    assert (score.value, score.status, score.details["type"]) == (1, "malformed", 0)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "true", "-0.1", "9" * 400, '"5"', "null", "[1]", "1j"])
def test_no_coordinate(number: str) -> None:
    # The box is the whole image, so that any place at all would hit.
    row = ROW | {"bbox": [0, 0, 2800, 2800]}
    [score] = scores(row, thought(f'[{{"action": "click", "coordinate": [{number}, 1]}}]'))
    assert score.details["coordinate"] == 0 and score.status == "malformed"
    assert json.loads(json.dumps(score.details, allow_nan=False))


def test_an_answer_that_was_cut_off_says_so() -> None:
    group = group_of(ROW, Completion("<think>I see a", 4, truncated=True))
    [score] = asyncio.run(build().score(group)).scores
    assert (score.value, score.status) == (0, "malformed")
    assert score.reason == "no <answer>…</answer> after the thought; it was cut off"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"action": "fly"}, "column 'action': 'fly' is none of open_app, click"),
        ({"bbox": None}, "column 'bbox': a click needs {left, top, right, bottom}, got None"),
        ({"bbox": [1, 2, 3]}, "column 'bbox'"),
        ({"bbox": [5, 0, 4, 1]}, "column 'bbox'"),
        ({"bbox": [0, 0, float("inf"), 1]}, "column 'bbox'"),
        ({"image_size": None}, "column 'image_size': frame 'resized' needs a width and a height, got None"),
        ({"image_size": [0, 5]}, "column 'image_size'"),
        ({"image_size": [10, 2010]}, "column 'image_size': 10 x 2010: one side is over 200 times the other"),
        ({"resized_size": [1]}, "column 'resized_size': expected a width and a height, got [1]"),
    ],
)
def test_rows_that_cannot_be_scored_against(change: dict[str, Any], told: str) -> None:
    config = GuiConfig()
    assert config.row_problem(ROW) == ""
    assert told in config.row_problem(ROW | change)


def test_rows_of_other_actions_need_no_place() -> None:
    config = GuiConfig()
    assert config.columns() == ("action",) and not config.needs_tokens
    assert config.row_problem({"action": "scroll", "bbox": None, "image_size": None}) == ""
    assert GuiConfig(frame="original").row_problem({"action": "click", "bbox": [0, 0, 1, 1]}) == ""


def test_columns_of_text_hold_json() -> None:
    row = ROW | {"bbox": json.dumps(ROW["bbox"]), "image_size": "[2800, 2800]", "resized_size": "[1400.0, 1400]"}
    inside, outside = scores(row, thought(CLICK.replace("1000, 100", "500, 60")), thought(CLICK))
    assert (inside.value, outside.value) == (3, 2)
    # An answer's coordinate is read as it is written.
    assert scores(row, thought("[{'action': 'click', 'coordinate': '[500, 60]'}]"))[0].value == 2


def test_a_budget_without_length_does_nothing() -> None:
    assert scores(ROW, thought(CLICK), length="none", budget="limit")[0].value == 3


def test_fields_that_do_not_fit() -> None:
    with pytest.raises(ValidationError, match=r"min_pixels \(10\) is over max_pixels \(5\)"):
        GuiConfig(min_pixels=10, max_pixels=5)
    with pytest.raises(RecipeError, match=r"budget: limit needs training\.max_completion_length"):
        build(length="dast", budget="limit")


@pytest.mark.parametrize("case", GOLDEN["dast"])
def test_lengths_by_group(case: dict[str, Any]) -> None:
    right = [reward == 3 for reward in case["rewards"]]
    longest = max(case["lengths"])
    assert length_budget(case["lengths"], right, longest) == pytest.approx(case["budget"])
    added = length_rewards(case["lengths"], right, longest)
    totals = [reward + more for reward, more in zip(case["rewards"], added, strict=True)]
    assert totals == pytest.approx(case["totals"], abs=1e-4)


def test_advantages_by_group() -> None:
    case = GOLDEN["advantages"]
    assert advantages([case["rewards"]], "group")[0] == pytest.approx(case["advantages"], abs=1e-4)
    assert not np.any(advantages([[3.5] * 4], "group")[0])


@given(st.lists(st.tuples(st.integers(1, 10_000), st.booleans()), min_size=1, max_size=16), st.booleans())
def test_length_rewards_keep_their_bounds(group: list[tuple[int, bool]], limited: bool) -> None:
    lengths, right = [length for length, _ in group], [good for _, good in group]
    for added, good in zip(length_rewards(lengths, right, 10_000 if limited else max(lengths)), right, strict=True):
        assert 0.1 <= added < 1 if good else -1 < added <= -0.1


def test_length_rewards_of_a_group() -> None:
    good, wrong = thought(CLICK), thought("[{'action': 'scroll'}]")
    # Right with a broken form is not right: its 2 points come with a wrong answer's length reward.
    completions = [
        Completion(text, tokens) for text, tokens in ((good, 60), (good, 100), (good + "x", 80), (wrong, 120))
    ]
    scorer = build(length="dast")
    assert isinstance(scorer, LengthAdapted) and GuiConfig(length="dast").needs_tokens
    scored = asyncio.run(scorer.score(group_of(ROW, *completions)))
    assert [score.value for score in scored.scores] == pytest.approx([3.7, 3.5, 1.72, 0.9])
    assert [score.details["length"] for score in scored.scores] == pytest.approx([0.7, 0.5, -0.28, -0.1])
    assert scored.metrics == {"length_budget": 100}
    # 0.5 x 80 + 0.5 x 512: all are far below what they may take.
    limited = asyncio.run(build(512, length="dast", budget="limit").score(group_of(ROW, *completions)))
    assert limited.metrics == {"length_budget": 296}
    assert limited.scores[0].value == pytest.approx(3.5 + 0.5 * (296 - 60) / 296)
    assert limited.scores[3].value == pytest.approx(1 - 0.1 - 0.9 * (296 - 120) / 296)


def test_what_is_unscored_has_no_length_reward() -> None:
    class Some:
        async def score(self, group: Group) -> Scored:
            return Scored((Score(3.0), Score.unscored("no answer"), Score(0.0)))

    group = group_of(ROW, Completion("a", 10), Completion("b", 1000), Completion("c", 30))
    scored = asyncio.run(LengthAdapted(Some(), 3.0, None).score(group))
    # 0.5 x 10 + 0.5 x 30 = 20.
    assert [score.value for score in scored.scores] == [pytest.approx(3.75), None, pytest.approx(-0.1)]
    assert length_rewards([0, 0], [True, False], 0) == [0.5, -0.1]


PIECES = st.sampled_from(
    (
        *("<think>", "</think>", "<answer>", "</answer>", "```json\n", "```", CLICK, CLICK.replace("'", '"')),
        *("[", "]", "{'action': 'click'", "}", "'coordinate': ", "[1000, 100]", "scroll", "NaN", "1_0"),
        *(" ", "\n", "\\x", "é", "\x00"),
    )
)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=14).map("".join)), st.booleans())
def test_anything_a_model_may_write(text: str, think: bool) -> None:
    [score] = scores(ROW, text, think=think)
    assert score.value in (0, 1, 2, 3)
    found = read_action(text)
    if score.status == "malformed":
        assert score.value < 3 and score.details["coordinate"] == 0
    if score.value == 3:
        assert keeps_format(text, think) and found.action == "click" and found.point is not None
        assert text.count("<answer>") == 1 and text.count("<think>") == int(think)


TOKENS = st.sampled_from(
    (
        *(
            "[",
            "]",
            "{",
            "}",
            "(",
            ")",
            "'action'",
            "'click'",
            ": ",
            ", ",
            "'",
            "1",
            "-",
            "0",
            ".5",
            "1e3",
            "1_0",
            "0x1",
        ),
        *(
            "true",
            "null",
            "NaN",
            "None",
            "True",
            "\\n",
            "\n",
            "#",
            "b",
            "'''",
            "\ud800",
            "é",
            "\x00",
            "\x0c",
            "+",
            "1j",
        ),
        *(
            "{'action': 'click'}",
            "{'action': 'click', 'coordinate': [1, 2]}",
            "[{'a': 'b'",
            "}]",
            "{'action': 'click',",
        ),
    )
)


@settings(max_examples=500)
@given(st.lists(TOKENS, max_size=8).map("".join))
def test_the_quick_way_reads_what_python_reads(payload: str) -> None:
    found = read_action(f"<answer>{payload}</answer>")
    try:
        expected = ast.literal_eval(payload.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError):
        expected = None
    if isinstance(expected, list) and len(expected) == 1:
        expected = expected[0]
    assert (found.problem == "bad_payload") == (not isinstance(expected, dict))
    if isinstance(expected, dict):
        assert repr(found.arguments) == repr(expected)
        assert (found.action == "click") == (expected.get("action") == "click")


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=100)
@given(VALUES | st.lists(st.floats() | st.integers(), min_size=2, max_size=2))
def test_any_coordinate(value: Any) -> None:
    row = ROW | {"bbox": [0, 0, 2800, 2800]}
    [score] = scores(row, thought(json.dumps([{"action": "click", "coordinate": value}])), frame="original")
    fits = isinstance(value, list) and len(value) == 2 and all(type(part) in (int, float) for part in value)
    assert score.details["coordinate"] == float(fits and all(0 <= part <= 2800 for part in value))
