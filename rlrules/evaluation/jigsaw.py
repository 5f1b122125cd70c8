"""Jigsaw puzzles and boxes (Jigsaw-R1): how much of an arrangement, and of a box, is right."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlrules.errors import DataError
from rlrules.evaluation.files import need
from rlrules.evaluation.stats import RESAMPLES, bootstrap
from rlrules.judges.verdict import after_thought
from rlrules.rewards.jigsaw_answers import connection_score, patch_score, read_indices

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def read_permutation(text: str, size: int) -> tuple[int, ...] | None:
    """The arrangement in an answer tag, or in the whole answer: each of 1 to `size` once, else None."""
    answer = after_thought(text)
    tags = _ANSWER.findall(answer)
    found = read_indices(tags[-1] if tags else answer, size)
    return found if found is not None and len(set(found)) == size else None


def inverted(arrangement: Sequence[int]) -> tuple[int, ...]:
    """Where each piece is, of an arrangement that says which piece is where, or the other way round."""
    places = {piece: place for place, piece in enumerate(arrangement, 1)}
    return tuple(places[piece] for piece in range(1, len(arrangement) + 1))


def centre_in(box: Sequence[float], target: Sequence[float]) -> bool:
    """Whether a box's centre lies in the target."""
    across, down = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return target[0] <= across <= target[2] and target[1] <= down <= target[3]


def jigsaw_metrics(
    lines: Iterable[tuple[str, Mapping[str, Any]]], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Exact, patch and connection scores over all puzzles, exact for solved and unsolved ones apart.

    An answer that is no arrangement scores 0.

    Args:
        lines: {id, rows, columns, arrangement, response}, an arrangement saying which piece is where; a null response
            is no arrangement.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        DataError: A column is missing or malformed, or an id stands twice.
    """
    seen: set[str] = set()
    scores: dict[str, list[float]] = {"exact": [], "patch": [], "connection": []}
    chance: dict[str, list[float]] = {"exact": [], "patch": []}
    split: dict[str, list[float]] = {"solved": [], "unsolved": []}
    unread = 0
    for where, line in lines:
        right = _right(line, where)
        if (key := str(line["id"])) in seen:
            raise DataError(f"{where}: `id`: {key} stands more than once")
        seen.add(key)
        size = len(right)
        found = read_permutation(line["response"] or "", size)
        unread += found is None
        scores["exact"].append(float(found == right))
        scores["patch"].append(patch_score(found or (), right))
        scores["connection"].append(connection_score(found or (), right, line["rows"], line["columns"]))
        split["solved" if list(right) == sorted(right) else "unsolved"].append(scores["exact"][-1])
        chance["exact"].append(1 / math.factorial(size))
        chance["patch"].append(1 / size)
    if not scores["exact"]:
        raise DataError("no puzzles")
    found_means = {name: bootstrap(part, resamples=resamples, seed=seed) for name, part in scores.items()}
    return {
        **{name: part.value for name, part in found_means.items()},
        "n": len(scores["exact"]),
        "n_unreadable": unread,
        # An arrangement is uniform over all: whoever always gives the same one is right as often as a random one.
        "by_chance": {name: sum(part) / len(part) for name, part in chance.items()},
        "by_puzzle": {name: {"exact": sum(part) / len(part), "n": len(part)} for name, part in split.items() if part},
        "intervals": {name: part.record() for name, part in found_means.items()} if resamples else {},
    }


def _right(line: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """A line's arrangement, once the line is checked."""
    need(line, ("id", "rows", "columns", "arrangement", "response"), where)
    for name in ("rows", "columns"):
        if type(line[name]) is not int or line[name] < 1:
            raise DataError(f"{where}: `{name}`: expected an integer from 1, got {line[name]!r}")
    if line["response"] is not None and not isinstance(line["response"], str):
        raise DataError(f"{where}: `response`: expected text or null, got {type(line['response']).__name__}")
    size, pieces = line["rows"] * line["columns"], line["arrangement"]
    sound = isinstance(pieces, list) and all(type(piece) is int for piece in pieces)
    if not sound or sorted(pieces) != list(range(1, size + 1)):
        raise DataError(f"{where}: `arrangement`: expected each of 1 to {size} once")
    return tuple(pieces)
