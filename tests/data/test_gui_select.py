"""Selecting steps for a GUI agent: what is sound, what is hard, what is of every kind, and that nothing is lost."""

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.data.gui_rows import GuiRow
from rlrules.data.gui_select import Candidate, GuiSelectConfig, GuiSelection, diverse, select, sound
from rlrules.errors import DataError, JudgeError
from rlrules.judges import JudgeFailure, Question
from tests.fakes.judge import Reply, scripted_judge
from tests.fakes.openai_server import FakeServer

BOX = [10, 10, 50, 50]


def row(id_: str, image: str = "a.png", **fields: Any) -> dict[str, Any]:
    return {"id": id_, "img_filename": image, "instruction": f"do {id_}", **fields}


CLICKS = [
    row("icon 1", bbox=BOX, data_type="icon"),
    row("icon 2", bbox=BOX, data_type="icon"),
    row("icon 3", bbox=BOX, data_type="icon", image="b.png"),
    row("text 1", bbox=BOX, data_type="text"),
    row("text 2", bbox=BOX, data_type="text"),
    row("right", bbox=BOX, data_type="text"),
    row("silent", bbox=BOX, data_type="text"),
    row("outside", bbox=[0, 0, 101, 10]),
    row("thin", bbox=[5, 5, 5, 10]),
    row("nameless", bbox=BOX, instruction=" "),
    row("unseen", bbox=BOX, image="none.png"),
    row("scrolls", action="scroll"),
    row("again 1", bbox=BOX, instruction="do it again"),
    row("again 2", bbox=BOX, instruction="do it again"),
    row("here", bbox=BOX, instruction="go there"),
    row("there", bbox=[60, 60, 90, 90], instruction="go there"),
]
STEPS = [
    row("back", action="navigate_back", episode=1),
    row("wait", action="wait", episode=1),
    row("click", bbox=BOX, episode=1),
    row("other 1", action="scroll", episode=2, image="b.png"),
    row("other 2", action="scroll", episode=3, image="b.png"),
]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    for name in "ab":
        Image.new("RGB", (100, 200)).save(tmp_path / f"{name}.png")
    (tmp_path / "clicks.json").write_text(json.dumps(CLICKS))
    (tmp_path / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in STEPS))
    clicks = {"path": str(tmp_path / "clicks.json"), "actions": ["click"], "columns": {"element": "data_type"}}
    steps = {"path": str(tmp_path / "steps.jsonl"), "actions": ["scroll", "navigate_back"], "episodes": 2}
    judge = {"type": "openai", "urls": ["http://127.0.0.1:9/v1"], "model": "untouched", "cache": False}
    return {"judge": judge, "sources": {"phones": clicks, "episodes": steps}, "frame": "original"}


def asked_for(question: Question) -> str:
    [message] = question.messages
    picture, text = message["content"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")  # type: ignore[index]
    return str(text["text"].split("\n")[1])  # type: ignore[index]


def reply(question: Question) -> Reply:
    """Right where the step is called so, silent where it is; thoughts as long as the step's number says."""
    name = asked_for(question).removeprefix("do ")
    if name == "silent":
        return JudgeFailure("timeout", "no answer")
    right = name in ("right", "back")
    payload = {"action": "navigate_back" if name == "back" else "click", "coordinate": [20, 20] if right else [70, 20]}
    thought = "x" * (10 * int(name[-1]) if name[-1].isdigit() else 5)
    return f"<think>{thought}</think><answer>[{payload}]</answer>"


def run(config: dict[str, Any], folder: Path, answer: Any = reply) -> tuple[GuiSelection, int]:
    found = GuiSelectConfig.model_validate(config)
    judge, backend = scripted_judge(answer)
    made = asyncio.run(select(found, *sound(found), judge, folder))
    return made, len(backend.questions)


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_what_comes_in_goes_out_or_is_counted(config: dict[str, Any], tmp_path: Path) -> None:
    made, asked = run(config, tmp_path / "out")
    episodes = {"episodes:other 1", "episodes:other 2", "episodes:back"}
    selected, left = ids(tmp_path / "out/selected.jsonl"), ids(tmp_path / "out/left_out.jsonl")
    everything = {f"phones:{one['id']}" for one in CLICKS} | {f"episodes:{one['id']}" for one in STEPS}
    assert set(selected) | set(left) == everything and len(selected) + len(left) == len(everything) == 21
    counts = dict(made.counts)
    assert counts.pop("steps") == 21 == sum(counts.values())
    assert counts["selected"] == made.selected == len(selected)
    reasons = {line["id"]: line["reason"] for line in map(json.loads, (tmp_path / "out/left_out.jsonl").open())}
    for name, reason in {
        "outside": "box outside",
        "thin": "box malformed",
        "nameless": "no instruction",
        "unseen": "no image",
        "scrolls": "action not taken from there",
        "again 2": "stands twice",
        "here": "asked for in two ways",
        "there": "asked for in two ways",
        "right": "answered rightly",
        "silent": "unanswered",
    }.items():
        assert reasons.pop(f"phones:{name}") == reason
    # Two of three episodes: which ones the seed says, once and for all.
    gone = [one for one, reason in reasons.items() if reason == "of another episode"]
    assert len({one["episode"] for one in STEPS if f"episodes:{one['id']}" in gone}) == 1
    for name, reason in (
        ("wait", "unknown action"),
        ("click", "action not taken from there"),
        ("back", "answered rightly"),
    ):
        assert f"episodes:{name}" in gone or reasons[f"episodes:{name}"] == reason
    assert {one for one in selected if one.startswith("episodes")} <= episodes
    assert asked == 8 + sum(one not in gone for one in episodes)
    assert sum(made.kinds.values()) == made.selected and made.kinds["click icon"] == 3


def test_the_selection_can_be_trained_on(config: dict[str, Any], tmp_path: Path) -> None:
    from rlrules.data.gui import GuiPromptsConfig

    made, _ = run(config, tmp_path / "out")
    rows = GuiPromptsConfig(path=str(tmp_path / "out/selected.jsonl")).load(len).rows
    assert len(rows) == made.selected
    assert {row["action"] for row in rows} == {"click", "scroll"}
    assert {row["element"] for row in rows if row["action"] == "click"} == {"icon", "text", ""}


def test_a_second_run_asks_only_for_what_is_missing(config: dict[str, Any], tmp_path: Path) -> None:
    _, first = run(config, tmp_path / "out")
    _, second = run(config | {"keep": 2}, tmp_path / "out")
    assert first > 1 and second == 1, "the silent one alone"
    assert len(ids(tmp_path / "out/selected.jsonl")) == 2
    with pytest.raises(DataError, match="made with another configuration"):
        run(config | {"think": False}, tmp_path / "out")


def test_a_model_that_answers_nothing(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match=r"none of \d+ questions was answered; the first: judge verifier"):
        run(config, tmp_path / "out", lambda question: JudgeFailure("timeout", "no answer"))


def candidates(*named: tuple[str, str, str]) -> list[Candidate]:
    made = [GuiRow(id_, id_, image, id_, "click", BOX, element) for id_, element, image in named]
    return [Candidate(row.id, row, (100, 200)) for row in made]


def test_diversity_by_hand() -> None:
    lengths = {"a": 50, "b": 40, "c": 30, "d": 20, "e": 10}
    found = candidates(*((id_, "icon" if id_ in "abc" else "text", "1" if id_ in "abd" else "2") for id_ in lengths))

    def chosen(keep: int | None, at_least: int, per_image: int | None = None) -> tuple[str, dict[str, str]]:
        reasons: dict[str, str] = {}
        return "".join(one.id for one in diverse(found, lengths, keep, at_least, per_image, reasons)), reasons

    assert chosen(3, 0)[0] == "abc"
    assert chosen(3, 1)[0] == "abd"
    assert chosen(4, 2)[0] == "abde"
    assert chosen(1, 2)[0] == "a"
    assert chosen(None, 1) == ("abcde", {})
    kept, reasons = chosen(2, 1, per_image=1)
    assert kept == "ac", "d and e are of screenshots already shown"
    assert reasons == dict.fromkeys("bde", "enough of its screenshot")
    assert chosen(3, 0)[1] == dict.fromkeys("de", "thought about more briefly")


def test_sources_that_cannot_be_used(config: dict[str, Any], tmp_path: Path) -> None:
    steps = config["sources"]["episodes"]
    (tmp_path / "steps.jsonl").write_text(json.dumps(STEPS[0]) + "\n" + json.dumps(STEPS[0]) + "\n")
    with pytest.raises(DataError, match=r"steps.jsonl', row 2: the id 'back' stands twice"):
        sound(GuiSelectConfig.model_validate(config))
    (tmp_path / "steps.jsonl").write_text(json.dumps(row("x", action="scroll")) + "\n")
    with pytest.raises(DataError, match="row 1: no `episode`, of which 2 are wanted"):
        sound(GuiSelectConfig.model_validate(config))
    with pytest.raises(ValidationError, match="names of sources hold no colon"):
        GuiSelectConfig.model_validate(config | {"sources": {"a:b": steps}})


def test_pictures_of_a_data_set_become_files(config: dict[str, Any], tmp_path: Path) -> None:
    import datasets

    table = {"image": [Image.new("RGB", (100, 200), "red")], "instruction": ["do 1"], "bbox": [BOX], "id": ["1"]}
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "instruction": datasets.Value("string"),
            "bbox": datasets.Sequence(datasets.Value("int64")),
            "id": datasets.Value("string"),
        }
    )
    datasets.Dataset.from_dict(table, features=features).to_parquet(str(tmp_path / "rows.parquet"))
    config["sources"] = {"hub": {"path": str(tmp_path / "rows.parquet")}}
    found = GuiSelectConfig.model_validate(config)
    judge, _ = scripted_judge(lambda question: "no")
    asyncio.run(select(found, *sound(found), judge, tmp_path / "out"))
    [line] = map(json.loads, (tmp_path / "out/selected.jsonl").open())
    with Image.open(line["img_filename"]) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)


def test_a_served_model_sees_the_screenshots(config: dict[str, Any], tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> str:
        [message] = request["messages"]
        picture, text = message["content"]
        url = picture["image_url"]["url"]
        with Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))) as image:
            assert image.size == (100, 200)
        # "right" is what the step of that name asks for, anything else is wrong.
        place = [20, 20] if "do right" in text["text"] else [99, 199]
        return f"<think>x</think><answer>[{{'action': 'click', 'coordinate': {place}}}]</answer>"

    with FakeServer(answer) as server:
        config["judge"] |= {"urls": [server.url], "retries": 0, "timeout_s": 10}
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        command = ["data", "gui-select", str(tmp_path / "config.yaml"), "keep=3", "-o", str(tmp_path / "out")]
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "3 steps ->" in result.output and "answered rightly" in result.output
    assert len(ids(tmp_path / "out/selected.jsonl")) == 3
    assert "phones:right" not in ids(tmp_path / "out/selected.jsonl")


def test_a_dry_run_asks_nothing(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    result = CliRunner().invoke(app, ["data", "gui-select", str(tmp_path / "config.yaml"), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "21 steps, nothing asked" in result.output and "stands twice" in result.output
