"""A text too long for a judge loses its middle, never the question around it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from rlrules.judges.base import JudgeFailure

T = TypeVar("T")
SHORTEST = 200


async def ask_fitting(ask: Callable[[str], Awaitable[T]], text: str) -> tuple[T, str]:
    """Ask about `text`, with its middle cut out as far as the judge's context demands.

    Args:
        ask: Asks about a text; raises `JudgeFailure` of kind "overflow" where it does not fit.
        text: The text to judge.

    Returns:
        The answer, and the text that it is about: `text` itself unless it was cut.

    Raises:
        JudgeFailure: Any other failure, or an overflow that cutting does not mend.
    """
    answer, (shown,) = await ask_all_fitting(lambda texts: ask(*texts), (text,))
    return answer, shown


async def ask_all_fitting(
    ask: Callable[[tuple[str, ...]], Awaitable[T]], texts: tuple[str, ...]
) -> tuple[T, tuple[str, ...]]:
    """The same for several texts in one question, all cut to one length, so that none is at a disadvantage.

    Raises:
        JudgeFailure: Any other failure than an overflow, or one that cutting does not mend.
    """
    keep, shown = max(map(len, texts)), texts
    while True:
        try:
            return await ask(shown), shown
        except JudgeFailure as failure:
            if failure.kind != "overflow" or keep <= SHORTEST:
                raise
            # Only part of the prompt is this text, so its share shrinks by more than the prompt must.
            share = 0.8 * failure.limit / failure.size if 0 < failure.limit < failure.size else 0.5
            keep = max(SHORTEST, int(keep * min(share, 0.75)))
            shown = tuple(_without_middle(text, keep) for text in texts)


def _without_middle(text: str, keep: int) -> str:
    if len(text) <= keep:
        return text
    head, tail = text[: keep - keep // 2], text[len(text) - keep // 2 :]
    return f"{head}\n[… {len(text) - keep} characters left out …]\n{tail}"
