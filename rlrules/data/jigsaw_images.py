"""Images cut into pieces and put together again in another order (Jigsaw-R1, sections 3.1 and A.2).

Cells and pieces are numbered from 1, row by row from the top left. An arrangement says, for every cell, which piece it
shows: the one whose home is that number.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlrules.images import Reference, open_image

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
"""Shape (height, width, 3)."""
Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels; the last two are the first that are outside."""


def puzzle(source: Reference, rows: int, columns: int, arrangement: Sequence[int], mask: float) -> dict[str, Any]:
    """The reference of a puzzle; `draw_puzzle` draws it."""
    grid = {"m": rows, "n": columns, "arrangement": list(arrangement)}
    return {"type": "jigsaw", "source": source, **grid} | ({"mask": mask} if mask else {})


def patches(
    source: Reference, boxes: Sequence[Box], shown: Sequence[int], grid: tuple[int, int, float]
) -> dict[str, Any]:
    """The reference of an image whose patches have changed places.

    Args:
        source: The image.
        boxes: Where patches of one size are.
        shown: For every box, the number (from 1) of the one whose patch it shows.
        grid: Rows, columns and mask of the regions that the boxes are in.
    """
    rows, columns, mask = grid
    made = {"type": "jigsaw_patches", "source": source, "m": rows, "n": columns}
    return made | {"boxes": [list(box) for box in boxes], "shown": list(shown)} | ({"mask": mask} if mask else {})


def draw_puzzle(reference: Mapping[str, Any]) -> "Image":
    """Draw a puzzle: trimmed, cut, put in its order, its pieces' borders blackened where a mask is asked for.

    Args:
        reference: Of `puzzle`.
    """
    from PIL import Image

    rows, columns = int(reference["m"]), int(reference["n"])
    whole = trimmed(np.asarray(open_image(reference["source"])), rows, columns)
    shuffled = arranged(whole, rows, columns, reference["arrangement"])
    return Image.fromarray(masked(shuffled, rows, columns, reference.get("mask", 0.0)))


def draw_patches(reference: Mapping[str, Any]) -> "Image":
    """Draw an image whose patches have changed places; here the mask comes first, so that patches stay whole.

    Args:
        reference: Of `patches`.
    """
    from PIL import Image

    rows, columns = int(reference["m"]), int(reference["n"])
    whole = trimmed(np.asarray(open_image(reference["source"])), rows, columns)
    drawn = masked(whole, rows, columns, reference.get("mask", 0.0)).copy()
    cut = [whole[top:bottom, left:right] for left, top, right, bottom in reference["boxes"]]
    for (left, top, right, bottom), number in zip(reference["boxes"], reference["shown"], strict=True):
        drawn[top:bottom, left:right] = cut[number - 1]
    return Image.fromarray(drawn)


def trimmed_size(width: int, height: int, rows: int, columns: int) -> tuple[int, int]:
    """Width and height of the part that can be cut into equal pieces: the right and the bottom edge fall."""
    return width // columns * columns, height // rows * rows


def trimmed(pixels: Pixels, rows: int, columns: int) -> Pixels:
    """The part that can be cut into equal pieces."""
    width, height = trimmed_size(pixels.shape[1], pixels.shape[0], rows, columns)
    return pixels[:height, :width]


def pieces(pixels: Pixels, rows: int, columns: int) -> Pixels:
    """All pieces of a trimmed image, shape (rows * columns, height / rows, width / columns, 3)."""
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    cut = pixels.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
    return cut.reshape(rows * columns, height, width, 3)


def arranged(pixels: Pixels, rows: int, columns: int, arrangement: Sequence[int]) -> Pixels:
    """A trimmed image with its pieces in an order."""
    chosen = pieces(pixels, rows, columns)[[piece - 1 for piece in arrangement]]
    height, width = chosen.shape[1:3]
    return chosen.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)


def masked(pixels: Pixels, rows: int, columns: int, ratio: float) -> Pixels:
    """A trimmed image with its pieces' borders black: int(side * ratio) at the image's edges, half of it at seams."""
    if not ratio:
        return pixels
    keep_rows = _kept(pixels.shape[0] // rows, rows, ratio)
    keep_columns = _kept(pixels.shape[1] // columns, columns, ratio)
    return pixels * (keep_rows[:, None] & keep_columns[None, :])[:, :, None]


def _kept(side: int, count: int, ratio: float) -> NDArray[np.bool_]:
    lost = int(side * ratio)
    kept = np.ones(side * count, dtype=bool)
    for number in range(count):
        start, end = number * side, (number + 1) * side
        kept[start : start + (lost if number == 0 else lost // 2)] = False
        kept[end - (lost if number == count - 1 else lost // 2) : end] = False
    return kept
