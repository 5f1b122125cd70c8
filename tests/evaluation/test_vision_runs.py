"""Puzzles and screens put to a served model: images are the rows', failures no numbers, nothing is asked twice."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rlrules.data.gui import GuiPromptsConfig
from rlrules.data.jigsaw import JigsawPromptsConfig
from rlrules.evaluation.results import read_json
from rlrules.images import open_image, references
from tests.evaluation.shared import call, called, read_lines
from tests.fakes.openai_server import FakeServer, Request

PUZZLES = {
    "type": "jigsaw",
    "images": {"type": "synthetic", "count": 40, "width": 60, "height": 48},
    "stages": [{"m": 2, "n": 2, "prompts": 40}],
    "question": "full",
    "think": True,
    "seed": 3,
}
SCREENS = {"type": "gui", "screens": {"count": 12, "width": 168, "height": 336}, "think": True, "frame": "resized"}


def seen(request: Request) -> bytes:
    """The pixels of a request's image, which stands before its text."""
    image, text = request["messages"][-1]["content"]
    assert text["type"] == "text" and image["type"] == "image_url"
    data = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data))).tobytes()


def pixels(row: Any) -> bytes:
    [reference] = references(row["prompt"])
    return np.asarray(open_image(reference)).tobytes()


def write(folder: Path, server: FakeServer, **sections: Any) -> Path:
    judge = {"type": "openai", "urls": [server.url], "model": "fake", "cache": False, "retries": 0}
    (folder / "run.yaml").write_text(json.dumps({"model": judge, **sections}))
    return folder / "run.yaml"


def test_puzzles_of_a_served_model(tmp_path: Path) -> None:
    rows = JigsawPromptsConfig.model_validate(PUZZLES).load(len).rows
    by_image = {pixels(row): row for row in rows}
    assert len(by_image) == 40
    down = {"0", "1"}

    def reply(request: Request) -> Any:
        row = by_image[seen(request)]
        number = int(row["id"])
        if row["id"] in down:
            return {"choices": []}
        # Every fourth has two of four places right, every fifth does not think.
        a, b, c, d = row["answer"]
        said = f"{a} {b} {d} {c}" if number % 4 == 3 else f"{a} {b} {c} {d}"
        return f"<answer>{said}</answer>" if number % 5 == 4 else f"<think>So.</think><answer>{said}</answer>"

    with FakeServer(reply) as server:
        path = write(tmp_path, server, data=PUZZLES, max_failed=0.1)
        told = call("jigsaw", path, "max_failed=0.01", "-o", tmp_path / "out", code=2)
        assert "2 of 40 answers have no result, more than max_failed = 0.01 allows" in told
        assert server.counts["requests"] == 40
        found = called("jigsaw", path, "-o", tmp_path / "out")
        assert server.counts["requests"] == 42, "only what failed is asked again"
        numbers = [n for n in range(40) if str(n) not in down]
        # Of 2 to 39: without a thought in its tag an answer is no answer at all in think mode.
        whole = [n for n in numbers if n % 5 != 4]
        assert found["n"] == 38 and found["n_unreadable"] == len(numbers) - len(whole)
        right = [n for n in whole if n % 4 != 3]
        assert found["exact"] == pytest.approx(len(right) / 38)
        assert found["accuracy"] == pytest.approx((len(right) + 0.5 * (len(whole) - len(right))) / 38)
        assert found["format"] == pytest.approx(len(whole) / 38)
        assert found["by_chance"]["exact"] == pytest.approx(1 / 24)
        assert found["counts"]["answers"]["n_failed"] == 2 and found["counts"]["answers"]["n_parsed"] == 38
        down.clear()
        assert called("jigsaw", path, "-o", tmp_path / "out")["n"] == 40
        assert server.counts["requests"] == 44
    lines = read_lines(tmp_path / "out/rows.jsonl")
    assert len(lines) == 40 and all("prompt" not in line["data"] for line in lines)
    units = read_json(tmp_path / "out/units.json")["exact"]
    assert units["3"] == [0.0, 1.0] and units["5"] == [1.0, 1.0] and len(units) == 40
    # The same from what was written, without a server.
    answers = [{**line["data"], "id": line["key"]} for line in lines]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in answers))
    again = called("jigsaw", "--responses", tmp_path / "answers.jsonl")
    assert again["n"] == 40 and again["by_chance"] == pytest.approx(found["by_chance"])
    assert "Jigsaw puzzles" in (tmp_path / "out/page.html").read_text()
    with FakeServer(reply) as server:
        changed = write(tmp_path, server, data={**PUZZLES, "seed": 4})
        assert "choose another folder with -o" in call("jigsaw", changed, "-o", tmp_path / "out", code=2)


def test_a_thought_that_the_server_tells_apart_is_part_of_the_answer(tmp_path: Path) -> None:
    rows = JigsawPromptsConfig.model_validate(PUZZLES).load(len).rows
    by_image = {pixels(row): row for row in rows}

    def reply(request: Request) -> Any:
        right = " ".join(map(str, by_image[seen(request)]["answer"]))
        return {"choices": [{"message": {"reasoning_content": "So.", "content": f"<answer>{right}</answer>"}}]}

    with FakeServer(reply) as server:
        path = write(tmp_path, server, data=PUZZLES, limit=5)
        assert called("jigsaw", path, "-o", tmp_path / "out")["reward"] == 1.5


def test_clicks_of_a_served_model(tmp_path: Path) -> None:
    rows = GuiPromptsConfig.model_validate(SCREENS).load(len).rows
    clicks = [row for row in rows if row["bbox"] is not None]
    by_image = {pixels(row): row for row in rows}
    assert 4 < len(clicks) < len(rows)
    missed = str(clicks[1]["id"])

    def reply(request: Request) -> str:
        row = by_image[seen(request)]
        assert row["instruction"] in request["messages"][-1]["content"][1]["text"]
        left, top, right, bottom = row["bbox"]
        # At 50,176 pixels most 168 x 336 are seen as 140 x 308.
        x, y = (left + right) / 2 * 140 / 168, (top + bottom) / 2 * 308 / 336
        x = 139 - x if row["id"] == missed else x
        return f"<think>So.</think><answer>[{{'action': 'click', 'coordinate': [{x:.2f}, {y:.2f}]}}]</answer>"

    with FakeServer(reply) as server:
        path = write(tmp_path, server, data=SCREENS, seen={"max_pixels": 50_176})
        found = called("gui", path, "-o", tmp_path / "out")
        assert server.counts["requests"] == len(clicks)
    units = read_json(tmp_path / "out/units.json")["accuracy"]
    assert found["n"] == len(clicks) and found["responses"] == {"ok": len(clicks)}
    assert found["counts"]["n_of_other_actions"] == len(rows) - len(clicks)
    across = clicks[1]["bbox"][0] + clicks[1]["bbox"][2]
    inside = clicks[1]["bbox"][0] <= (139 - across * 140 / 336) * 168 / 140 <= clicks[1]["bbox"][2]
    assert not inside and units[missed] == [0.0, 1.0]
    assert found["accuracy"] == pytest.approx((len(clicks) - 1) / len(clicks))


def test_published_steps_of_a_served_model(tmp_path: Path) -> None:
    steps = [
        {"image": "a.png", "task": "tap it", "gt": {"action_type": "click", "x": 100, "y": 50}},
        {"image": "b.png", "task": "go on", "gt": {"action_type": "scroll", "direction": "down"}},
        {"image": "c.png", "task": "back", "gt": {"action_type": "navigate_back"}},
        {"image": "d.png", "task": "tap that", "gt": {"action_type": "click", "x": 10, "y": 300}},
    ]
    (tmp_path / "ac_test.json").write_text(json.dumps(steps))
    for number, step in enumerate(steps):
        Image.new("RGB", (168, 336), (number, 0, 0)).save(tmp_path / str(step["image"]))
    # Thousandths: the first click is right, 23.5 px being 14 % of 168; the second is 25 px beside it.
    said = [
        f"[{{'action': 'click', 'coordinate': [{round(123 / 0.168)}, {round(50 / 0.336)}]}}]",
        "[{'action': 'scroll', 'direction': 'up'}]",
        "[{'action': 'navigate_back'}]",
        f"[{{'action': 'click', 'coordinate': [{round(35 / 0.168)}, {round(300 / 0.336)}]}}]",
    ]

    def reply(request: Request) -> str:
        number = seen(request)[0]
        assert f"\n{steps[number]['task']}\n" in request["messages"][-1]["content"][1]["text"]
        return f"<answer>{said[number]}</answer>"

    with FakeServer(reply) as server:
        source = {"path": str(tmp_path / "ac_test.json"), "images": str(tmp_path), "frame": "normalized_1000"}
        found = called("gui", write(tmp_path, server, steps=source | {"think": False}), "-o", tmp_path / "out")
    assert (found["type_accuracy"], found["grounding_accuracy"], found["step_accuracy"]) == (1.0, 0.5, 0.5)
    units = read_json(tmp_path / "out/units.json")["step_accuracy"]
    assert {name: value for name, (value, _) in units.items()} == {"a.png": 1, "b.png": 0, "c.png": 1, "d.png": 0}
    (tmp_path / "b.png").unlink()
    with FakeServer(reply) as server:
        path = write(tmp_path, server, steps=source)
        assert "b.png: No such file or directory" in call("gui", path, "-o", tmp_path / "again", code=2)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("jigsaw", {"model": {"type": "local", "model": "m"}}, "model: in this process it would read text alone"),
        ("gui", {"data": None}, "give either `data` or `steps`"),
        ("gui", {"data": {**SCREENS, "answer": "box"}}, "data.answer: a hit is a point's"),
        ("gui", {"data": {**SCREENS, "max_prompt_tokens": 9}}, "data.max_prompt_tokens: nobody counts"),
    ],
)
def test_what_cannot_be_run_is_told(tmp_path: Path, name: str, change: dict[str, Any], told: str) -> None:
    data = {"jigsaw": PUZZLES, "gui": SCREENS}[name]
    judge = {"type": "openai", "urls": ["http://127.0.0.1:9/v1"], "model": "fake"}
    (tmp_path / "run.yaml").write_text(json.dumps({"model": judge, "data": data, **change}))
    assert told in call(name, tmp_path / "run.yaml", "-o", tmp_path / "out", code=2)


def test_flags_of_the_other_way_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    for arguments, flag in (
        (("jigsaw", "run.yaml", "--no-think"), "--think, --no-think needs --responses"),
        (("gui", "run.yaml", "--steps", tmp_path / "a.jsonl"), "--steps needs --predictions"),
        (
            ("jigsaw", "run.yaml", "--responses", tmp_path / "a.jsonl"),
            "configuration 'run.yaml' says nothing beside",
        ),
        (("gui", "--predictions", tmp_path / "a.jsonl", "-o", tmp_path), "-o says nothing beside --predictions"),
    ):
        assert flag in re.sub(r"\s+", " ", call(*arguments, code=2))
