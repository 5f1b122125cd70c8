"""Learning what a program can check."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer


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
