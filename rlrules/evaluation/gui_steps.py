"""AndroidControl's steps as UI-R1 published them, joined with what a model answered."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rlrules.errors import DataError
from rlrules.evaluation.files import located
from rlrules.rewards.gui_frames import numbers
from rlrules.rewards.gui_parse import ACTIONS

FRAME = (1080, 2400)
"""Width and height that a step's points are taken to be in where its prediction names no size."""

_ARGUMENTS = ("app_name", "direction", "text")


def read_steps(path: Path) -> dict[str, dict[str, Any]]:
    """Targets by the name of their screenshot; as of `read_tasks`, without their tasks."""
    return {image: target for image, (_, target) in read_tasks(path).items()}


def read_tasks(path: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Tasks and targets by the name of their screenshot.

    Args:
        path: Rows of {image, task, gt: {action_type, x and y of a click, app_name, direction, text}}.

    Raises:
        DataError: There is no such file, a row is malformed, or two are of one screenshot.
    """
    steps: dict[str, tuple[str, dict[str, Any]]] = {}
    for where, row in located(path):
        image, task, right = row.get("image"), row.get("task"), row.get("gt")
        if not isinstance(image, str) or not isinstance(task, str) or not isinstance(right, Mapping):
            raise DataError(
                f"{where}: expected {{image, task, gt}} with a name, a text and a mapping, got {', '.join(row)}"
            )
        if image in steps:
            raise DataError(f"{where}: `image`: {image} stands more than once")
        action = right.get("action_type")
        if action not in ACTIONS:
            raise DataError(f"{where}: `gt.action_type`: {action!r} is none of {', '.join(ACTIONS)}")
        target: dict[str, Any] = {"action": action}
        if action == "click":
            point = numbers([right.get("x"), right.get("y")], 2)
            if point is None:
                raise DataError(f"{where}: `gt`: a click needs `x` and `y`, got {dict(right)}")
            target["point"] = list(point)
        steps[image] = task, target | {name: right[name] for name in _ARGUMENTS if right.get(name) is not None}
    if not steps:
        raise DataError(f"{path} has no rows")
    return steps


def answered(
    steps: Mapping[str, Mapping[str, Any]], predictions: Iterable[tuple[str, Mapping[str, Any]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A line for `action_metrics` of every step; one without a prediction is wrong.

    Args:
        steps: As of `read_steps`.
        predictions: {id: the screenshot's name, response or predicted, image_size?, seen_size?, tokens?} with places.

    Raises:
        DataError: A prediction is of no step, or of one that has another.
    """
    left = dict(steps)
    for where, line in predictions:
        name = line.get("id")
        if not isinstance(name, str) or name not in left:
            told = "stands more than once" if name in steps else "is none of the steps' screenshots"
            raise DataError(f"{where}: `id`: {name!r} {told}")
        yield where, {"image_size": list(FRAME), **line, "target": left.pop(name)}
    for name, target in left.items():
        yield name, {"id": name, "target": target, "response": None, "image_size": list(FRAME)}
