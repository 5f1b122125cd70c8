"""A model's answers, asked for once and kept."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rlrules.data.stage_log import Tell, each
from rlrules.errors import DataError
from rlrules.evaluation.results import ResultRows
from rlrules.judges import Judge, JudgeFailure, Question
from rlrules.judges.images import image_url
from rlrules.judges.verdict import after_thought
from rlrules.rewards.thought import joined
from rlrules.types import ContentPart, Message

# Part of the cache's key: an answer to a benchmark's question is no judge's answer.
TEMPLATE = "answer"


@dataclass(frozen=True, slots=True)
class Chat:
    """A question to the model under test.

    Attributes:
        key: Its key in answers.jsonl.
        turns: The user's turns, texts or content parts; the model's own answers stand between them.
        system: A system message, or empty.
        temperature: Overrides the model's own.
        draw: Which of several independent answers this is.
    """

    key: str
    turns: tuple[str | Sequence[ContentPart], ...]
    system: str = ""
    temperature: float | None = None
    draw: int = 0


async def answer_all(chats: Sequence[Chat], model: Judge, rows: ResultRows, tell: Tell) -> dict[str, tuple[str, ...]]:
    """Answer every chat that has no answer yet.

    Returns:
        By key, an answer to each turn, thoughts cut off; a chat that failed has none.
    """
    by_key = {chat.key: chat for chat in chats}

    async def work(key: str) -> None:
        chat = by_key[key]
        messages: list[Message] = [{"role": "system", "content": chat.system}] if chat.system else []
        texts: list[str] = []
        thoughts: list[str] = []
        finishes: list[str] = []
        tokens = 0
        try:
            for turn in chat.turns:
                messages.append({"role": "user", "content": await _sent(turn, key)})
                question = Question(tuple(messages), TEMPLATE, temperature=chat.temperature, draw=chat.draw)
                reply = await model.ask(question)
                texts.append(reply.text)
                thoughts.append(reply.reasoning)
                finishes.append(reply.finish_reason)
                tokens += reply.completion_tokens
                messages.append({"role": "assistant", "content": after_thought(reply.text)})
        except JudgeFailure as failure:
            rows.add(key, {"turns": texts}, "failed", f"model {model.config.model}: {failure}")
            return
        apart = {"thoughts": thoughts} if any(thoughts) else {}
        rows.add(key, {"turns": texts, "finish_reasons": finishes, "tokens": tokens} | apart)

    await each("answers", rows.pending([chat.key for chat in chats]), work, tell)
    found = {key: line for key in by_key if (line := rows.get(key)) is not None}
    return {key: tuple(after_thought(text) for text in line.data["turns"]) for key, line in found.items()}


def whole_answers(rows: ResultRows) -> dict[str, tuple[str, int]]:
    """By key, the last answer with its thought, and the tokens of all."""
    found: dict[str, tuple[str, int]] = {}
    for key in rows.latest:
        if (line := rows.get(key)) is not None:
            thoughts = line.data.get("thoughts", [""])
            found[key] = joined(thoughts[-1], line.data["turns"][-1]), line.data["tokens"]
    return found


async def _sent(turn: str | Sequence[ContentPart], key: str) -> str | list[ContentPart]:
    """A turn as servers take it: an image is drawn and encoded when it is asked about, so that few are held at once."""
    if isinstance(turn, str):
        return turn
    try:
        return [await asyncio.to_thread(image_url, part) if part["type"] == "image" else part for part in turn]
    except DataError as error:
        raise DataError(f"{key}: {error}") from error


def truncated(rows: ResultRows) -> int:
    """How many chats have an answer that stopped at the length limit."""
    return sum("length" in line.data.get("finish_reasons", ()) for line in rows.latest.values())
