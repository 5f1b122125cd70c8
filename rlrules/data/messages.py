"""Chat messages as data files hold them."""

from typing import Any

from rlrules.errors import DataError
from rlrules.rewards.thought import joined
from rlrules.types import Message


def chat_of(value: Any, where: str) -> tuple[Message, ...]:
    """The chat messages in a value; text is one message of the user.

    Args:
        value: Text, or a list of {role, content} with text or a list of parts as content.
        where: Its place, for messages.

    Raises:
        DataError: It is neither.
    """
    if isinstance(value, str):
        return ({"role": "user", "content": value},)
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: expected text or a list of messages, got {type(value).__name__}")
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("role"), str) or not _is_content(entry):
            raise DataError(f"{where}: entry {number} is no {{role, content}} message of text, or of a list of parts")
    return tuple({"role": entry["role"], "content": entry["content"]} for entry in value)


def completion_text(value: Any, where: str) -> str:
    """A completion as one text, its thought in think tags where a chat template set it apart.

    Args:
        value: Text, or messages, the last of which is the completion, with its thought in `reasoning_content`.
        where: Its place, for messages.

    Raises:
        DataError: It is neither.
    """
    if isinstance(value, str):
        return value
    last = value[-1] if isinstance(value, list) and value else None
    content = last.get("content") if isinstance(last, dict) else None
    if not isinstance(last, dict) or not isinstance(content, str):
        raise DataError(f"{where}: `completion` is missing or no text")
    return joined(last.get("reasoning_content") or "", content)


def _is_content(entry: dict[str, Any]) -> bool:
    content = entry.get("content")
    return isinstance(content, str) or (isinstance(content, list) and all(_is_part(part) for part in content))


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and (part.get("type") != "text" or isinstance(part.get("text"), str))
