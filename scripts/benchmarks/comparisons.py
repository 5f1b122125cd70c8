"""Comparisons a second."""

import asyncio
import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import EMBEDDED, timed

SIZE = 8
THOUGHT_TOKENS = 64


def comparisons(
    rounds: Annotated[int, typer.Option(help="Rounds in which the contenders take turns.")] = 3,
    url: Annotated[str, typer.Option(help="A running server; none: one is started.")] = "",
) -> None:
    """Comparisons a second: our scorer, and the same questions one by one, as a loop over a server asks them.

    Groups of 8, each pair once; of the loop's only the first completion's seven pairs, whose prompts share the most.
    Thoughts are held to 64 tokens and their verdicts decoded behind them; one-token verdicts are all of an answer.
    """
    if url:
        asyncio.run(_comparisons(url, rounds))
        return
    from rlrules.engines.vllm import VllmConfig, VllmServer

    with VllmServer(VllmConfig(model=EMBEDDED, max_model_len=4096)) as server:
        asyncio.run(_comparisons(server.url, rounds))


async def _comparisons(url: str, rounds: int) -> None:
    for think in (True, False):
        rates: dict[str, list[float]] = {"ours": [], "one by one": []}
        tokens: list[float] = []
        for number in range(rounds):
            # Turns change, and each has a group of its own, equally long, so that none profits from the other's
            # prefixes.
            for name in list(rates)[:: 1 if number % 2 else -1]:
                scorer, judge = _scorer(url, think, *((64, "all") if name == "ours" else (1, "anchor")))
                group = _group(f"{number}-{name}", number)
                scored: list[Any] = []

                async def score(scorer: Any = scorer, group: Any = group, scored: list[Any] = scored) -> None:
                    scored.append(await scorer.score(group))

                seconds = await timed(score())
                await judge.close()
                made = scored[0].metrics
                assert made["failed"] == made["invalid"] == 0, made
                rates[name].append(made["pairs_asked"] / seconds)
                tokens.append(made.get("thought_tokens", 0.0))
                print(f"round {number + 1}, {name}: {rates[name][-1]:.2f}/s", flush=True)
        kind = f"thoughts of {statistics.mean(tokens):.0f} tokens" if think else "one-token verdicts"
        for name, all_ in rates.items():
            print(f"{kind}, {name}: median {statistics.median(all_):.2f}/s ({min(all_):.2f} to {max(all_):.2f})")
        ratios = [a / b for a, b in zip(rates["ours"], rates["one by one"], strict=True)]
        print(f"{kind}, ratio: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def _group(variant: str, number: int) -> Any:
    from rlrules.types import Completion, Group, Message

    rows = [json.loads(line) for line in Path("data/preferences.jsonl").read_text("utf-8").splitlines()]
    replies = [row[side] for row in rows[4 * number : 4 * number + 4] for side in ("chosen", "rejected")]
    question: Message = {"role": "user", "content": f"[{variant}] {rows[4 * number]['prompt']}"}
    return Group((question,), tuple(Completion(reply, 100) for reply in replies[:SIZE]))


def _scorer(url: str, think: bool, in_flight: int, design: str) -> tuple[Any, Any]:
    from rlrules.judges import Judge, OpenAIJudgeConfig, Question, Usage
    from rlrules.judges.client import OpenAIBackend
    from rlrules.rewards.base import Resources
    from rlrules.rewards.preference import PreferenceConfig

    class Thinking(OpenAIBackend):
        """Thoughts of the embedded default end when they like; these are as long as they may be."""

        def _body(self, question: Question) -> dict[str, Any]:
            return super()._body(question) | ({} if question.labels else {"min_tokens": THOUGHT_TOKENS})

    config = OpenAIJudgeConfig(
        urls=[url], model=EMBEDDED, cache=False, max_tokens=THOUGHT_TOKENS, max_in_flight=in_flight, timeout_s=600
    )
    usage = Usage()
    judge = Judge("judge", config, Thinking(config, usage), None, usage)
    scorer = PreferenceConfig(judge="judge", think=think, order="fixed", design=design)
    return scorer.build(Resources({"judge": judge})), judge
