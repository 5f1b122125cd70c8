"""Verdicts a second."""

import asyncio
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import EMBEDDED, send_all, timed

RULES = "data/rules/ultrafeedback.json"


def verdicts(
    answers: Annotated[int, typer.Option(help="Answers to verify, 25 rules each.")] = 12,
    rounds: Annotated[int, typer.Option(help="Rounds in which the contenders take turns.")] = 3,
    url: Annotated[str, typer.Option(help="A running server; none: one is started.")] = "",
) -> None:
    """Verdicts a second: our scorer, a raw load generator with the same requests, and the naive shape."""
    if url:
        asyncio.run(_verdicts(url, answers, rounds))
        return
    from rlrules.engines.vllm import VllmConfig, VllmServer

    with VllmServer(VllmConfig(model=EMBEDDED, max_model_len=4096)) as server:
        asyncio.run(_verdicts(server.url, answers, rounds))


async def _verdicts(url: str, answers: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rates: dict[str, list[float]] = {}
        for number in range(rounds):
            # Each contender gets answers of its own, equally long, so that none profits from another's prefixes.
            ours = _groups(answers, f"{number}-ours")
            scorer, judge = _scorer(url, Path(folder) / f"{number}.sqlite")
            seconds, calls = await timed(asyncio.gather(*(scorer.score(g) for g in ours))), judge.usage.asked
            rates.setdefault("ours", []).append(calls / seconds)
            again = await timed(asyncio.gather(*(scorer.score(g) for g in ours)))
            rates.setdefault("ours, cached", []).append(calls / again)
            for concurrency in (16, 32, 64, 128):
                bodies = await _requests(url, _groups(answers, f"{number}-{concurrency}"))
                seconds = await timed(send_all(url, bodies, concurrency))
                rates.setdefault(f"raw, {concurrency} at a time", []).append(len(bodies) / seconds)
            naive = [_naive(body) for body in await _requests(url, _groups(max(2, answers // 4), f"{number}-naive"))]
            seconds = await timed(send_all(url, naive, len(naive)))
            rates.setdefault("naive", []).append(len(naive) / seconds)
            print(f"round {number + 1}: " + ", ".join(f"{name} {all_[-1]:.1f}/s" for name, all_ in rates.items()))
    medians = {name: statistics.median(all_) for name, all_ in rates.items()}
    best = max((name for name in medians if name.startswith("raw")), key=lambda name: medians[name])
    for name, all_ in rates.items():
        print(f"{name:22} median {medians[name]:8.1f}/s  ({min(all_):.1f} to {max(all_):.1f})")
    for name, other in ((best, "ours"), ("naive", "ours"), ("ours", "ours, cached")):
        ratios = [a / b for a, b in zip(rates[other], rates[name], strict=True)]
        print(f"{other} / {name}: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def _groups(count: int, variant: str) -> list[Any]:
    from rlrules.types import Completion, Group, Message

    rows = [json.loads(line) for line in Path("data/preferences.jsonl").read_text().splitlines()][:count]
    # About 550 tokens a conversation: the length at which the design's figures were taken.
    history = "\n\n".join(row["chosen"] for row in rows[:4])[:1600]
    groups = []
    for row in rows:
        text = f"[{variant}] Earlier I read this:\n{history}\n\n{row['prompt']}"
        question: Message = {"role": "user", "content": text}
        groups.append(Group((question,), (Completion(row["rejected"], 100),)))
    return groups


def _scorer(url: str, cache: Path) -> tuple[Any, Any]:
    from rlrules.judges import OpenAIJudgeConfig, build_judge
    from rlrules.rewards.base import Resources
    from rlrules.rewards.rules import RulesConfig

    judge = build_judge("verifier", OpenAIJudgeConfig(urls=[url], model=EMBEDDED, cache=str(cache), timeout_s=600))
    return RulesConfig(judge="verifier", rules=RULES).build(Resources({"verifier": judge})), judge


async def _requests(url: str, groups: Sequence[Any]) -> list[dict[str, Any]]:
    """The very bodies that our scorer sends, in its order, taken down instead of sent."""
    from rlrules.judges import Answer, Judge, OpenAIJudgeConfig, Question, Usage
    from rlrules.judges.client import OpenAIBackend
    from rlrules.rewards.base import Resources
    from rlrules.rewards.rules import RulesConfig

    bodies: list[dict[str, Any]] = []
    config = OpenAIJudgeConfig(urls=[url], model=EMBEDDED)

    class Recorder(OpenAIBackend):
        async def complete(self, question: Question) -> Answer:
            bodies.append(self._body(question))
            return Answer("Yes")

    judge = Judge("verifier", config, Recorder(config, Usage()), None, Usage())
    scorer = RulesConfig(judge="verifier", rules=RULES).build(Resources({"verifier": judge}))
    for group in groups:
        await scorer.score(group)
    return bodies


def _naive(body: dict[str, Any]) -> dict[str, Any]:
    """The same question as people first write it: the rule before the conversation, the verdict in free text."""
    content = body["messages"][0]["content"]
    rule = content.partition("The rule:\n")[2].partition("\n")[0]
    text = f"Rule: {rule}\n\n{content}\nExplain your verdict, then give it."
    return {"model": body["model"], "messages": [{"role": "user", "content": text}], "max_tokens": 64, "temperature": 0}
