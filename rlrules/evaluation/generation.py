"""A model's answers, asked for once and kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlrules.data.stage_log import Tell, each
from rlrules.evaluation.results import ResultRows
from rlrules.judges import Judge, JudgeFailure, Question
from rlrules.judges.verdict import after_thought
from rlrules.types import Message

# Part of the cache's key: an answer to a benchmark's question is no judge's answer.
TEMPLATE = "answer"


@dataclass(frozen=True, slots=True)
class Chat:
    """A question to the model under test.

    Attributes:
        key: Its key in answers.jsonl.
        turns: The user's turns; the model's own answers stand between them.
        system: A system message, or empty.
        temperature: Overrides the model's own.
        draw: Which of several independent answers this is.
    """

    key: str
    turns: tuple[str, ...]
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
        finishes: list[str] = []
        tokens = 0
        try:
            for turn in chat.turns:
                messages.append({"role": "user", "content": turn})
                question = Question(tuple(messages), TEMPLATE, temperature=chat.temperature, draw=chat.draw)
                reply = await model.ask(question)
                texts.append(reply.text)
                finishes.append(reply.finish_reason)
                tokens += reply.completion_tokens
                messages.append({"role": "assistant", "content": after_thought(reply.text)})
        except JudgeFailure as failure:
            rows.add(key, {"turns": texts}, "failed", f"model {model.config.model}: {failure}")
            return
        rows.add(key, {"turns": texts, "finish_reasons": finishes, "tokens": tokens})

    await each("answers", rows.pending([chat.key for chat in chats]), work, tell)
    found = {key: line for key in by_key if (line := rows.get(key)) is not None}
    return {key: tuple(after_thought(text) for text in line.data["turns"]) for key, line in found.items()}


def truncated(rows: ResultRows) -> int:
    """How many chats have an answer that stopped at the length limit."""
    return sum("length" in line.data.get("finish_reasons", ()) for line in rows.latest.values())
