"""Answers to imitate: chats whose last message is the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rlrules.data.preferences import Preference, UltraFeedbackConfig, ultrafeedback_filter
from rlrules.data.preferences_base import column_of, messages_of
from rlrules.data.prompts_base import CountTokens
from rlrules.data.rows import Row, read_named
from rlrules.errors import DataError
from rlrules.types import Message


@dataclass(frozen=True, slots=True)
class Conversation:
    """A prompt and the answer to imitate.

    Attributes:
        where: Its place in the data, for messages.
        prompt: What is answered.
        answer: The assistant's text.
    """

    where: str
    prompt: tuple[Message, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Conversations:
    """All conversations taken from a source, and what was left out on the way.

    Attributes:
        items: The conversations.
        dropped: How many rows each condition left out.
    """

    items: Sequence[Conversation]
    dropped: dict[str, int]


class ConversationsConfig(BaseModel):
    """Fields that every source of conversations has."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="Id of a data set on the hub, or a local file or folder.")
    limit: int | None = Field(None, ge=1, description="Only the first rows that pass.")

    def limited(self, items: list[Conversation], dropped: dict[str, int]) -> Conversations:
        """The first `limit` of `items`.

        Raises:
            DataError: There are none.
        """
        if not items:
            told = ", ".join(f"{count} by {name}" for name, count in dropped.items() if count) or "it is empty"
            raise DataError(f"data {self.path!r}: no rows left ({told})")
        taken = items[: self.limit]
        return Conversations(taken, {**dropped, "limit": len(items) - len(taken)})


class FileConversationsConfig(ConversationsConfig):
    """Rows with `messages`, or with `prompt` and `completion`, each text or messages.

    Of `messages` the last one is the answer; those before it are its prompt.
    """

    type: Literal["conversations"] = "conversations"
    split: str = "train"
    columns: dict[str, str] = Field(default_factory=dict, description="Our name -> the data's: {completion: answer}.")
    where: dict[str, str | int | bool] = Field(default_factory=dict, description="Keep rows with these values.")

    def load(self, count_tokens: CountTokens) -> Conversations:
        """Read the rows.

        Raises:
            DataError: The data cannot be had, a row has no answer of the assistant at its end, or nothing is left.
        """
        named, left_out = read_named(self.path, self.split, self.columns, self.where)
        return self.limited([conversation_of(row, where) for where, row in named], {"where": left_out})


class UltraFeedbackSftConfig(ConversationsConfig):
    """UltraFeedback's fine-tuning splits, filtered as in AutoRule (its preprocessing, section 3.1)."""

    type: Literal["ultrafeedback_sft"] = "ultrafeedback_sft"
    path: str = "HuggingFaceH4/ultrafeedback_binarized"
    split: str = "train_sft"

    def load(self, count_tokens: CountTokens) -> Conversations:
        """Read and filter the rows.

        Raises:
            DataError: The data cannot be had, a row is malformed, or nothing is left.
        """
        source = UltraFeedbackConfig(path=self.path, split=self.split)
        pairs: list[Preference] = []
        by_id: dict[str, Conversation] = {}
        for number, (where, row) in enumerate(source.rows(), 1):
            pair = source.read(row, number, where)
            pairs.append(pair)
            by_id[pair.id] = conversation_of(row, where)
        # The filter looks at both answers that the prompt once had, not only at the one to imitate.
        kept, dropped = ultrafeedback_filter(pairs, count_tokens)
        return self.limited([by_id[pair.id] for pair in kept], dropped)


AnyConversationsConfig = Annotated[FileConversationsConfig | UltraFeedbackSftConfig, Field(discriminator="type")]


def conversation_of(row: Row, where: str) -> Conversation:
    """The prompt and the answer in a row.

    Raises:
        DataError: It has neither `messages` nor `prompt` and `completion`, or no text of the assistant at its end.
    """
    name = "messages" if row.get("messages") is not None else "completion"
    if name == "messages":
        messages = messages_of(row, name, where)
        prompt, last = messages[:-1], messages[-1]
        if not prompt:
            raise DataError(f"{where}: `messages`: one message only; a prompt must come before the answer")
    else:
        prompt, answer = messages_of(row, "prompt", where), column_of(row, name, where)
        completion = messages_of(row, name, where) if not isinstance(answer, str) else ()
        if len(completion) > 1:
            raise DataError(f"{where}: `completion`: {len(completion)} messages; it must be one, the assistant's")
        last = completion[0] if completion else {"role": "assistant", "content": answer}
    if last["role"] != "assistant":
        raise DataError(f"{where}: `{name}`: ends with {last['role']!r}; it must end with the assistant's turn")
    if not isinstance(last["content"], str):
        raise DataError(f"{where}: `{name}`: the answer is not text")
    return Conversation(where, prompt, last["content"])
