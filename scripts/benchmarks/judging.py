"""Evaluation's verdicts a second, beside a raw load generator."""

import asyncio
import json
import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import EMBEDDED, send_all, timed

# As many requests on their way as a judge's section has by default.
IN_FLIGHT = 64


def judging(
    pairs: Annotated[int, typer.Option(help="Pairs to judge, each in both orders.")] = 32,
    rounds: Annotated[int, typer.Option(help="Rounds in which the contenders take turns.")] = 3,
    url: Annotated[str, typer.Option(help="A running server; none: one is started.")] = "",
) -> None:
    """Verdicts a second of an AlpacaEval run in both orders, and of the same requests sent as they are."""
    if url:
        asyncio.run(_judging(url, pairs, rounds))
        return
    from rlrules.engines.vllm import VllmConfig, VllmServer

    with VllmServer(VllmConfig(model=EMBEDDED, max_model_len=4096)) as server:
        asyncio.run(_judging(server.url, pairs, rounds))


async def _judging(url: str, count: int, rounds: int) -> None:
    from rlrules.data.stage_log import silent
    from rlrules.evaluation.judging import PairTemplate, judge_pairs
    from rlrules.evaluation.results import ResultRows
    from rlrules.judges import OpenAIJudgeConfig, Usage, build_judge
    from rlrules.judges.client import OpenAIBackend

    rates: dict[str, list[float]] = {"ours": [], "raw": []}
    config = OpenAIJudgeConfig(urls=[url], model=EMBEDDED, cache=False, timeout_s=600, max_in_flight=IN_FLIGHT)
    template = PairTemplate()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            judge = build_judge("judge", config)
            rows = ResultRows(Path(folder) / f"{number}.jsonl", "benchmark")
            ours = _pairs(count, f"{number}-ours")
            rates["ours"].append(len(ours) / await timed(judge_pairs(ours, judge, template, rows, silent)))
            await judge.close()
            # What the judge's backend would send, with what the judge fills in.
            backend = OpenAIBackend(config, Usage())
            asked = [template.question(pair) for pair in _pairs(count, f"{number}-raws")]
            bodies = [backend._body(question) | {"max_tokens": 1, "temperature": 0.0} for question in asked]
            rates["raw"].append(len(bodies) / await timed(send_all(url, bodies, IN_FLIGHT)))
            print(f"round {number + 1}: " + ", ".join(f"{name} {all_[-1]:.1f}/s" for name, all_ in rates.items()))
    ratios = [ours_ / raw for ours_, raw in zip(rates["ours"], rates["raw"], strict=True)]
    print(f"ours / raw: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def _pairs(count: int, variant: str) -> list[Any]:
    """Both orders of the project's own preferences; each contender's differ from the first word on."""
    from rlrules.evaluation.judging import Pair
    from rlrules.types import Message

    lines = [json.loads(line) for line in Path("data/preferences.jsonl").read_text().splitlines()][:count]
    made: list[Pair] = []
    for number, line in enumerate(lines):
        question: Message = {"role": "user", "content": f"[{variant}] {line['prompt']}"}
        for order, (first, second) in enumerate(
            ((line["chosen"], line["rejected"]), (line["rejected"], line["chosen"]))
        ):
            made.append(Pair(f"{number}:{order}", (question,), first, second, {}))
    return made
