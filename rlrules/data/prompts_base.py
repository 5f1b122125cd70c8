"""What prompts to train on are, and what all sources of prompts share."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rlrules.data.messages import chat_of
from rlrules.data.rows import Row, Rows
from rlrules.errors import DataError
from rlrules.judges.templates import plain_text
from rlrules.types import Message

CountTokens = Callable[[str], int]


class Prompts(Rows):
    """Prompts to train on: each row has `prompt`, a list of messages, and the columns that the data has beside it."""


class PromptsConfig(BaseModel):
    """Fields that every source of prompts has."""

    model_config = ConfigDict(extra="forbid")

    shuffle: int | None = Field(None, description="Shuffle the rows, by this seed, before anything is left out.")
    limit: int | None = Field(None, ge=1, description="Only the first rows that pass.")
    max_prompt_tokens: int | None = Field(None, ge=1, description="Longer prompts are left out, and counted.")


def prepared(
    config: PromptsConfig,
    path: str,
    rows: Sequence[Row],
    count_tokens: CountTokens,
    dropped: dict[str, int],
    system: str | None = None,
) -> Prompts:
    """Give every row its messages, apply the bounds that all sources share, and count what falls.

    Raises:
        DataError: A prompt is neither text nor messages, or nothing is left.
    """
    made: list[dict[str, Any]] = []
    too_long = 0
    numbered = list(enumerate(rows, 1))
    if config.shuffle is not None:
        random.Random(config.shuffle).shuffle(numbered)
    for number, row in numbered:
        messages = as_messages(row["prompt"], f"data {path!r}, row {number}")
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        # Of images only that they are there: how many tokens one is, its processor decides.
        text = "\n".join(plain_text(message) for message in messages)
        if config.max_prompt_tokens is not None and count_tokens(text) > config.max_prompt_tokens:
            too_long += 1
            continue
        made.append({**row, "prompt": messages})
        if len(made) == config.limit:
            break
    dropped = {**dropped, "max_prompt_tokens": too_long}
    if not made:
        told = ", ".join(f"{count} by {name}" for name, count in dropped.items() if count) or "it is empty"
        raise DataError(f"data {path!r}: no rows left ({told})")
    return Prompts(made, dropped)


def as_messages(prompt: Any, where: str) -> list[Message]:
    """A prompt as chat messages: text becomes one user message.

    Raises:
        DataError: It is neither text nor a list of messages.
    """
    return list(chat_of(prompt, f"{where}: `prompt`"))
