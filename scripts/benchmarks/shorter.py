"""Learning from comparisons alone."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import draw, fake_judge

WINDOW = 5


def shorter(
    seeds: Annotated[int, typer.Option(help="Runs by each judge, each with a seed of its own.")] = 3,
    steps: Annotated[int, typer.Option(help="Optimiser steps a run.")] = 20,
    picture: Annotated[Path, typer.Option(help="Where the curves go.")] = Path("docs/pairwise.svg"),
) -> None:
    """Length of answers in pairwise RLHF: a judge that prefers the shorter one, and one that answers at random.

    Both are programs, asked in both orders (Think-RM's acceptance T20). With the random one no place in a group may
    profit, and the length stays; it gets half the steps.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for judge, count in (("shorter", steps), ("random", steps // 2)):
        with fake_judge(*(["--shorter-wins"] if judge == "shorter" else [])) as url:
            for seed in range(seeds):
                folder = _train(judge, seed, count, url)
                lengths = _lengths(folder)
                name = f"{judge} wins, seed {seed}" if judge == "shorter" else f"at random, seed {seed}"
                curves[name] = list(enumerate(_smooth(lengths), 1))
                first, last = statistics.mean(lengths[:WINDOW]), statistics.mean(lengths[-WINDOW:])
                drift = ", ".join(f"{mean:+.3f} ({error:.3f})" for mean, error in _slots(folder))
                print(f"{name}: {first:.1f} tokens in the first {WINDOW} steps, {last:.1f} in the last", flush=True)
                print(f"{name}: advantage by place in the group, mean (s.e.): {drift}", flush=True)
    draw(curves, picture, "tokens an answer", (0, None))


def _train(judge: str, seed: int, steps: int, url: str) -> Path:
    name = f"{judge}-{seed}-{os.getpid()}"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu.yaml"]
    command += ["scripts/train.py", "recipes/cpu/pairwise_rlhf.yaml", f"name={name}"]
    command += [f"judges.judge.urls=[{url}]", "judges.judge.model=fake", "judges.judge.cache=false"]
    command += ["rewards.preference.think=false", "rewards.preference.strength=hard"]
    command += [f"training.seed={seed}", f"training.max_steps={steps}", "training.save_strategy=no"]
    command += ["training.per_device_train_batch_size=8", "training.num_generations=8"]
    command += ["training.max_completion_length=64", "training.learning_rate=3.0e-5", "training.beta=0.0"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Path("runs") / name


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _lengths(folder: Path) -> list[float]:
    metrics = _rows(folder / "metrics.jsonl")
    return [line["completions/mean_length"] for line in metrics if "completions/mean_length" in line]


def _smooth(values: list[float]) -> list[float]:
    return [statistics.mean(values[max(0, n - WINDOW + 1) : n + 1]) for n in range(len(values))]


def _slots(folder: Path) -> list[tuple[float, float]]:
    """Mean advantage of each place in a group, with its standard error."""
    groups: dict[str, list[float]] = {}
    for line in _rows(folder / "completions.jsonl"):
        groups.setdefault(line["group"], []).append(line["advantage"])
    return [
        (statistics.mean(column), statistics.stdev(column) / len(column) ** 0.5)
        for column in zip(*groups.values(), strict=True)
    ]
