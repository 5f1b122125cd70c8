"""Rows with images as a data set: what is stored is small, the pixels are made when a row is taken."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from rlrules.images import open_image, references

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = "images"
"""The column that TRL takes images from, in the order of a prompt's image parts."""

# A prompt's rows stand next to each other in a batch; more than a batch's worth is never asked for again.
_KEPT = 256


def dataset_of(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """Rows as a data set; where prompts hold images, TRL's column with them is filled as rows are taken.

    A row's images depend on its references alone, so all ranks, workers and resumed runs see the same.
    """
    if not any(references(row["prompt"]) for row in rows if not isinstance(row.get("prompt", ""), str)):
        return Dataset.from_list(list(rows))
    # As numbers of rows: Arrow would give all parts of all prompts the same keys, and all answers one type.
    return Dataset.from_dict({"row": list(range(len(rows)))}).with_transform(_Rows(rows))


class _Rows:
    """Makes a batch of rows of their numbers; one image for all completions of a prompt.

    Args:
        rows: All of them.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows
        self._drawn: OrderedDict[int, list[Image]] = OrderedDict()

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        taken = [self._rows[number] for number in batch["row"]]
        names = dict.fromkeys(key for row in taken for key in row)
        columns = {name: [row.get(name) for row in taken] for name in names}
        return columns | {IMAGES: [self._images(number) for number in batch["row"]]}

    def _images(self, number: int) -> "list[Image]":
        if number not in self._drawn:
            self._drawn[number] = [open_image(found) for found in references(self._rows[number]["prompt"])]
            if len(self._drawn) > _KEPT:
                self._drawn.popitem(last=False)
        return list(self._drawn[number])
