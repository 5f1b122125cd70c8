"""A command's judge: made, asked with its progress shown, closed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from rlrules.terminal import progress_bars

if TYPE_CHECKING:
    from rlrules.data.stage_log import Tell
    from rlrules.judges import AnyJudgeConfig, Judge

T = TypeVar("T")


def asking(config: "AnyJudgeConfig", work: "Callable[[Judge, Tell], Awaitable[T]]") -> T:
    """Do `work` with the judge that `config` describes."""
    from rlrules.judges import build_judge

    judge = build_judge("judge", config)

    async def run(tell: "Tell") -> T:
        try:
            return await work(judge, tell)
        finally:
            await judge.close()

    with progress_bars() as tell:
        return asyncio.run(run(tell))
