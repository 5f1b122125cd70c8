"""GUI agents: does a click hit its element (ScreenSpot), is a step right (AndroidControl)?

Every sample counts: what cannot be read is a miss. Points are in the frame of the image that the model saw, which
each line names, and are scaled to the image that targets are in. Whole responses are read as the reward reads them.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlrules.errors import DataError
from rlrules.evaluation.files import need
from rlrules.evaluation.stats import RESAMPLES, bootstrap
from rlrules.rewards.boxes import Size, in_box, scaled
from rlrules.rewards.gui_frames import numbers
from rlrules.rewards.gui_parse import ACTIONS, read_action

TOLERANCE = 0.14
"""A click is right within this share of the screen's width."""

_ARGUMENTS = {"open_app": "app_name", "scroll": "direction", "input_text": "text"}


def grounding_metrics(
    rows: Iterable[tuple[str, Mapping[str, Any]]], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Hit rates by platform and kind of element, and over all samples.

    Args:
        rows: {id, box, point or null, platform?, element?, seen_size?, image_size?, tokens?}; a point that is null,
            or no two numbers, could not be read. In place of `point`: `response`, a model's text.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        DataError: A column is missing or malformed, or an id stands twice.
    """
    hits: dict[str, list[float]] = defaultdict(list)
    unread = 0
    tokens: list[float] = []
    problems: Counter[str] = Counter()
    for where, row in _unique(rows, ("id", "box"), "point", problems):
        tokens += _tokens(row, where)
        point = numbers(row["point"], 2)
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
        **_of_responses(problems, tokens),
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
        rows: {id, target: {action, …}, predicted: {action, …} or null, image_size, seen_size?, tokens?}; of an action
            count `point` (click), `app_name` (open_app), `direction` (scroll) and `text` (input_text). A predicted
            click without two numbers for a point could not be read. In place of `predicted`: `response`, a text.
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
    tokens: list[float] = []
    problems: Counter[str] = Counter()
    for where, row in _unique(rows, ("id", "target"), "predicted", problems):
        tokens += _tokens(row, where)
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
        point = numbers(predicted.get("point"), 2) if same else None
        unread += same and point is None
        for name, hit in _near(target, point, row, where).items():
            clicks[name].append(float(hit))
        steps.append(clicks["width"][-1])
    step, kind = (bootstrap(part, resamples=resamples, seed=seed) for part in (steps, types))
    grounding = {name: _mean(part) for name, part in clicks.items()}
    return {
        "type_accuracy": kind.value,
        "grounding_accuracy": grounding["width"],
        "grounding_accuracy_normalized": grounding["normalized"],
        "average": (kind.value + grounding["width"]) / 2,
        "average_normalized": (kind.value + grounding["normalized"]) / 2,
        "step_accuracy": step.value,
        "n": len(types),
        "n_clicks": len(clicks["width"]),
        "n_unreadable": unread,
        **_of_responses(problems, tokens),
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
    rows: Iterable[tuple[str, Mapping[str, Any]]], names: Sequence[str], answer: str, problems: Counter[str]
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The rows, whose `response`, where they have one, is read into the column `answer`, and what is wrong with it."""
    seen: set[Any] = set()
    for where, row in rows:
        read = "response" in row
        need(row, (*names, "response" if read else answer), where)
        if isinstance(row["id"], bool) or not isinstance(row["id"], str | int):
            raise DataError(f"{where}: `id`: expected text or an integer, got {row['id']!r}")
        if row["id"] in seen:
            raise DataError(f"{where}: `id`: {row['id']!r} stands more than once")
        seen.add(row["id"])
        if not read:
            yield where, row
            continue
        if row["response"] is not None and not isinstance(row["response"], str):
            raise DataError(f"{where}: `response`: expected text or null, got {type(row['response']).__name__}")
        problem, found = _read(row["response"] or "")
        problems[problem] += 1
        if answer == "point":
            # To scroll at a place is not to click it.
            found = found["point"] if found is not None and found["action"] == "click" else None
        yield where, {**row, answer: found}
    if not seen:
        raise DataError("no predictions")


def _read(response: str) -> tuple[str, dict[str, Any] | None]:
    """What is wrong with a response, "ok" where nothing is; and its action, with its point."""
    found = read_action(response)
    if found.action is None:
        return found.problem, None
    lost = found.action == "click" and found.point is None
    return "no_coordinate" if lost else "ok", {**found.arguments, "point": found.point}


def _of_responses(problems: Mapping[str, int], tokens: Sequence[float]) -> dict[str, Any]:
    told: dict[str, Any] = {"responses": dict(problems)} if problems else {}
    return told | ({"mean_tokens": _mean(tokens)} if tokens else {})


def _tokens(row: Mapping[str, Any], where: str) -> Sequence[float]:
    return () if row.get("tokens") is None else _numbers([row["tokens"]], 1, "tokens", where)


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


def _numbers(value: Any, count: int, name: str, where: str) -> tuple[float, ...]:
    found = numbers(value, count)
    if found is None:
        raise DataError(f"{where}: `{name}`: expected {count} numbers, got {value!r}")
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
