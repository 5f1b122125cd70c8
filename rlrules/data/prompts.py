"""Prompts to train on: chat messages and the columns that scorers read."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rlrules.data.rows import Row, read_rows
from rlrules.errors import DataError
from rlrules.types import Message

CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Prompts:
    """Rows ready for training, and what was left out on the way.

    Attributes:
        rows: Each has `prompt`, a list of messages, and the columns that the data has beside it.
        dropped: How many rows each condition left out.
    """

    rows: list[dict[str, Any]]
    dropped: dict[str, int]


class PromptsConfig(BaseModel):
    """Fields that every source of prompts has."""

    model_config = ConfigDict(extra="forbid")

    shuffle: int | None = Field(None, description="Shuffle the rows, by this seed, before anything is left out.")
    limit: int | None = Field(None, ge=1, description="Only the first rows that pass.")
    system: str | None = Field(None, description="A system message put before every prompt.")
    max_prompt_tokens: int | None = Field(None, ge=1, description="Longer prompts are left out, and counted.")


class FilePromptsConfig(PromptsConfig):
    """Any rows with a prompt: a local file or folder, or a data set on the hub."""

    type: Literal["prompts"] = "prompts"
    path: str
    split: str = "train"
    columns: dict[str, str] = Field(default_factory=dict, description="Our name -> the data's: {prompt: instruction}.")
    where: dict[str, str | int | bool] = Field(default_factory=dict, description="Keep rows with these values.")

    def load(self, count_tokens: CountTokens) -> Prompts:
        """Read the rows.

        Raises:
            DataError: A column is missing, a prompt is neither text nor messages, or nothing is left.
        """
        raw = read_rows(self.path, self.split)
        renamed = {theirs: ours for ours, theirs in self.columns.items()}
        kept: list[Row] = []
        for number, row in enumerate(raw, 1):
            named = {renamed.get(key, key): value for key, value in row.items()}
            for column in ("prompt", *self.where, *self.columns):
                if column not in named:
                    theirs = self.columns.get(column, column)
                    raise DataError(f"data {self.path!r}, row {number}: no column {theirs!r} (there: {', '.join(row)})")
            if all(named[key] == value for key, value in self.where.items()):
                kept.append(named)
        return prepared(self, self.path, kept, count_tokens, {"where": len(raw) - len(kept)})


class UltraFeedbackPromptsConfig(PromptsConfig):
    """Prompts of UltraFeedback's preference splits, filtered as in AutoRule (its preprocessing, section 3.1)."""

    type: Literal["ultrafeedback"] = "ultrafeedback"
    path: str = "HuggingFaceH4/ultrafeedback_binarized"
    split: str = "train_prefs"

    def load(self, count_tokens: CountTokens) -> Prompts:
        """Read and filter the rows.

        Raises:
            DataError: The data cannot be had, a row is malformed, or nothing is left.
        """
        from rlrules.data.preferences import UltraFeedbackConfig, ultrafeedback_filter

        pairs = UltraFeedbackConfig(path=self.path, split=self.split).load()
        kept, dropped = ultrafeedback_filter(pairs, count_tokens)
        rows: list[Row] = [{"prompt": list(pair.prompt), "id": pair.id} for pair in kept]
        return prepared(self, self.path, rows, count_tokens, dict(dropped))


AnyPromptsConfig = Annotated[FilePromptsConfig | UltraFeedbackPromptsConfig, Field(discriminator="type")]


def prepared(
    config: PromptsConfig, path: str, rows: Sequence[Row], count_tokens: CountTokens, dropped: dict[str, int]
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
        if config.system is not None:
            messages = [{"role": "system", "content": config.system}, *messages]
        text = "\n".join(str(message["content"]) for message in messages)
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
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, list) and prompt:
        messages = [m for m in prompt if isinstance(m, dict) and {"role", "content"} <= set(m)]
        if len(messages) == len(prompt):
            return [{"role": message["role"], "content": message["content"]} for message in messages]
    raise DataError(f"{where}: `prompt` is neither text nor a list of {{role, content}} messages")
