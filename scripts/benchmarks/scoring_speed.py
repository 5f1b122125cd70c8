"""How fast scorers that ask nobody score."""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

GROUP = 8
THOUGHT = (
    "The list shows several entries and the one that is asked for stands near the top, so I choose its middle. " * 3
)


@dataclass(frozen=True, slots=True)
class Case:
    """A scorer with something to score.

    Attributes:
        section: Its section in a recipe.
        row: The columns that it reads.
        completions: Texts as a policy may write them, good and bad.
    """

    section: dict[str, Any]
    row: dict[str, Any]
    completions: Sequence[str]


def _gui(length: str) -> Case:
    answers = [
        "[{'action': 'click', 'coordinate': [512, 1130]}]",
        '[{"action": "click", "coordinate": [512, 1130]}]',
        "[{'action': 'click', 'coordinate': [12, 30]}]",
        "[{'action': 'scroll'}]",
        "```json\n[{'action': 'click', 'coordinate': [512.5, 1130.0]}]\n```",
        "[{'action': click, 'coordinate': [512, 1130]}]",
        "I would tap the middle of it.",
    ]
    texts = [f"<think>{THOUGHT}</think>\n<answer>{answer}</answer>" for answer in answers]
    row = {"action": "click", "bbox": [400, 1000, 600, 1200], "image_size": [1080, 2400]}
    return Case({"type": "gui", "length": length}, row, [*texts, THOUGHT])


def _jigsaw(question: str, answers: Sequence[str], **row: Any) -> Case:
    texts = [f"<think>{THOUGHT}</think>\n<answer>{answer}</answer>" for answer in answers]
    return Case({"type": "jigsaw"}, {"question": question, "m": 2, "n": 2, **row}, [*texts, THOUGHT])


_GRIDS = ("4 2\n1 3", "4, 2, 1, 3", "[4, 2, 3, 1]", "1 1 1 1", "4 2 1 5", "four", "the grid is 4 2 1 3")
_LETTERS = ("B", "(B)", "A.", "b", "The answer is B", "(B) 2 is above 4", "A or B")


CASES: dict[str, Callable[[], Case]] = {
    "gui": lambda: _gui("none"),
    "gui, length dast": lambda: _gui("dast"),
    "jigsaw, full": lambda: _jigsaw("full", _GRIDS, answer=[4, 2, 1, 3]),
    "jigsaw, pair": lambda: _jigsaw("pair", _LETTERS, answer="B", options=8),
}
"""A scorer whose speed matters has a line here."""


def speed(
    seconds: Annotated[float, typer.Option(help="CPU time of a round.")] = 1.0,
    rounds: Annotated[int, typer.Option(help="Rounds, in which the scorers take turns.")] = 5,
) -> None:
    """Completions a second and core, through the scorers as a run calls them, in groups of 8."""
    rates: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, case in CASES.items():
            rates[name].append(asyncio.run(_rate(case(), seconds)))
    for name, found in rates.items():
        told = f"{statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f}, {rounds} rounds)"
        print(f"{name}: {told} completions a CPU second")


async def _rate(case: Case, seconds: float) -> float:
    from rlrules.rewards.base import Resources, scorer_config
    from rlrules.types import Completion, Group, Message

    scorer = scorer_config(case.section).build(Resources())
    texts = [case.completions[number % len(case.completions)] for number in range(GROUP)]
    completions = tuple(Completion(text, len(text) // 4) for text in texts)
    prompt: tuple[Message, ...] = ({"role": "user", "content": "?"},)
    scored, started = 0, time.process_time()
    while (passed := time.process_time() - started) < seconds:
        made = await scorer.score(Group(prompt, completions, case.row))
        assert all(score.value is not None for score in made.scores)
        scored += GROUP
    return scored / passed
