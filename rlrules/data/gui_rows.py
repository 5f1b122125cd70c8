"""Single steps on screenshots, as files and data sets hold them: an instruction, and a box to click or an action."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrules.data.rows import Row, open_dataset, read_rows
from rlrules.errors import DataError
from rlrules.images import Reference, open_image
from rlrules.rewards.gui_frames import numbers
from rlrules.rewards.gui_parse import ACTIONS

PUBLISHED_IMAGE = "img_filename"
"""UI-R1's name of the column with images; its others are named as here."""

_OURS = ("image", "instruction", "bbox", "action", "element", "episode", "id")


@dataclass(frozen=True, slots=True)
class GuiRow:
    """One step.

    Attributes:
        id: Its own.
        where: Its place, for messages.
        image: Names the screenshot.
        instruction: What is to be done.
        action: As the row has it; with a box it is a click.
        bbox: {left, top, right, bottom} in the screenshot's pixels; None for other actions.
        element: What a click is for, where the row says: "icon", "text".
        episode: What the step is part of, where the row says.
    """

    id: str
    where: str
    image: Reference
    instruction: str
    action: Any
    bbox: Any
    element: str = ""
    episode: str = ""

    def problem(self, size: tuple[int, int]) -> str:
        """Why the step cannot be learned from, in words; empty where it can.

        Args:
            size: Of the screenshot, in pixels.
        """
        return self.fault(size)[1]

    def fault(self, size: tuple[int, int]) -> tuple[str, str]:
        """The same: its kind, to count by, and the words."""
        if not self.instruction:
            return "no instruction", "`instruction` is empty"
        if self.bbox is None:
            if self.action == "click":
                return "no box", "`bbox` is missing: a click needs one"
            if self.action not in ACTIONS:
                return "unknown action", f"`action`: {self.action!r} is none of {', '.join(ACTIONS)}"
            return "", ""
        box = numbers(self.bbox, 4)
        if box is None:
            return "box malformed", f"`bbox`: expected {{left, top, right, bottom}}, got {self.bbox!r}"
        if box[2] - box[0] < 1 or box[3] - box[1] < 1:
            told = f"`bbox`: {self.bbox} is less than a pixel wide or high; expected left, top, right, bottom in pixels"
            return "box malformed", told
        if min(box) < 0 or box[2] > size[0] or box[3] > size[1]:
            return "box outside", f"`bbox`: {self.bbox} leaves the image of {size[0]} x {size[1]}"
        return "", ""


def read_gui_rows(path: str, split: str, columns: Mapping[str, str], images: str | None) -> list[GuiRow]:
    """All steps of a file or a data set; screenshots are only named.

    Args:
        path: JSON, JSONL, CSV or parquet, a folder, or a data set on the hub.
        split: Likewise.
        columns: Our name -> the data's, of image, instruction, bbox, action, element, episode and id.
        images: Folder that image paths are relative to; None: the file's own.

    Raises:
        DataError: The data cannot be had, or a row lacks its image or its instruction.
    """
    rows, pictured = _read(path, split)
    there = dict.fromkeys(name for row in rows for name in row) | dict.fromkeys(pictured)
    names = {name: columns.get(name, name) for name in _OURS}
    if "image" not in columns and PUBLISHED_IMAGE in there:
        names["image"] = PUBLISHED_IMAGE
    wanted = {"image", "instruction", *columns}
    for name in sorted(wanted):
        if name not in _OURS:
            raise DataError(f"columns: {name!r} is none of {', '.join(_OURS)}")
        if names[name] not in there:
            raise DataError(f"data {path!r}: no column {names[name]!r} (there: {', '.join(there)})")
    folder = Path(images) if images is not None else Path(path).parent
    made: list[GuiRow] = []
    for number, row in enumerate(rows):
        found = {name: row.get(theirs) for name, theirs in names.items()}
        where = f"data {path!r}, row {number + 1}"
        if names["image"] in pictured:
            named = {"type": "hub_image", "path": path, "split": split, "column": names["image"], "index": number}
            made.append(_row(found, named, where))
        elif isinstance(found["image"], str) and found["image"]:
            made.append(_row(found, str(folder / found["image"]), where))
        else:
            raise DataError(f"{where}: `{names['image']}`: expected a path, got {found['image']!r}")
    return made


def screenshot_size(row: GuiRow) -> tuple[int, int]:
    """Width and height of a row's screenshot, in pixels; of a file only its head is read.

    Raises:
        DataError: There is no such image.
    """
    from PIL import Image

    if not isinstance(row.image, str):
        return open_image(row.image).size
    try:
        with Image.open(row.image) as file:
            return file.size
    except (OSError, Image.DecompressionBombError) as error:
        told = getattr(error, "strerror", None) or error
        raise DataError(f"{row.where}: image {row.image}: {told}") from error


def _read(path: str, split: str) -> tuple[Sequence[Row], list[str]]:
    """All rows without their pictures, and the columns that these are in."""
    if path.endswith(".jsonl"):
        return read_rows(path), []
    import datasets

    found = open_dataset(path, split)
    pictured = [name for name, feature in found.features.items() if isinstance(feature, datasets.Image)]
    return list(found.remove_columns(pictured)), pictured


def _row(found: Mapping[str, Any], image: Reference, where: str) -> GuiRow:
    instruction, told = found["instruction"], found["id"]
    if instruction is not None and not isinstance(instruction, str):
        raise DataError(f"{where}: `instruction`: expected text, got {type(instruction).__name__}")
    return GuiRow(
        id=where if told is None else str(told),
        where=where,
        image=image,
        instruction=" ".join((instruction or "").split()),
        action="click" if found["bbox"] is not None else found["action"],
        bbox=found["bbox"],
        element=str(found["element"] or ""),
        episode="" if found["episode"] is None else str(found["episode"]),
    )
