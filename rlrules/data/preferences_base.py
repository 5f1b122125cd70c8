"""What a preference is, and what all sources of preferences share."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rlrules.data.messages import chat_of
from rlrules.data.rows import Row, read_jsonl, read_rows
from rlrules.errors import DataError
from rlrules.types import Message

Response = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """One prompt, two answers, and which of them was preferred.

    Attributes:
        id: Unique within its source, and the same however many rows are taken.
        source: Name of the data set.
        prompt: What both answers reply to; its last message is the user's.
        chosen: The preferred answer: text, or the messages from where the two conversations part, the last one
            the assistant's.
        rejected: The other one, in the same form.
        strength: By how much it was preferred, in the source's own units; None where the source does not say.
        meta: The source's other fields.
    """

    id: str
    source: str
    prompt: tuple[Message, ...]
    chosen: Response
    rejected: Response
    strength: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A sound row that holds no preference, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Preferences:
    """All preferences taken from a source; rows read = pairs + all that were dropped.

    Attributes:
        pairs: The preferences.
        read: Rows that the source has.
        dropped: Rows left out, by reason.
    """

    pairs: tuple[Preference, ...]
    read: int
    dropped: Mapping[str, int]

    def __iter__(self) -> Iterator[Preference]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


class PreferenceConfig(BaseModel):
    """Fields that every source of preferences has."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="Id of a data set on the hub, or a local file or folder with the same columns.")
    split: str = Field("train", description="Split to read; a single local file has none.")
    limit: int | None = Field(None, ge=1, description="At most this many preferences; null: all.")
    seed: int | None = Field(0, description="Rows come in an order drawn from this; null: in the file's order.")

    def load(self) -> Preferences:
        """Read the preferences.

        Raises:
            DataError: The data cannot be had, a row is malformed (named by file, line and field), an id stands
                twice, or nothing is left.
        """
        read = 0
        dropped: Counter[str] = Counter()
        made: dict[str, Preference] = {}
        for read, (where, row) in enumerate(self.rows(), 1):
            found = self.read(row, read, where)
            if isinstance(found, LeftOut):
                dropped[found.reason] += 1
            elif found.chosen == found.rejected:
                dropped["identical"] += 1
            elif found.id in made:
                raise DataError(f"{where}: `id`: {found.id!r} stands more than once; ids must differ")
            else:
                made[found.id] = found
        pairs = list(made.values())
        if self.seed is not None:
            # Shuffled before it is cut, so that a higher limit keeps every pair of a lower one.
            random.Random(self.seed).shuffle(pairs)
        pairs = self.choose(pairs, dropped)
        taken = pairs[: self.limit]
        dropped["limit"] += len(pairs) - len(taken)
        if not taken:
            told = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "it is empty"
            raise DataError(f"data {self.path!r}: no preferences left of {read} rows ({told})")
        return Preferences(tuple(taken), read, {reason: count for reason, count in dropped.items() if count})

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Every row with its place, for messages."""
        return located_rows(self.path, self.split)

    def read(self, row: Row, number: int, where: str) -> Preference | LeftOut:
        """Turn one row into a preference.

        Args:
            row: The row as it stands in the source.
            number: Its number, from 1.
            where: Its place, for messages.

        Raises:
            DataError: The row is malformed.
        """
        raise NotImplementedError(f"{type(self).__name__}.read")  # pragma: no cover

    def choose(self, pairs: list[Preference], dropped: Counter[str]) -> list[Preference]:
        """Leave out what the source has too much of, and count it in `dropped`."""
        return pairs


def located_rows(path: str, split: str) -> Iterator[tuple[str, Row]]:
    """Rows with their places: "FILE:LINE" in a JSONL file, "SOURCE, row N" elsewhere."""
    if Path(path).suffix == ".jsonl":
        yield from ((f"{path}:{line}", row) for line, row in read_jsonl(Path(path)))
    else:
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(read_rows(path, split), 1))


def column_of(row: Row, name: str, where: str) -> Any:
    """The value of a column that must be there and not be null."""
    if row.get(name) is None:
        there = ", ".join(key for key, value in row.items() if value is not None)
        raise DataError(f"{where}: `{name}`: is missing (there: {there})")
    return row[name]


def text_of(row: Row, name: str, where: str) -> str:
    """The text in a column."""
    value = column_of(row, name, where)
    if not isinstance(value, str):
        raise DataError(f"{where}: `{name}`: expected text, got {type(value).__name__}")
    return value


def number_of(row: Row, name: str, where: str) -> float:
    """The number in a column."""
    value = column_of(row, name, where)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: `{name}`: expected a number, got {value!r}")
    return float(value)


def messages_of(row: Row, name: str, where: str) -> tuple[Message, ...]:
    """The chat messages in a column; text is one message of the user."""
    return chat_of(column_of(row, name, where), f"{where}: `{name}`")


def user(content: str) -> Message:
    """A message of the user."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """A message of the assistant."""
    return {"role": "assistant", "content": content}


def as_turns(response: Response) -> tuple[Message, ...]:
    """A response as messages; text is one message of the assistant."""
    return (assistant(response),) if isinstance(response, str) else response


def last_answer(prompt: tuple[Message, ...], response: Response) -> tuple[tuple[Message, ...], str]:
    """All messages before the last answer of a response, and that answer."""
    turns = as_turns(response)
    return (*prompt, *turns[:-1]), str(turns[-1]["content"])


def simplest(turns: tuple[Message, ...]) -> Response:
    """Messages that are one answer as its text; others as they are."""
    content = turns[0]["content"]
    return content if len(turns) == 1 and isinstance(content, str) else turns


def shown_first(number: int, seed: int) -> bool:
    """Whether the preferred answer of a pair is the first one shown.

    Of every two neighbours one, drawn from the seed, is: exactly half are, however many are taken.

    Args:
        number: The pair's place in its data, from 0.
        seed: Of the order.
    """
    return bool((number + random.Random(f"{seed}:{number // 2}").randrange(2)) % 2)


def parted(first: tuple[Message, ...], second: tuple[Message, ...]) -> tuple[tuple[Message, ...], Response, Response]:
    """Two conversations as the prompt they share and what each goes on with.

    Returns:
        Messages common to both up to the last of the user's; empty where they differ from the start.
    """
    shared = 0
    while shared < min(len(first), len(second)) - 1 and first[shared] == second[shared]:
        shared += 1
    while shared and first[shared - 1]["role"] != "user":
        shared -= 1
    return first[:shared], simplest(first[shared:]), simplest(second[shared:])
