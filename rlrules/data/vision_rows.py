"""Chats with images as a trainer's vision collator takes them: whole rows, or none."""

from collections.abc import Sequence
from typing import Any

from rlrules.data.conversations import Conversation, Conversations
from rlrules.data.rows import Rows
from rlrules.data.tokens import kept_rows, rendered, token_ids
from rlrules.errors import DataError
from rlrules.images import Reference, image_size, references
from rlrules.judges.images import image_parts

REFERENCES = "references"
"""The column with a row's images, in the order of their places in its prompt."""


def holds_images(conversations: Conversations) -> bool:
    """Whether any prompt holds one."""
    return any(image_parts(one.prompt) for one in conversations.items)


def vision_rows(processor: Any, conversations: Conversations, max_length: int | None) -> Rows:
    """Rows `{prompt, completion, references, length}`, with and without images; longer ones are left out.

    Prompt and completion are texts with all special tokens, one for each image; `length` counts what the processor
    makes of them, image tokens included.

    Args:
        processor: Of a model that sees images, with its chat template.
        conversations: What to imitate.
        max_length: Bound on a row's tokens; None for no bound.

    Raises:
        DataError: An image cannot be had, the chat template loses one or part of an answer, or nothing is left.
    """
    items = conversations.items
    texts = [rendered(processor, one) for one in items]
    seen = [_images(processor, one, *text) for one, text in zip(items, texts, strict=True)]
    written = [token_ids(processor, part) for part in zip(*texts, strict=True)]
    rows: list[dict[str, Any]] = []
    for one, text, images, prompt, answer in zip(items, texts, seen, *written, strict=True):
        length = len(prompt) + len(answer) + _further(processor, one.where, images)
        if max_length is None or length <= max_length:
            rows.append({"prompt": text[0], "completion": text[1], REFERENCES: images, "length": length})
    return kept_rows(rows, {**conversations.dropped, "max_length": len(items) - len(rows)})


def _images(processor: Any, one: Conversation, prompt: str, answer: str) -> list[Reference]:
    """A row's images, once it is sure that each has its place and nothing else has one."""
    try:
        found = references(one.prompt)
    except DataError as error:
        raise DataError(f"{one.where}: {error}") from error
    if len(found) != len(image_parts(one.prompt)):
        raise DataError(f"{one.where}: an `image_url` in its prompt; give images as {{type: image, reference: …}}")
    places = prompt.count(processor.image_token), answer.count(processor.image_token)
    if places != (len(found), 0):
        raise DataError(
            f"{one.where}: {len(found)} images, and {sum(places)} places for them ({processor.image_token}) in the "
            "rendered chat; set model.chat_template, or take that token out of the text"
        )
    return found


def _further(processor: Any, where: str, images: Sequence[Reference]) -> int:
    """Tokens that images take beyond the one that stands for each."""
    if not images:
        return 0
    try:
        sizes = [image_size(reference)[::-1] for reference in images]
        counted = processor._get_num_multimodal_tokens(image_sizes=sizes)
    except (DataError, ValueError) as error:
        # The processor refuses images that are two hundred times as long as they are wide.
        raise DataError(f"{where}: {error}") from error
    return sum(int(count) for count in counted["num_image_tokens"]) - len(images)
