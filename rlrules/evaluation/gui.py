"""GUI agents: does a click hit its element (ScreenSpot), is a step right (AndroidControl)?

Every sample counts: what cannot be read is a miss. Points are in the frame of the image that the model saw, which
each line names, and are scaled to the image that targets are in.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlrules.errors import DataError
from rlrules.evaluation.files import need
from rlrules.evaluation.stats import RESAMPLES, bootstrap

ACTIONS = ("open_app", "click", "scroll", "input_text", "navigate_back")
TOLERANCE = 0.14
"""A click is right within this share of the screen's width."""

_ARGUMENTS = {"open_app": "app_name", "scroll": "direction", "input_text": "text"}
Size = tuple[float, float]


def scaled(point: Sequence[float], seen: Size | None, target: Size | None) -> tuple[float, float]:
    """A point of the image that was seen, in the target's image; unchanged where no sizes are given."""
    if seen is None or target is None:
        return float(point[0]), float(point[1])
    return point[0] * target[0] / seen[0], point[1] * target[1] / seen[1]


def in_box(point: Sequence[float], box: Sequence[float]) -> bool:
    """Whether a point lies in {left, top, right, bottom}, edges included."""
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def grounding_metrics(
    rows: Iterable[tuple[str, Mapping[str, Any]]], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Hit rates by platform and kind of element, and over all samples.

    Args:
        rows: {id, box, point or null, platform?, element?, seen_size?, image_size?}; a point that is null, or no two
            numbers, could not be read.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        DataError: A column is missing or malformed, or an id stands twice.
    """
    hits: dict[str, list[float]] = defaultdict(list)
    unread = 0
    for where, row in _unique(rows, ("id", "box", "point")):
        point = _point(row["point"])
        unread += point is None
        box = _numbers(row["box"], 4, "box", where)
        hit = point is not None and in_box(scaled(point, *_sizes(row, where)), box)
        hits[f"{row.get('platform', 'all')} {row.get('element', 'all')}"].append(float(hit))
    every = [hit for part in hits.values() for hit in part]
    found = bootstrap(every, resamples=resamples, seed=seed)
    return {
        "accuracy": found.value,
        "n": len(every),
        "n_unreadable": unread,
        "by_kind": {name: {"accuracy": sum(part) / len(part), "n": len(part)} for name, part in sorted(hits.items())},
        "intervals": {"accuracy": found.record()} if resamples else {},
    }


def action_metrics(
    rows: Iterable[tuple[str, Mapping[str, Any]]], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Accuracy of types, of clicks among true clicks, and of whole steps.

    A click is right within 14 % of the screen: by width in both directions, or with x and y each in its own unit,
    which is looser on tall screens; both are given, the step counts the first.

    Args:
        rows: {id, target: {action, …}, predicted: {action, …} or null, image_size, seen_size?}; of an action count
            `point` (click), `app_name` (open_app), `direction` (scroll) and `text` (input_text). A predicted click
            without two numbers for a point could not be read.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        DataError: A column is missing or malformed, an id stands twice, or a target's action is unknown.
    """
    types: list[float] = []
    steps: list[float] = []
    clicks: dict[str, list[float]] = {"width": [], "normalized": []}
    kinds: Counter[str] = Counter()
    unread = 0
    for where, row in _unique(rows, ("id", "target", "predicted")):
        target, predicted = row["target"], row["predicted"]
        if not isinstance(target, Mapping) or target.get("action") not in ACTIONS:
            raise DataError(f"{where}: `target`: expected an action of {', '.join(ACTIONS)}")
        kinds[target["action"]] += 1
        readable = isinstance(predicted, Mapping)
        unread += not readable
        same = readable and predicted.get("action") == target["action"]
        types.append(float(same))
        if target["action"] != "click":
            steps.append(float(same and _same_argument(target, predicted)))
            continue
        point = _point(predicted.get("point")) if same else None
        unread += same and point is None
        near = _near(target, point, row, where)
        for name, hit in near.items():
            clicks[name].append(float(hit))
        steps.append(float(near["width"]))
    step, kind = (bootstrap(part, resamples=resamples, seed=seed) for part in (steps, types))
    return {
        "type_accuracy": kind.value,
        "grounding_accuracy": _mean(clicks["width"]),
        "grounding_accuracy_normalized": _mean(clicks["normalized"]),
        "step_accuracy": step.value,
        "n": len(types),
        "n_clicks": len(clicks["width"]),
        "n_unreadable": unread,
        "actions": dict(kinds),
        "intervals": {"type_accuracy": kind.record(), "step_accuracy": step.record()} if resamples else {},
    }


def _near(
    target: Mapping[str, Any], predicted: Sequence[float] | None, row: Mapping[str, Any], where: str
) -> dict[str, bool]:
    seen, size = _sizes(row, where)
    if size is None:
        raise DataError(f"{where}: `image_size`: is missing; a click's tolerance is a share of it")
    wanted = _numbers(target.get("point"), 2, "target.point", where)
    if predicted is None:
        return {"width": False, "normalized": False}
    point = scaled(predicted, seen or size, size)
    across, down = point[0] - wanted[0], point[1] - wanted[1]
    return {
        "width": math.hypot(across, down) < TOLERANCE * size[0],
        "normalized": math.hypot(across / size[0], down / size[1]) < TOLERANCE,
    }


def _same_argument(target: Mapping[str, Any], predicted: Mapping[str, Any]) -> bool:
    name = _ARGUMENTS.get(target["action"])
    if name is None:
        return True
    return str(target.get(name, "")).strip().casefold() == str(predicted.get(name, "")).strip().casefold()


def _unique(
    rows: Iterable[tuple[str, Mapping[str, Any]]], names: Sequence[str]
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    seen: set[Any] = set()
    for where, row in rows:
        need(row, names, where)
        if isinstance(row["id"], bool) or not isinstance(row["id"], str | int):
            raise DataError(f"{where}: `id`: expected text or an integer, got {row['id']!r}")
        if row["id"] in seen:
            raise DataError(f"{where}: `id`: {row['id']!r} stands more than once")
        seen.add(row["id"])
        yield where, row
    if not seen:
        raise DataError("no predictions")


def _sizes(row: Mapping[str, Any], where: str) -> tuple[Size | None, Size | None]:
    seen, target = (
        None if row.get(name) is None else _numbers(row[name], 2, name, where) for name in ("seen_size", "image_size")
    )
    for name, size in (("seen_size", seen), ("image_size", target)):
        if size is not None and min(size) <= 0:
            raise DataError(f"{where}: `{name}`: expected a width and a height over 0, got {row[name]!r}")
    if seen is not None and target is None:
        raise DataError(f"{where}: `image_size`: is missing beside `seen_size`")
    return (seen and (seen[0], seen[1])), (target and (target[0], target[1]))  # type: ignore[return-value]


def _point(value: Any) -> list[float] | None:
    """A predicted point; None where it is no two numbers, which is a miss and not the file's fault."""
    return [float(part) for part in value] if _are_numbers(value, 2) else None


def _numbers(value: Any, count: int, name: str, where: str) -> list[float]:
    if not _are_numbers(value, count):
        raise DataError(f"{where}: `{name}`: expected {count} numbers, got {value!r}")
    return [float(part) for part in value]


def _are_numbers(value: Any, count: int) -> bool:
    if not isinstance(value, list | tuple) or len(value) != count:
        return False
    return all(isinstance(part, int | float) and type(part) is not bool and math.isfinite(part) for part in value)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
