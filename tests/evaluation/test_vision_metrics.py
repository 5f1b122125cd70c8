"""GUI and jigsaw metrics, by hand and against published functions' outputs."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlrules.evaluation.gui import action_metrics, grounding_metrics
from rlrules.evaluation.jigsaw import centre_in, inverted, jigsaw_metrics, read_permutation
from rlrules.rewards.boxes import in_box, iou
from rlrules.rewards.jigsaw_answers import connection_score, patch_score
from tests.evaluation.shared import DATA, call, called, needs, write_lines


def at(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"f:{number}", row) for number, row in enumerate(rows, 1)]


def test_grounding_by_hand(tmp_path: Path) -> None:
    box = [10, 10, 20, 20]
    rows = [
        {"id": 1, "box": box, "point": [10, 20], "platform": "web", "element": "text"},
        {"id": 2, "box": box, "point": [9.9, 15], "platform": "web", "element": "icon"},
        # No answer is a miss, even where the corner of the image would be a hit.
        {"id": 3, "box": [0, 0, 5, 5], "point": None, "platform": "web", "element": "icon"},
        # Seen at half the size.
        {"id": 4, "box": box, "point": [7, 7], "platform": "web", "element": "text", "seen_size": [50, 50],
         "image_size": [100, 100]},
    ]  # fmt: skip
    found = called("gui", "--predictions", write_lines(tmp_path / "p.jsonl", rows))
    assert (found["accuracy"], found["n"], found["n_unreadable"]) == (0.5, 4, 1)
    assert found["by_kind"] == {"web icon": {"accuracy": 0, "n": 2}, "web text": {"accuracy": 1, "n": 2}}
    assert in_box((20, 10), box) and not in_box((20.01, 10), box)
    twice = write_lines(tmp_path / "p.jsonl", [rows[0], rows[0]])
    assert "p.jsonl:2: `id`: 1 stands more than once" in call("gui", "--predictions", twice, code=2)


def test_actions_by_hand() -> None:
    size = {"image_size": [1080, 2400]}
    click = {"action": "click", "point": [500, 500]}
    rows = [
        # 151 px away straight down is near enough, 152 is not; by its own height 152 px still is.
        {"id": 1, "target": click, "predicted": {"action": "click", "point": [500, 651]}, **size},
        {"id": 2, "target": click, "predicted": {"action": "click", "point": [500, 652]}, **size},
        {"id": 3, "target": click, "predicted": {"action": "scroll", "direction": "up"}, **size},
        {"id": 4, "target": {"action": "open_app", "app_name": "Clock"},
         "predicted": {"action": "open_app", "app_name": "clock "}},
        {"id": 5, "target": {"action": "input_text", "text": "a"}, "predicted": {"action": "input_text", "text": "b"}},
        {"id": 6, "target": {"action": "navigate_back"}, "predicted": {"action": "navigate_back"}},
        {"id": 7, "target": {"action": "scroll", "direction": "up"}, "predicted": None},
    ]  # fmt: skip
    found = action_metrics(at(rows))
    assert found["type_accuracy"] == pytest.approx(5 / 7)
    assert (found["grounding_accuracy"], found["grounding_accuracy_normalized"]) == (
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
    )
    assert found["step_accuracy"] == pytest.approx(3 / 7)
    assert (found["n_clicks"], found["n_unreadable"]) == (3, 1)
    assert found["actions"] == {"click": 3, "open_app": 1, "input_text": 1, "navigate_back": 1, "scroll": 1}


def test_steps_as_responses(tmp_path: Path) -> None:
    case = json.loads((Path(__file__).parents[1] / "golden/ui_r1.json").read_text())["android_control"]
    steps = [
        {"id": n, **step, "image_size": case["image_size"], "tokens": 10 * n} for n, step in enumerate(case["steps"])
    ]
    found = called("gui", "--predictions", write_lines(tmp_path / "p.jsonl", steps))
    for name, value in case.items():
        if name not in ("image_size", "steps"):
            assert found[name] == pytest.approx(value, abs=1e-4), name
    assert (found["responses"], found["mean_tokens"]) == ({"ok": 5}, 20)


STEPS = [
    {"image": "a.png", "task": "tap it", "gt": {"action_type": "click", "x": 900, "y": 240}},
    {"image": "b.png", "task": "tap it", "gt": {"action_type": "click", "x": 540, "y": 1200}},
    {"image": "c.png", "task": "", "gt": {"action_type": "scroll", "direction": "down"}},
    {"image": "d.png", "task": "type", "gt": {"action_type": "input_text", "text": "soup"}},
    {"image": "e.png", "task": "go back", "gt": {"action_type": "navigate_back"}},
]


@pytest.mark.parametrize("name", ["steps.json", "steps.jsonl"])
def test_a_constant_answer_to_published_steps(tmp_path: Path, name: str) -> None:
    steps = tmp_path / name
    steps.write_text(json.dumps(STEPS) if name == "steps.json" else "".join(json.dumps(step) + "\n" for step in STEPS))
    answer = "<answer>[{'action': 'click', 'coordinate': [900, 240]}]</answer>"
    lines = [{"id": step["image"], "response": answer} for step in STEPS[:4]]
    path = write_lines(tmp_path / "p.jsonl", lines)
    found = called("gui", "--predictions", path, "--steps", str(steps))
    # The last step has no line: it counts, and is wrong.
    assert (found["n"], found["n_clicks"], found["type_accuracy"]) == (5, 2, 0.4)
    assert (found["grounding_accuracy"], found["average"]) == (0.5, pytest.approx(0.45))
    assert found["responses"] == {"ok": 4, "no_answer": 1}
    assert found["actions"] == {"click": 2, "scroll": 1, "input_text": 1, "navigate_back": 1}
    typed = "<answer>[{'action': 'input_text', 'text': 'Soup'}]</answer>"
    path = write_lines(tmp_path / "p.jsonl", [{"id": "d.png", "response": typed}])
    assert called("gui", "--predictions", path, "--steps", str(steps))["step_accuracy"] == 0.2
    for bad, told in (([lines[0], lines[0]], "'a.png' stands more than once"), ([{"id": "z"}], "'z' is none of")):
        path = write_lines(tmp_path / "p.jsonl", bad)
        assert told in call("gui", "--predictions", path, "--steps", str(steps), code=2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"gt": {"action_type": "wait"}}, "steps.jsonl:2: `gt.action_type`: 'wait' is none of open_app"),
        ({"gt": {"action_type": "click", "x": 1}}, "steps.jsonl:2: `gt`: a click needs `x` and `y`"),
        ({"gt": None}, "steps.jsonl:2: expected {image, task, gt}"),
        ({"image": "a.png"}, "steps.jsonl:2: `image`: a.png stands more than once"),
    ],
)
def test_bad_steps_are_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    steps = write_lines(tmp_path / "steps.jsonl", [STEPS[0], STEPS[1] | change])
    lines = write_lines(tmp_path / "p.jsonl", [{"id": "a.png", "response": "no"}])
    assert told in call("gui", "--predictions", lines, "--steps", steps, code=2)


def test_clicks_as_responses(tmp_path: Path) -> None:
    # The box is the whole image, so that any point at all would hit.
    line = {"box": [0, 0, 9, 9]}
    responses = [
        "<think>It is true.</think><answer>[{'action': 'click', 'coordinate': [1, 1]}]</answer>",
        "<think>It is true.</think><answer>[{'action': 'scroll', 'coordinate': [1, 1]}]</answer>",
        "<answer>[{'action': 'click'}]</answer>",
        "<answer>[{'action': 'tap', 'coordinate': [1, 1]}]</answer>",
        "<answer>true</answer>",
        "true",
        None,
    ]
    rows = [line | {"id": n, "response": response} for n, response in enumerate(responses)]
    found = called("gui", "--predictions", write_lines(tmp_path / "p.jsonl", rows))
    assert (found["accuracy"], found["n"]) == (pytest.approx(1 / 7), 7)
    problems = {"ok": 2, "no_coordinate": 1, "unknown_action": 1, "bad_payload": 1, "no_answer": 2}
    assert found["responses"] == problems
    bad = write_lines(tmp_path / "p.jsonl", [line | {"id": 1, "response": 3}])
    assert "p.jsonl:1: `response`: expected text or null, got int" in call("gui", "--predictions", bad, code=2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 1, "box": [0, 0, 1], "point": None}, "p.jsonl:1: `box`: expected 4 numbers, got [0, 0, 1]"),
        ({"id": 1, "box": [0, 0, 1, 1], "point": [1, 1], "seen_size": [1, 1]}, "`image_size`: is missing beside"),
        (
            {"id": 1, "box": [0, 0, 1, 1], "point": [1, 1], "seen_size": [0, 1], "image_size": [1, 1]},
            "p.jsonl:1: `seen_size`: expected a width and a height over 0, got [0, 1]",
        ),
        ({"id": [1], "box": [0, 0, 1, 1], "point": None}, "p.jsonl:1: `id`: expected text or an integer, got [1]"),
        ({"id": 1, "target": {"action": "fly"}, "predicted": None}, "`target`: expected an action of open_app"),
        (
            {"id": 1, "target": {"action": "click", "point": [1, 1]}, "predicted": None},
            "`image_size`: is missing; a click's tolerance is a share of it",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    assert message in call("gui", "--predictions", write_lines(tmp_path / "p.jsonl", [row]), code=2)


@pytest.mark.parametrize("point", [[1], "1, 1", [1, None], [True, 1], [float("nan"), 1], {"x": 1}])
def test_a_malformed_point_is_a_miss_that_counts(tmp_path: Path, point: Any) -> None:
    # The box is the whole image, so that any point at all would hit.
    rows = [{"id": 1, "box": [0, 0, 9, 9], "point": [1, 1]}, {"id": 2, "box": [0, 0, 9, 9], "point": point}]
    found = called("gui", "--predictions", write_lines(tmp_path / "p.jsonl", rows))
    assert (found["accuracy"], found["n"], found["n_unreadable"]) == (0.5, 2, 1)
    click = {"action": "click", "point": [1, 1]}
    steps = [
        {"id": n, "target": click, "predicted": {"action": "click", "point": p}, "image_size": [9, 9]}
        for n, p in enumerate([[1, 1], point])
    ]
    found = action_metrics(at(steps))
    assert (found["step_accuracy"], found["type_accuracy"]) == (0.5, 1)
    assert (found["n_clicks"], found["n_unreadable"]) == (2, 1)


def test_grounding_needs_samples() -> None:
    with pytest.raises(Exception, match="no predictions"):
        grounding_metrics([])


def test_puzzles_by_hand(tmp_path: Path) -> None:
    rows = [
        {"id": n, "rows": 2, "columns": 2, "arrangement": [4, 2, 1, 3], "response": response}
        for n, response in enumerate(["<think>1</think><answer>4 2\n1 3</answer>", "2, 4; 3, 1", "4 2 1 1", "none"])
    ]
    found = called("jigsaw", "--responses", write_lines(tmp_path / "r.jsonl", rows))
    # The second swaps the columns: both upper-to-lower neighbours stay, neither of the others.
    assert (found["exact"], found["patch"], found["connection"]) == (0.25, 0.25, pytest.approx((1 + 0.5) / 4))
    assert found["n_unreadable"] == 2
    assert found["by_chance"] == {"exact": pytest.approx(1 / 24), "patch": 0.25}
    assert inverted([3, 1, 2]) == (2, 3, 1) and inverted(inverted([4, 2, 1, 3])) == (4, 2, 1, 3)
    bad = write_lines(tmp_path / "r.jsonl", [rows[0] | {"arrangement": [1, 2, 3, 3]}])
    assert "r.jsonl:1: `arrangement`: expected each of 1 to 4 once" in call("jigsaw", "--responses", bad, code=2)


def test_a_puzzle_of_one_piece() -> None:
    line = {"id": 1, "rows": 1, "columns": 1, "arrangement": [1]}
    found = jigsaw_metrics(at([line | {"response": "1"}, line | {"id": 2, "response": None}]), 0)
    assert (found["exact"], found["patch"], found["connection"], found["n_unreadable"]) == (0.5, 0.5, 0.5, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": "2"}, "`rows`: expected an integer from 1, got '2'"),
        ({"columns": 0}, "`columns`: expected an integer from 1, got 0"),
        ({"arrangement": None}, "`arrangement`: expected each of 1 to 4 once"),
        ({"arrangement": [1, 2, 3, "4"]}, "`arrangement`: expected each of 1 to 4 once"),
        ({"response": 3}, "`response`: expected text or null, got int"),
        ({"id": 1}, "`id`: 1 stands more than once"),
    ],
)
def test_bad_puzzles_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    line = {"id": 1, "rows": 2, "columns": 2, "arrangement": [1, 2, 3, 4], "response": "1 2 3 4"}
    path = write_lines(tmp_path / "r.jsonl", [line, line | {"id": 2} | change])
    assert f"r.jsonl:2: {message}" in call("jigsaw", "--responses", path, code=2)


@needs("vision")
def test_published_functions() -> None:
    expected = json.loads((DATA / "vision/expected_jigsaw_metrics.json").read_text())
    for case in expected["grid"]:
        assert patch_score(case["pred"], case["gt"]) == pytest.approx(case["patch_score"], abs=1e-12)
        ours = connection_score(case["pred"], case["gt"], case["m"], case["n"])
        assert ours == pytest.approx(case["connection_score_forward"], abs=1e-12), case
        assert (case["pred"] == case["gt"]) == case["exact"]
        # Where the reference takes a piece that stands twice, ours takes the line for no arrangement.
        whole = len(set(case["pred"])) == len(case["gt"])
        assert (read_permutation(" ".join(map(str, case["pred"])), len(case["gt"])) is not None) == whole
    for case in expected["strings"]:
        size = case["m"] * case["n"]
        parsed = case["parsed"]
        sound = parsed is not None and sorted(parsed) == list(range(1, size + 1))
        assert read_permutation(case["text"], size) == (tuple(parsed) if sound else None)
    for case in expected["boxes"]:
        assert centre_in(case["pred"], case["gt"]) == bool(case["point"])
        # The reference loses the last pixel, so that a box of one pixel has nothing in common with itself.
        one_pixel = case["pred"] == [0, 0, 1, 1]
        assert iou(case["pred"], case["gt"]) == pytest.approx(1.0 if one_pixel else case["iou"], abs=1e-12)


def test_jigsaw_needs_puzzles() -> None:
    with pytest.raises(Exception, match="no puzzles"):
        jigsaw_metrics([])
