"""Steps on screenshots as prompts: UI-R1's form, what is refused in it, and what a model is asked."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from rlrules.data.gui import GuiPromptsConfig
from rlrules.data.gui_rows import read_gui_rows
from rlrules.errors import DataError
from rlrules.images import open_image, references
from rlrules.rewards.gui import GuiConfig

CLICK = {"img_filename": "a.png", "instruction": "tap  the\nuser's icon", "bbox": [1, 2, 30, 40]}
BACK = {"img_filename": "b.png", "instruction": "go back", "action": "navigate_back"}


def written(folder: Path, *rows: dict[str, Any], name: str = "rows.json") -> str:
    for number, image in enumerate("ab"):
        Image.new("RGB", (100 + number, 200), (number, 0, 0)).save(folder / f"{image}.png")
    path = folder / name
    path.write_text(json.dumps(list(rows)) if name.endswith(".json") else "".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def load(path: str, **fields: Any) -> list[Any]:
    return list(GuiPromptsConfig(path=path, **fields).load(len).rows)


def question(row: Any) -> str:
    return str(row["prompt"][0]["content"][1]["text"])


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_the_published_form(tmp_path: Path, name: str) -> None:
    rows = load(written(tmp_path, CLICK, BACK, name=name))
    assert [row["action"] for row in rows] == ["click", "navigate_back"]
    assert [row["bbox"] for row in rows] == [[1, 2, 30, 40], None]
    assert [row["image_size"] for row in rows] == [[100, 200], [101, 200]]
    assert [references(row["prompt"]) for row in rows] == [[str(tmp_path / "a.png")], [str(tmp_path / "b.png")]]
    assert rows[0]["instruction"] == "tap the user's icon" and "\ntap the user's icon\n" in question(rows[0])
    reward = GuiConfig()
    assert [reward.row_problem(row) for row in rows] == ["", ""]
    json.dumps(rows)


def test_a_box_makes_it_a_click(tmp_path: Path) -> None:
    assert load(written(tmp_path, CLICK | {"action": "scroll"}))[0]["action"] == "click"


def test_a_data_set_with_pictures_in_it(tmp_path: Path) -> None:
    import datasets

    pictures = [Image.new("RGB", (90, 160), (0, number, 0)) for number in range(2)]
    table = {"picture": pictures, "task": ["tap it", "scroll on"], "bbox": [[0, 0, 9, 9], None], "kind": ["icon", None]}
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "task": datasets.Value("string"),
            "bbox": datasets.Sequence(datasets.Value("int64")),
            "kind": datasets.Value("string"),
        }
    )
    made = datasets.Dataset.from_dict(table, features=features)
    made = made.add_column("action", ["click", "scroll"])
    made.to_parquet(str(tmp_path / "rows.parquet"))
    columns = {"image": "picture", "instruction": "task", "element": "kind"}
    rows = load(str(tmp_path / "rows.parquet"), columns=columns)
    assert [(row["action"], row["element"], row["image_size"]) for row in rows] == [
        ("click", "icon", [90, 160]),
        ("scroll", "", [90, 160]),
    ]
    assert [open_image(references(row["prompt"])[0]).getpixel((0, 0)) for row in rows] == [(0, 0, 0), (0, 1, 0)]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (CLICK | {"bbox": [5, 2, 5, 40]}, "row 2: `bbox`: [5, 2, 5, 40] is less than a pixel wide or high"),
        (CLICK | {"bbox": [0.1, 0.2, 0.3, 0.4]}, "less than a pixel wide or high; expected left, top, right, bottom"),
        (CLICK | {"bbox": [1, 2, 101, 40]}, "row 2: `bbox`: [1, 2, 101, 40] leaves the image of 100 x 200"),
        (CLICK | {"bbox": [1, 2, 3]}, "row 2: `bbox`: expected {left, top, right, bottom}, got [1, 2, 3]"),
        (CLICK | {"instruction": " "}, "row 2: `instruction` is empty"),
        (CLICK | {"bbox": None, "action": "click"}, "row 2: `bbox` is missing: a click needs one"),
        (BACK | {"action": "wait"}, "row 2: `action`: 'wait' is none of open_app, click, scroll"),
        (BACK | {"action": None}, "row 2: `action`: None is none of"),
        (CLICK | {"img_filename": "none.png"}, "none.png: No such file"),
        (CLICK | {"img_filename": None}, "row 2: `img_filename`: expected a path, got None"),
        (CLICK | {"instruction": 5}, "row 2: `instruction`: expected text, got int"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError) as error:
        load(written(tmp_path, BACK, row, name="rows.jsonl"))
    assert told in str(error.value) and "\n" not in str(error.value)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, CLICK)
    with pytest.raises(DataError, match=r"no column 'kind' \(there: img_filename, instruction, bbox\)"):
        read_gui_rows(path, "train", {"element": "kind"}, None)
    with pytest.raises(DataError, match="columns: 'box' is none of image, instruction"):
        read_gui_rows(path, "train", {"box": "bbox"}, None)


def test_what_is_asked(tmp_path: Path) -> None:
    path = written(tmp_path, CLICK, BACK)
    text = question(load(path)[0])
    assert "open_app, click, scroll, input_text, navigate_back" in text
    assert "<think>...</think><answer>[{'action': 'ACTION', 'coordinate': [x, y]}]</answer>" in text
    assert "pixels of the picture as you see it" in text
    # The order of the specification's section 3.
    places = [
        text.index(part) for part in ("screenshot", "user's icon", "Choose", "click, say where", "<think>", "Keep")
    ]
    assert places == sorted(places)
    direct = GuiPromptsConfig(path=path, think=False, actions=["click"], answer="box", frame="original").load(len)
    [row] = direct.rows
    assert direct.dropped == {"actions": 1, "max_prompt_tokens": 0}
    assert "<think>" not in question(row) and "The action is click." in question(row)
    assert "<answer>[{'action': 'click', 'bbox': [left, top, right, bottom]}]</answer>" in question(row)
    assert "100 wide and 200 high" in question(row)
    assert "thousandths" in question(load(path, frame="normalized_1000")[0])
    [back] = load(path, actions=["navigate_back"])
    assert "[{'action': 'navigate_back'}]" in question(back) and "say where" not in question(back)


def test_a_reward_that_reads_something_else_than_is_asked_is_told(tmp_path: Path) -> None:
    [row] = load(written(tmp_path, CLICK), think=False, frame="original")
    assert GuiConfig(think=False, frame="original").row_problem(row) == ""
    assert GuiConfig().row_problem(row) == "the prompt asks for `think: False`, the reward for `think: True`"
    assert "`frame: original`" in GuiConfig(think=False).row_problem(row)


def test_screens() -> None:
    config = GuiPromptsConfig.model_validate({"screens": {"count": 12, "width": 216, "height": 480, "seed": 3}})
    rows = config.load(len).rows
    assert rows == config.load(len).rows and len({row["id"] for row in rows}) == 12
    reward = GuiConfig()
    for row in rows:
        assert reward.row_problem(row) == ""
        [named] = references(row["prompt"])
        assert open_image(named).size == tuple(row["image_size"]) == (216, 480)


def test_one_source() -> None:
    for fields in ({}, {"path": "a.json", "screens": {}}):
        with pytest.raises(ValidationError, match="give either `path` or `screens`"):
            GuiPromptsConfig.model_validate(fields)
    with pytest.raises(ValidationError, match="actions: one stands twice in click, click"):
        GuiPromptsConfig(path="a.json", actions=["click", "click"])
