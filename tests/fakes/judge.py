"""A judge without a model: answers are computed from the question, and every question is kept."""

from collections.abc import Callable, Sequence

from rlrules.judges import Answer, Judge, JudgeFailure, Question, Usage
from rlrules.judges.base import JudgeConfig
from rlrules.types import Message

Reply = Answer | JudgeFailure | str


class ScriptedBackend:
    """Answers each question by a function; a `JudgeFailure` it returns is raised."""

    def __init__(self, reply: Callable[[Question], Reply]) -> None:
        self.reply = reply
        self.questions: list[Question] = []

    async def complete(self, question: Question) -> Answer:
        self.questions.append(question)
        reply = self.reply(question)
        if isinstance(reply, JudgeFailure):
            raise reply
        return Answer(reply) if isinstance(reply, str) else reply

    async def prompt_end(self, messages: Sequence[Message]) -> str | None:
        return None

    async def close(self) -> None:
        pass


def scripted_judge(reply: Callable[[Question], Reply]) -> tuple[Judge, ScriptedBackend]:
    """A judge without a cache, and its backend."""
    backend = ScriptedBackend(reply)
    return Judge("verifier", JudgeConfig(model="scripted"), backend, None, Usage()), backend
