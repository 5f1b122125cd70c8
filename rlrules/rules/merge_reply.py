"""Reading what a model says of a numbered list: which rules become one, which are none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlrules.rules.replies import Unreadable, find_json


@dataclass(frozen=True, slots=True)
class Partition:
    """Every number from 1 to n exactly once, as a member of a rule or dropped.

    Attributes:
        rules: Text and members of each rule; a rule of one member has that member's text, given as "".
        dropped: Reason by number.
        unnamed: Numbers the reply did not mention; each is a rule of its own among `rules`.
        ignored: What the reply said beside that, in one line each.
    """

    rules: tuple[tuple[str, tuple[int, ...]], ...]
    dropped: Mapping[int, str]
    unnamed: tuple[int, ...] = ()
    ignored: tuple[str, ...] = ()


def merge_schema(count: int) -> dict[str, Any]:
    """JSON schema of a reply about `count` rules."""
    number = {"type": "integer", "minimum": 1, "maximum": count}
    rule = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "minLength": 1},
            "members": {"type": "array", "items": number, "minItems": 1, "maxItems": count},
        },
        "required": ["text", "members"],
        "additionalProperties": False,
    }
    dropped = {
        "type": "object",
        "properties": {"number": number, "reason": {"type": "string", "minLength": 1}},
        "required": ["number", "reason"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "rules": {"type": "array", "items": rule, "maxItems": count},
            "dropped": {"type": "array", "items": dropped, "maxItems": count},
        },
        "required": ["rules", "dropped"],
        "additionalProperties": False,
    }


def read_partition(text: str, count: int) -> Partition:
    """The partition of 1 to `count` in a reply.

    Numbers it does not mention stay rules of their own.

    Raises:
        Unreadable: It is no JSON object of that form; or it names a number that is not in the list, or one twice, or
            a rule without text or members, in which case the sound part can be salvaged.
    """
    value = find_json(text, "{")
    if not isinstance(value, dict) or not isinstance(value.get("rules"), list):
        raise Unreadable('it is no complete JSON object with a list "rules"')
    reader = _Reader(count)
    for entry in value["rules"]:
        reader.rule(entry)
    for entry in value.get("dropped") or []:
        reader.drop(entry)
    partition = reader.partition()
    if reader.problems:
        raise Unreadable("; ".join(reader.problems[:5]), partition)
    return partition


class _Reader:
    """Takes entries one by one; the first that names a number has it."""

    def __init__(self, count: int) -> None:
        self.problems: list[str] = []
        self._count = count
        self._rules: list[tuple[str, tuple[int, ...]]] = []
        self._dropped: dict[int, str] = {}
        self._taken: set[int] = set()

    def rule(self, entry: object) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("members"), list):
            self.problems.append('an entry of "rules" has no "text" and "members"')
            return
        text = entry.get("text")
        if not isinstance(text, str) or not text.strip():
            self.problems.append(f"the rule of members {entry['members']} has no text")
            return
        members = self._take(entry["members"])
        if members:
            self._rules.append(("" if len(members) == 1 else " ".join(text.split()), members))
        else:
            self.problems.append(f"the rule {text[:60]!r} has no members of its own")

    def drop(self, entry: object) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("reason"), str) or not entry["reason"].strip():
            self.problems.append('an entry of "dropped" has no "number" and "reason"')
            return
        for number in self._take([entry.get("number")]):
            self._dropped[number] = " ".join(entry["reason"].split())

    def partition(self) -> Partition:
        unnamed = tuple(number for number in range(1, self._count + 1) if number not in self._taken)
        alone = (("", (number,)) for number in unnamed)
        return Partition((*self._rules, *alone), self._dropped, unnamed, tuple(self.problems))

    def _take(self, numbers: Sequence[object]) -> tuple[int, ...]:
        mine: list[int] = []
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= self._count:
                self.problems.append(f"{number!r} is no number from 1 to {self._count}")
            elif number in self._taken:
                if number not in mine:
                    self.problems.append(f"number {number} stands in more than one place")
            else:
                self._taken.add(number)
                mine.append(number)
        return tuple(mine)
