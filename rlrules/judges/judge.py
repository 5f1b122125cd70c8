"""A judge: the cache, identical questions joined, usage counted, one backend behind it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from rlrules.errors import JudgeError
from rlrules.judges.base import WANTED, Answer, Backend, JudgeConfig, JudgeFailure, Question, Usage
from rlrules.judges.cache import AnswerCache, answer_key
from rlrules.judges.loop import on_judge_loop
from rlrules.judges.verdict import read_verdict, told_by_one_token
from rlrules.types import Message

CANARY = Question(({"role": "user", "content": "Reply with the word Yes."},), "canary", labels=("Yes", "No"))


class _Waited:
    """A question on its way, and how many wait for its answer."""

    task: asyncio.Task[Answer]

    def __init__(self) -> None:
        self.by = 0

    def on_this_loop(self) -> bool:
        """Whether its answer can be waited for here."""
        return self.task.get_loop() is asyncio.get_running_loop() and not self.task.done()


class Judge:
    """Answers questions from any thread or event loop.

    Args:
        name: Its name in the recipe.
        config: Its model, revision and sampling fields: all of them are part of the cache key.
        backend: What answers a question that the cache does not know.
        cache: Answers already paid for, or None to ask always.
        usage: Where this judge and its backend count.
    """

    def __init__(
        self, name: str, config: JudgeConfig, backend: Backend, cache: AnswerCache | None, usage: Usage
    ) -> None:
        self.name = name
        self.config = config
        self.usage = usage
        self._backend = backend
        self._cache = cache
        self._on_the_way: dict[str, _Waited] = {}

    async def ask(self, question: Question) -> Answer:
        """Answer `question`, from the cache where an identical one was answered before.

        Raises:
            JudgeFailure: No answer; the kind says why.
        """
        return await on_judge_loop(self._ask(self._filled(question)))

    async def ping(self) -> None:
        """Ask one question, the cache left out and nothing counted.

        Raises:
            JudgeError: It does not answer, or not with a label.
        """
        try:
            answer = await on_judge_loop(self._backend.complete(self._filled(CANARY)))
        except JudgeFailure as failure:
            raise JudgeError(f"the judge does not answer: {failure}") from failure
        verdict = read_verdict(answer, CANARY.labels)
        if verdict.outcome != "value":
            raise JudgeError(f"the judge answers, but not with a label: {verdict.reason}")

    async def prompt_end(self, messages: Sequence[Message]) -> str | None:
        """How the text ends that the model is given for these messages; None where that cannot be known.

        Raises:
            JudgeFailure: The judge does not answer.
        """
        return await on_judge_loop(self._backend.prompt_end(messages))

    async def close(self) -> None:
        """Release the backend's connections and memory."""
        await on_judge_loop(self._backend.close())

    def _filled(self, question: Question) -> Question:
        return replace(
            question,
            temperature=self.config.temperature if question.temperature is None else question.temperature,
            max_tokens=question.max_tokens or (1 if self._takes_one_token(question) else self.config.max_tokens),
        )

    async def _ask(self, question: Question) -> Answer:
        self.usage.asked += 1
        key = answer_key(self.config.identity(), question)
        if self._cache is not None and (known := self._cache.get(key)) is not None:
            self.usage.cached += 1
            return known
        waited = self._on_the_way.get(key)
        # A forked process has its parent's tasks, which nothing will ever finish there.
        joins = waited is not None and waited.on_this_loop()
        if waited is None or not joins:
            waited = self._on_the_way[key] = _Waited()
            task = waited.task = asyncio.create_task(self._pay(key, question, waited))
            task.add_done_callback(lambda done: self._arrived(key, done))
        waited.by += 1
        try:
            # Shielded: whoever waits may give up (a deadline), but the answer is paid for and still goes to the cache.
            answer = await asyncio.shield(waited.task)
        except JudgeFailure:
            self.usage.failed += 1
            raise
        finally:
            waited.by -= 1
        self.usage.cached += joins
        return answer

    def _arrived(self, key: str, task: asyncio.Task[Answer]) -> None:
        if (waited := self._on_the_way.get(key)) is not None and waited.task is task:
            del self._on_the_way[key]
        if not task.cancelled():
            task.exception()  # Looked at, or asyncio complains of it where nobody waits any more.

    async def _pay(self, key: str, question: Question, waited: "_Waited") -> Answer:
        WANTED.set(lambda: waited.by > 0)  # In the context of this task only.
        answer = await self._backend.complete(question)
        self.usage.prompt_tokens += answer.prompt_tokens
        self.usage.completion_tokens += answer.completion_tokens
        self.usage.seconds += answer.seconds
        # Outside the labels means that the server does not hold to them: once that is mended, it is asked again.
        if self._cache is not None and (not question.labels or read_verdict(answer, question.labels).label):
            self._cache.put(key, answer)
        return answer

    def _takes_one_token(self, question: Question) -> bool:
        labels = question.labels
        return bool(labels) and told_by_one_token(labels) and self.config.one_token_labels()
