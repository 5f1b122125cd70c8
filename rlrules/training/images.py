"""Rows with images as a data set: what is stored is small, the pixels are made when a row is taken."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from rlrules.data.vision_rows import REFERENCES
from rlrules.images import Reference, open_image, references

if TYPE_CHECKING:
    from PIL.Image import Image

Row = Mapping[str, Any]
Held = Callable[[Row], Sequence[Reference] | None]

IMAGES = "images"
"""The column that TRL takes images from, in the order of a prompt's image parts."""

KEPT = 256
"""Of how many rows images are kept: a prompt's rows stand next to each other, and none is asked for again later."""


def in_prompt(row: Row) -> Sequence[Reference] | None:
    """The images in a prompt's parts; None where it has none."""
    return None if isinstance(row.get("prompt", ""), str) else references(row["prompt"]) or None


def in_column(row: Row) -> Sequence[Reference] | None:
    """The images that a row of `vision_rows` names, of which it may have none; None of any other row."""
    found: Sequence[Reference] | None = row.get(REFERENCES)
    return found


def dataset_of(rows: Sequence[Row], held: Held = in_prompt, kept: int = KEPT) -> Dataset:
    """Rows as a data set; where they hold images, TRL's column with them is filled as rows are taken.

    A row's images depend on its references alone, so all ranks, workers and resumed runs see the same.

    Args:
        rows: What is trained on.
        held: Gives the images of a row.
        kept: Of how many rows images are kept; 0 where each is taken once.
    """
    if all(held(row) is None for row in rows):
        return Dataset.from_list(list(rows))
    # As numbers of rows: Arrow would give all parts of all prompts the same keys, and all answers one type.
    return Dataset.from_dict({"row": list(range(len(rows)))}).with_transform(_Rows(rows, held, kept))


class _Rows:
    """Makes a batch of rows of their numbers; one image for all completions of a prompt.

    Args:
        rows: All of them.
        held: Gives the images of a row.
        kept: Of how many rows images are kept.
    """

    def __init__(self, rows: Sequence[Row], held: Held, kept: int) -> None:
        self._rows = rows
        self._held = held
        self._kept = kept
        self._drawn: OrderedDict[int, list[Image]] = OrderedDict()

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        taken = [self._rows[number] for number in batch["row"]]
        names = dict.fromkeys(key for row in taken for key in row)
        columns = {name: [row.get(name) for row in taken] for name in names}
        return columns | {IMAGES: [self._images(number) for number in batch["row"]]}

    def _images(self, number: int) -> "list[Image]":
        found = self._drawn.get(number)
        if found is None:
            found = self._drawn[number] = [open_image(one) for one in self._held(self._rows[number]) or ()]
            if len(self._drawn) > self._kept:
                self._drawn.popitem(last=False)
        return list(found)
