"""Reads a run directory, however incomplete: a run that crashed is the one whose report is needed most."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rlrules.errors import DataError
from rlrules.reporting.series import Series
from rlrules.reporting.text import clean, shorten
from rlrules.training.log import METRICS, RECIPE


@dataclass(frozen=True, slots=True)
class Run:
    """What a run's recipe and metrics say.

    Attributes:
        name: The run's name.
        method: The recipe's method.
        model: The policy's name.
        recipe: The resolved recipe, verbatim.
        rewards: Names of the rewards, in the recipe's order.
        metrics: Each metric over the steps.
        steps: The last step logged, 0 where none was.
        total_steps: What the recipe asks for, where it says so.
        notices: What a reader of the metrics must know of them.
    """

    name: str
    method: str
    model: str
    recipe: str
    rewards: tuple[str, ...]
    metrics: Mapping[str, Series]
    steps: int
    total_steps: int | None
    notices: tuple[str, ...]


def read_run(folder: Path) -> Run:
    """Read recipe and metrics.

    Raises:
        DataError: `folder` is no run directory.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no run directory: there is no such folder; name one like runs/NAME")
    path = folder / RECIPE
    if not path.is_file():
        raise DataError(f"{folder} is no run directory: it holds no {RECIPE}; name a folder that training wrote")
    text = path.read_text("utf-8", errors="replace")
    recipe = _parsed(text)
    points, notices = _metrics(folder / METRICS)
    metrics = {key: Series.of(found) for key, found in sorted(points.items())}
    steps = max((int(series.steps[-1]) for series in metrics.values()), default=0)
    training = mapping(recipe.get("training"))
    return Run(
        name=_name(recipe.get("name"), folder.resolve().name),
        method=_name(recipe.get("method"), ""),
        model=_name(mapping(recipe.get("model")).get("name"), ""),
        recipe=clean(text),
        rewards=tuple(map(str, mapping(recipe.get("rewards")))),
        metrics=metrics,
        steps=steps,
        total_steps=_positive(training.get("max_steps")),
        notices=tuple(notices),
    )


def read_lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any] | None]]:
    """Line numbers (from 1), byte offsets and objects of a JSONL file; None for a line that is no object.

    A last line without its end is what a killed run leaves behind: it is passed over. A file that is not there
    has no lines.
    """
    if not path.is_file():
        return
    offset = 0
    with path.open("rb") as file:
        for count, line in enumerate(file, 1):
            start, offset = offset, offset + len(line)
            value = parsed_line(line)
            if not line.strip() or (value is None and not line.endswith(b"\n")):
                continue
            yield count, start, value


def parsed_line(line: bytes) -> dict[str, Any] | None:
    """The JSON object on a line, or None."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def finite(value: Any) -> float | None:
    """`value` as a finite float; None for all that is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` where it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def unreadable_notice(name: str, lines: list[int]) -> str:
    """One sentence about lines that were passed over."""
    shown = ", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else "")
    return f"{name}: {len(lines)} line{'s' * (len(lines) > 1)} could not be read and left out (line {shown})."


def _metrics(path: Path) -> tuple[dict[str, list[tuple[float, float]]], list[str]]:
    points: dict[str, list[tuple[float, float]]] = {}
    unreadable: list[int] = []
    lost: dict[str, list[int]] = {}
    for count, _, line in read_lines(path):
        step = finite(line.get("step")) if line is not None else None
        if line is None or step is None:
            unreadable.append(count)
            continue
        named = line.get("not_finite")
        for key in named if isinstance(named, list) else []:
            lost.setdefault(str(key), []).append(int(step))
        for key, raw in line.items():
            value = finite(raw)
            if value is not None and key != "step":
                points.setdefault(key, []).append((step, value))
            elif isinstance(raw, float):
                lost.setdefault(key, []).append(int(step))
    notices = [unreadable_notice(path.name, unreadable)] if unreadable else []
    for key, steps in sorted(lost.items()):
        where = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} steps, the first of them step {steps[0]}"
        notices.append(f"{shorten(key, 80)} was not a finite number at {where}.")
    return points, notices


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        return mapping(YAML(typ="safe", pure=True).load(StringIO(text)))
    except (YAMLError, ValueError):
        return {}


def _name(value: Any, default: str) -> str:
    return shorten(default if value is None else value, 200)


def _positive(value: Any) -> int | None:
    number = finite(value)
    return int(number) if number is not None and number > 0 else None
