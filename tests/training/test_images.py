"""Rows with images on their way to TRL: drawn when taken, once a prompt, and never in a log."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rlrules.data.prompts import FilePromptsConfig
from rlrules.errors import DataError
from rlrules.images import data_url, image_part, open_image, references
from rlrules.training import images
from rlrules.training.images import dataset_of
from rlrules.training.scoring import Batch
from rlrules.types import Progress


def rows(folder: Path) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for number, answer in enumerate(([2, 1], "B", 0.5)):
        path = folder / f"{number}.png"
        Image.new("RGB", (8 + number, 6), (number, 2, 3)).save(path)
        parts = [image_part(str(path)), {"type": "text", "text": f"Question {number}?"}]
        made.append({"prompt": [{"role": "user", "content": parts}], "answer": answer})
    return made


def test_images_come_when_a_row_is_taken_and_once_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(images, "open_image", lambda found: opened.append(found) or open_image(found))
    made = dataset_of(rows(tmp_path))
    assert len(made) == 3 and not opened
    batch = made.__getitems__([2, 2, 0, 2])
    assert [row["images"][0].size for row in batch] == [(10, 6), (10, 6), (8, 6), (10, 6)]
    assert len(opened) == 2
    assert [row["answer"] for row in batch] == [0.5, 0.5, [2, 1], 0.5], "answers keep their types"
    assert batch[0]["prompt"] == rows(tmp_path)[2]["prompt"]


def test_rows_of_text_stay_a_table() -> None:
    made = dataset_of([{"prompt": "a", "n": 1}, {"prompt": [{"role": "user", "content": "b"}], "n": 2}][:1])
    assert made.column_names == ["prompt", "n"]
    assert made[0] == {"prompt": "a", "n": 1}


def test_groups_hold_references_and_no_pixels(tmp_path: Path) -> None:
    inputs = dataset_of(rows(tmp_path)).__getitems__([1, 1])
    batch = Batch(inputs, ["x", "y"], [[1], [2]], 2, Progress(), "train", frozenset({1, 2}))
    [group] = batch.groups()
    assert references(group.prompt) == [str(tmp_path / "1.png")]
    assert dict(group.row) == {"answer": "B"}
    json.dumps([group.prompt, group.row])


def test_a_file_of_prompts_may_hold_images(tmp_path: Path) -> None:
    made = rows(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    counted: list[str] = []
    config = FilePromptsConfig(path=str(tmp_path / "rows.jsonl"), max_prompt_tokens=100)
    found = config.load(lambda text: counted.append(text) or len(text))
    assert [row["prompt"] for row in found.rows] == [row["prompt"] for row in made]
    assert counted[0] == "[image]\nQuestion 0?", "a reference is not what the model reads"


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("text")
    for reference, complaint in (
        (str(tmp_path / "none.png"), "No such file"),
        (str(tmp_path / "no.png"), "cannot identify"),
        ({"type": "hologram"}, "image of type 'hologram': known are"),
    ):
        with pytest.raises(DataError, match=complaint):
            open_image(reference)
    with pytest.raises(DataError, match="an image part needs a `reference`"):
        references([{"role": "user", "content": [{"type": "image"}]}])


def test_as_a_url(tmp_path: Path) -> None:
    rows(tmp_path)
    assert data_url(str(tmp_path / "0.png")).startswith("data:image/png;base64,iVBORw0KGgo")
