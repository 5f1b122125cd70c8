"""Points and boxes on images."""

from collections.abc import Sequence

Size = tuple[float, float]
"""Width and height."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def in_box(point: Sequence[float], box: Sequence[float]) -> bool:
    """Whether a point lies in a box, edges included."""
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def scaled(point: Sequence[float], seen: Size | None, target: Size | None) -> tuple[float, float]:
    """A point of the image that was seen, in the target's image; unchanged where no sizes are given."""
    if seen is None or target is None:
        return float(point[0]), float(point[1])
    return point[0] * target[0] / seen[0], point[1] * target[1] / seen[1]


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes, as continuous areas."""
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(across, 0.0) * max(down, 0.0)
    whole = sum(abs((box[2] - box[0]) * (box[3] - box[1])) for box in (first, second)) - shared
    return shared / whole if whole > 0 else 0.0
