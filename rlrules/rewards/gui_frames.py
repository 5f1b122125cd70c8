"""In which image's units a model writes its coordinates, and how the Qwen2-VL processors resize what it sees."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rlrules.rewards.base import unpacked
from rlrules.rewards.boxes import Size

Frame = Literal["resized", "original", "normalized_1000"]
"""Pixels of the image as the processor resizes it, pixels of the image itself, or thousandths of its sides."""

FACTOR = 28
MIN_PIXELS = 3136
MAX_PIXELS = 12_845_056
MAX_RATIO = 200


def smart_resize(
    width: int, height: int, factor: int = FACTOR, min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """Width and height, in pixels, that the processors of Qwen2-VL and Qwen2.5-VL give an image.

    The nearest multiples of `factor` (halves to the even one), or where their product leaves the bounds, those of the
    image scaled to the bound. `tests/rewards/test_gui_frames.py` holds it to the processor in transformers.

    Args:
        width: Of the image, in pixels.
        height: Likewise.
        factor: Patch size times the side of a merged square of patches.
        min_pixels: Fewest pixels.
        max_pixels: Most pixels.

    Raises:
        ValueError: One side is over 200 times the other.
    """
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"{width} x {height}: one side is over {MAX_RATIO} times the other")
    sides = [round(side / factor) * factor for side in (width, height)]
    if sides[0] * sides[1] > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        sides = [max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height)]
    elif sides[0] * sides[1] < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        sides = [math.ceil(side * grow / factor) * factor for side in (width, height)]
    return sides[0], sides[1]


def numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """A value's `count` finite numbers; None where it is anything else. Truth values are no numbers."""
    if (
        not isinstance(value, list | tuple)
        or len(value) != count
        or not all(type(part) in (int, float) for part in value)
    ):
        return None
    try:
        found = tuple(float(part) for part in value)
    except OverflowError:
        return None
    return found if all(map(math.isfinite, found)) else None


def size_of(row: Mapping[str, Any], column: str) -> Size | None:
    """A row's {width, height}; None where it is no two numbers over 0."""
    found = numbers(unpacked(row.get(column)), 2)
    return (found[0], found[1]) if found and min(found) > 0 else None


def seen_size(frame: Frame, image: Size, resized: Sequence[float] | None, bounds: tuple[int, int, int]) -> Size | None:
    """The image's width and height in units of `frame`; None for the image's own.

    Args:
        frame: Which units.
        image: Width and height in pixels.
        resized: Those after the processor, where they are known.
        bounds: Factor, fewest and most pixels: what they are computed with otherwise.

    Raises:
        ValueError: The processor refuses an image of this shape.
    """
    if frame == "original":
        return None
    if frame == "normalized_1000":
        return 1000.0, 1000.0
    if resized is not None:
        return float(resized[0]), float(resized[1])
    width, height = smart_resize(int(image[0]), int(image[1]), *bounds)
    return float(width), float(height)
