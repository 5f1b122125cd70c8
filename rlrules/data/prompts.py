"""Prompts to train on: chat messages and the columns that scorers read."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rlrules.data.rows import Row, Rows, read_named
from rlrules.errors import DataError
from rlrules.types import Message

CountTokens = Callable[[str], int]


class Prompts(Rows):
    """Prompts to train on: each row has `prompt`, a list of messages, and the columns that the data has beside it."""


class PromptsConfig(BaseModel):
    """Fields that every source of prompts has."""

    model_config = ConfigDict(extra="forbid")

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
        named, left_out = read_named(self.path, self.split, self.columns, self.where)
        for place, row in named:
            if "prompt" not in row:
                raise DataError(f"{place}: no column 'prompt' (there: {', '.join(row)})")
        return prepared(self, self.path, [row for _, row in named], count_tokens, {"where": left_out})


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
    for number, row in enumerate(rows, 1):
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
