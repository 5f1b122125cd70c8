"""Chats as token ids, the way a trainer takes them: whole rows, or none."""

from collections.abc import Sequence
from typing import Any

from rlrules.data.conversations import Conversation, Conversations
from rlrules.data.preferences import Preferences, as_turns
from rlrules.data.rows import Rows
from rlrules.errors import DataError
from rlrules.judges.verdict import THINK_OPEN
from rlrules.processors import text_tokenizer
from rlrules.types import Message

IGNORED = -100
"""The label of a token that is not trained on."""


def conversation_rows(tokenizer: Any, conversations: Conversations, max_length: int | None) -> Rows:
    """Rows `{input_ids, labels}`, the loss on the answers alone; longer ones are left out.

    Prompt and answer are tokenised apart, as they are when an answer is generated: a token across their border would
    be one that no model ever has to write.

    Args:
        tokenizer: With its chat template.
        conversations: What to imitate.
        max_length: Bound on a row's tokens; None for no bound.

    Raises:
        DataError: The chat template loses part of an answer, or nothing is left.
    """
    texts = [rendered(tokenizer, one) for one in conversations.items]
    prompts = token_ids(tokenizer, [prompt for prompt, _ in texts])
    answers = token_ids(tokenizer, [answer for _, answer in texts])
    rows = [
        {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    kept = [row for row in rows if max_length is None or len(row["input_ids"]) <= max_length]
    return kept_rows(kept, {**conversations.dropped, "max_length": len(rows) - len(kept)})


def preference_rows(tokenizer: Any, preferences: Preferences, max_length: int | None, margin: bool) -> Rows:
    """Rows `{chosen_ids, rejected_ids, margin?}`; where either side is longer, the pair is left out.

    Args:
        tokenizer: With its chat template.
        preferences: The pairs.
        max_length: Bound on a side's tokens; None for no bound.
        margin: Whether the rows carry their strength as a margin.

    Raises:
        DataError: A margin is asked for and a preference has no strength, or nothing is left.
    """
    for pair in preferences if margin else ():
        if pair.strength is None:
            raise DataError(
                f"data {pair.source!r}, {pair.id}: has no strength to take a margin from; set margin: false"
            )
    all_chosen = conversation_ids(tokenizer, [[*pair.prompt, *as_turns(pair.chosen)] for pair in preferences])
    all_rejected = conversation_ids(tokenizer, [[*pair.prompt, *as_turns(pair.rejected)] for pair in preferences])
    rows: list[dict[str, Any]] = []
    for pair, chosen, rejected in zip(preferences, all_chosen, all_rejected, strict=True):
        if max_length is None or max(len(chosen), len(rejected)) <= max_length:
            row = {"chosen_ids": chosen, "rejected_ids": rejected}
            rows.append(row | ({"margin": pair.strength} if margin else {}))
    return kept_rows(rows, {**preferences.dropped, "max_length": len(preferences) - len(rows)})


def conversation_ids(tokenizer: Any, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of whole conversations, with no second BOS."""
    return token_ids(tokenizer, [tokenizer.apply_chat_template(list(chat), tokenize=False) for chat in chats])


def prompt_text(tokenizer: Any, prompt: Sequence[Message]) -> str:
    """A chat up to where the assistant's answer begins."""
    text: str = tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
    return text


def rendered(tokenizer: Any, one: Conversation) -> tuple[str, str]:
    """A conversation as text: up to where its answer begins, and the answer with the token that ends it.

    Raises:
        DataError: The chat template loses part of the answer, or begins it otherwise than where one is generated.
    """
    before = prompt_text(tokenizer, one.prompt)
    chat = [*one.prompt, {"role": "assistant", "content": one.answer}]
    whole: str = tokenizer.apply_chat_template(chat, tokenize=False)
    if one.answer.strip() not in whole:
        raise DataError(f"{one.where}: the chat template leaves out part of the answer; set model.chat_template")
    if not whole.startswith(before):
        seeded = before.rstrip().endswith(THINK_OPEN)
        remedy = "set model.think_seed: false, or begin answers with a thought" if seeded else "set model.chat_template"
        raise DataError(
            f"{one.where}: the chat template begins answers with {before[-20:]!r} where they are generated, and this "
            f"answer otherwise; {remedy}"
        )
    return before, _ended(whole[len(before) :], text_tokenizer(tokenizer).eos_token)


def _ended(answer: str, end: str) -> str:
    # What templates write after a turn's end no model has to write; what has no end would never stop.
    before, found, _ = answer.rpartition(end)
    return before + end if found else answer + end


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that hold all special tokens already."""
    if not texts:
        return []
    ids: list[list[int]] = text_tokenizer(tokenizer)(list(texts), add_special_tokens=False)["input_ids"]
    return ids


def kept_rows(rows: list[dict[str, Any]], dropped: dict[str, int]) -> Rows:
    """What is left of some rows.

    Raises:
        DataError: Nothing is.
    """
    made = Rows(rows, dropped)
    if not rows:
        raise DataError(f"no rows left ({made.left_out()}); raise training.max_length, or take other data")
    return made
