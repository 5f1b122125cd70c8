"""What a sparse design saves, and what it loses."""

import asyncio
import random
import statistics
from typing import Annotated, Any

import typer

DESIGNS = {4: ("all", "circulant-2", "anchor"), 8: ("all", "circulant-4", "circulant-2", "anchor")}
DESIGNS[16] = ("all", "circulant-6", "circulant-4", "circulant-2", "anchor")


def pairs(
    noise: Annotated[float, typer.Option(help="Deviation of the judge's log-odds, drawn for each question.")] = 0.5,
    groups: Annotated[int, typer.Option(help="Groups a seed.")] = 40,
    seeds: Annotated[int, typer.Option(help="Draws of qualities and of noise.")] = 5,
) -> None:
    """Calls of a design and Spearman's correlation of its ranking with that of `all`, by a judge of known noise.

    Qualities are standard normal. The judge's log-odds that A is better are twice the difference in quality, plus 0.5
    for whatever is shown first, plus the noise; strengths are its probabilities, in both orders.
    """
    told = f"noise {noise:g}, {groups} groups a seed, {seeds} seeds: medians over seeds (lowest to highest)"
    print(f"{'G':>2} {'design':12} {'calls':>5} {'share':>6}  Spearman with `all`     with the truth; {told}")
    for size, designs in DESIGNS.items():
        by_seed = [asyncio.run(_correlations(size, designs, noise, groups, seed)) for seed in range(seeds)]
        for design in designs:
            calls = statistics.mean(one[design][0] for one in by_seed)
            share = calls / statistics.mean(one["all"][0] for one in by_seed)
            columns = [_spread([one[design][place] for one in by_seed]) for place in (1, 2)]
            print(f"{size:2} {design:12} {calls:5.0f} {share:6.0%}  {columns[0]}  {columns[1]}")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


async def _correlations(
    size: int, designs: tuple[str, ...], noise: float, groups: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Per design: calls a group, mean correlation with `all`, mean correlation with the qualities."""
    from scipy.stats import spearmanr

    from rlrules.types import Completion, Group

    draws = random.Random(seed)
    qualities = [[draws.gauss(0, 1) for _ in range(size)] for _ in range(groups)]
    made = [
        Group(({"role": "user", "content": f"{seed}-{n}"},), tuple(Completion(f"{q!r}", 1) for q in group))
        for n, group in enumerate(qualities)
    ]
    found: dict[str, tuple[float, float, float]] = {}
    whole: list[list[float]] = []
    for design in designs:
        scorer, judge = _scorer(design, noise, seed)
        scored = await asyncio.gather(*(scorer.score(group) for group in made))
        ranked = [[score.value for score in one.scores] for one in scored]
        whole = whole or ranked
        with_all = statistics.mean(spearmanr(a, b).statistic for a, b in zip(ranked, whole, strict=True))
        with_truth = statistics.mean(spearmanr(a, b).statistic for a, b in zip(ranked, qualities, strict=True))
        found[design] = (judge.usage.asked / groups, with_all, with_truth)
    return found


def _scorer(design: str, noise: float, seed: int) -> tuple[Any, Any]:
    import math

    from rlrules.judges import Answer, Judge, Question, Usage
    from rlrules.judges.base import JudgeConfig
    from rlrules.rewards.base import Resources
    from rlrules.rewards.preference import PreferenceConfig

    class Noisy:
        """Reads the qualities off the replies; the same question gets the same answer, whatever the design."""

        async def complete(self, question: Question) -> Answer:
            shown = str(question.messages[1]["content"])
            a, b = (float(part.split("\n")[2]) for part in shown.split("The reply of assistant ")[1:])
            odds = 2 * (a - b) + 0.5 + random.Random(f"{seed} {shown}").gauss(0, noise)
            logs = {"A": -math.log1p(math.exp(-odds)), "B": -math.log1p(math.exp(odds))}
            return Answer("A" if odds > 0 else "B", logprobs=logs)

        async def prompt_end(self, messages: object) -> None:
            return None

        async def close(self) -> None: ...

    judge = Judge("judge", JudgeConfig(model="noisy"), Noisy(), None, Usage())
    config = PreferenceConfig(judge="judge", think=False, strength="probability", design=design)
    return config.build(Resources({"judge": judge})), judge
