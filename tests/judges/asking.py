"""Questions and judges that the tests of this folder share."""

import asyncio
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from rlrules.judges import Judge, OpenAIJudgeConfig, Question, Usage, build_judge
from rlrules.judges.client import OpenAIBackend
from rlrules.judges.verdict import Verdict, ask_verdict

T = TypeVar("T")
YES_NO = ("Yes", "No")


def question(text: str, labels: tuple[str, ...] = YES_NO, **fields: Any) -> Question:
    """One question in one user turn."""
    return Question(({"role": "user", "content": text},), "test@1", labels=labels, **fields)


def ready(text: str, labels: tuple[str, ...] = YES_NO, **fields: Any) -> Question:
    """The same with all that a judge fills in, for a backend."""
    return question(text, labels, **{"max_tokens": 1 if labels else 64, "temperature": 0.0, **fields})


def config(*urls: str, **fields: Any) -> OpenAIJudgeConfig:
    return OpenAIJudgeConfig(**{"urls": list(urls), "model": "fake", "timeout_s": 5.0, "cache": False, **fields})


def served_judge(*urls: str, cache: Path | None = None, **fields: Any) -> Judge:
    return build_judge("verifier", config(*urls, cache=str(cache) if cache else False, **fields))


def backend(*urls: str, **fields: Any) -> tuple[OpenAIBackend, Usage]:
    usage = Usage()
    return OpenAIBackend(config(*urls, **fields), usage), usage


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*work))


def verdicts(judge: Judge, questions: Iterable[Question]) -> list[Verdict]:
    """All questions asked at once, from a loop of their own."""
    return asyncio.run(together([ask_verdict(judge, one) for one in questions]))
