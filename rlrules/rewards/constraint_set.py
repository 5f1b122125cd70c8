"""The constraints of a data row: read, refused where they cannot be checked, and their checkers made once."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from rlrules.errors import DataError
from rlrules.rewards.constraint_checks import OWN, OwnChecker
from rlrules.rewards.constraint_checks_zh import OWN_ZH
from rlrules.rewards.constraint_weights import weight
from rlrules.rewards.instruction_arguments import said
from rlrules.rewards.instruction_checks import Checker, MissingData, build, describe, follows, registry

IDS, KWARGS = "instruction_id_list", "kwargs"
OWN_CHECKERS: Mapping[str, type[OwnChecker]] = {kind.name: kind for kind in (*OWN, *OWN_ZH)}
# Rows whose checkers are kept: a row comes back with every epoch and in every evaluation.
_ROWS_KEPT = 8192
_PROBE = "A short text, with two clauses. It has a second sentence!"


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint of a prompt.

    Attributes:
        name: Its id.
        label: Its id in details, with its number behind where the prompt has several of that id.
        checker: Checks it.
        weight: What it counts in a weighted mean.
    """

    name: str
    label: str
    checker: Checker
    weight: float


def known_constraints() -> list[str]:
    """All ids: IFEval's, IFBench's, and this project's own."""
    return sorted({*registry("ifeval"), *registry("ifbench"), *OWN_CHECKERS})


def read_constraints(row: Mapping[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """A row's ids and what each says, as IFEval's data has them.

    Args:
        row: With `instruction_id_list`, and `kwargs` as a list or as JSON text of one; entries that are None, which
            tables fill gaps with, say nothing.

    Raises:
        DataError: A column has another form.
    """
    ids, kwargs = row[IDS], row[KWARGS]
    if not isinstance(ids, list | tuple) or not ids or not all(isinstance(name, str) for name in ids):
        raise DataError(f"column {IDS!r}: expected a list of ids, got {ids!r:.80}")
    if isinstance(kwargs, str):
        try:
            kwargs = json.loads(kwargs)
        except (ValueError, RecursionError) as error:
            raise DataError(f"column {KWARGS!r}: not JSON: {error}") from error
    if not isinstance(kwargs, list | tuple) or len(kwargs) != len(ids):
        entries = f"{len(kwargs)} entries" if isinstance(kwargs, list | tuple) else type(kwargs).__name__
        raise DataError(f"column {KWARGS!r}: {entries} for {len(ids)} constraints")
    for given in kwargs:
        if given is not None and not isinstance(given, Mapping):
            raise DataError(f"column {KWARGS!r}: expected objects or null, got {given!r:.80}")
    return list(ids), [said(given) for given in kwargs]


def constraints_of(row: Mapping[str, Any], prompt: str) -> tuple[Constraint, ...]:
    """A row's constraints with their checkers, which are kept for the next time.

    Args:
        row: As for `read_constraints`.
        prompt: The prompt's text, which some constraints repeat.

    Raises:
        DataError: A column has another form, an id is unknown, or its kwargs do not fit it.
    """
    ids, kwargs = read_constraints(row)
    try:
        return _made(tuple(ids), json.dumps(kwargs, sort_keys=True), prompt)
    except TypeError as error:
        raise DataError(f"column {KWARGS!r}: {error}") from error


@lru_cache(maxsize=_ROWS_KEPT)
def _made(ids: tuple[str, ...], kwargs: str, prompt: str) -> tuple[Constraint, ...]:
    seen: Counter[str] = Counter()
    made: list[Constraint] = []
    for number, (name, arguments) in enumerate(zip(ids, json.loads(kwargs), strict=True)):
        seen[name] += 1
        label = name if seen[name] == 1 else f"{name}#{seen[name]}"
        made.append(Constraint(name, label, checker_of(name, arguments, prompt, number), weight(name, arguments)))
    return tuple(made)


def checker_of(name: str, arguments: Mapping[str, Any], prompt: str = "", number: int = 0) -> Checker:
    """Make the checker of any constraint.

    Raises:
        DataError: The id is unknown, or the arguments do not fit it.
    """
    if name in OWN_CHECKERS:
        return _own(name, arguments)
    for benchmark in ("ifeval", "ifbench"):
        if kind := registry(benchmark).get(name):
            try:
                return build(kind, name, arguments, prompt, number)
            except DataError as error:
                raise DataError(f"column {KWARGS!r}: {error}") from error
    from difflib import get_close_matches

    close = get_close_matches(name, known_constraints(), n=1)
    remedy = f"did you mean {close[0]!r}?" if close else "docs/scorers.md says which there are"
    raise DataError(f"column {IDS!r}: no constraint {name!r}; {remedy}")


def description(name: str, arguments: Mapping[str, Any]) -> str:
    """A constraint as a sentence of a prompt.

    Raises:
        DataError: The id is unknown, or the arguments do not fit it.
    """
    return _own(name, arguments).describe() if name in OWN_CHECKERS else describe(name, arguments)


def _own(name: str, arguments: Mapping[str, Any]) -> OwnChecker:
    try:
        return OWN_CHECKERS[name].model_validate(dict(arguments))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise DataError(f"column {KWARGS!r}: {name}: {f'{field!r}: ' if field else ''}{told}") from error


def missing_data(constraints: Sequence[Constraint]) -> str:
    """The data that one of the checkers needs and that is not there, in words; empty where all is there."""
    return next((told for one in constraints if (told := _probe(one.name, one.checker))), "")


_COMPLETE: set[str] = set()


def _probe(name: str, checker: Checker) -> str:
    if name not in _COMPLETE:
        try:
            follows(checker, [_PROBE])
        except MissingData as error:
            return f"{name}: {error}"
        _COMPLETE.add(name)
    return ""
