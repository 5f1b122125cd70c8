"""Learning what a program can check."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import draw


def learning(
    seeds: Annotated[int, typer.Option(help="Runs, each with a seed of its own.")] = 3,
    steps: Annotated[int, typer.Option(help="Optimiser steps a run.")] = 40,
    picture: Annotated[Path, typer.Option(help="Where the curve goes.")] = Path("docs/learning.svg"),
) -> None:
    """Held-out reward on rules that a program can check, before and after training, by seed."""
    curves: list[list[tuple[float, float]]] = []
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
    named = {f"seed {seed}": curve for seed, curve in enumerate(curves)}
    draw(named, picture, "held-out reward", (0, 1))
