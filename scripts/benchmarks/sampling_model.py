"""Sampling by domain on a real model: each kind of constraint is a domain."""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import draw

RECIPE = "recipes/cpu/light_if_tea.yaml"
FOLDER = Path("runs/sampling_model")
WAYS: Mapping[str, str] = {
    "uniform": "{type: uniform, column: domain}",
    "domain_aware": "{type: domain_aware, column: domain, signal: constraints}",
}
TARGETS = (0.5, 0.6, 0.7)
EVERY = 3
"""Steps between evaluations."""

Point = tuple[float, float]


def sampling_model(
    way: Annotated[list[str] | None, typer.Option(help="Which to run; default both.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Which to run; default 0, 1 and 2.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps a run, 32 completions each.")] = 15,
    report: Annotated[bool, typer.Option("--report", help="Run nothing: tell of the runs that there are.")] = False,
    picture: Annotated[Path, typer.Option(help="Where the curves go.")] = Path("docs/sampling.svg"),
) -> None:
    """Tokens that SmolLM2 generates until its held-out answers follow so many constraints, by way of sampling.

    The five kinds of constraints of recipes/cpu/light_if_tea.yaml, one to a prompt, each kind a domain; plain GRPO.
    Held out are other prompts, as many of each kind, one sampled answer to each. What has been run is not run again:
    give one `--way` and `--seed` at a time to spread them.
    """
    for name in way or WAYS:
        for number in [] if report else seed or [0, 1, 2]:
            _train(name, number, steps)
    curves = {
        (name, number): _curve(name, number)
        for name in WAYS
        for number in range(100)
        if _metrics(name, number).exists()
    }
    _tell(curves)
    draw(
        {f"{name}, seed {number}": curve for (name, number), curve in curves.items()},
        picture,
        "held-out reward, mean of five domains",
        (0, 1),
        "thousand generated tokens",
    )


def _metrics(name: str, seed: int) -> Path:
    return Path(f"runs/sampling-{name}-{seed}/metrics.jsonl")


def _rows(split: str, path: Path) -> Path:
    """Write every prompt of a split with one constraint of each kind; a row's domain is its kind."""
    from rlrules.data.constraints import ConstraintPromptsConfig
    from rlrules.recipe.load import load_recipe
    from rlrules.recipe.schema import GrpoRecipe

    data = load_recipe(RECIPE).of(GrpoRecipe).recipe.data
    assert data is not None and isinstance(data.train, ConstraintPromptsConfig) and data.train.kinds
    lines = []
    for kind, values in data.train.kinds.items():
        change = {"kinds": {kind: values}, "per_prompt": 1, "variants": 1, "where": {"split": split}}
        rows = data.train.model_copy(update=change).load(lambda text: 0).rows
        lines += [json.dumps({**row, "domain": kind}) + "\n" for row in rows]
    path.write_text("".join(lines), "utf-8")
    return path


def _train(name: str, seed: int, steps: int) -> None:
    run = _metrics(name, seed).parent
    if (run / "model/tokenizer_config.json").exists():  # The last that a finished run saves.
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    train, held_out = (_rows(split, FOLDER / f"{split}-{name}-{seed}.jsonl") for split in ("train", "eval"))
    overrides = {
        "name": run.name,
        "data.train": f"{{type: prompts, path: {train}}}",
        "data.eval": f"{{type: prompts, path: {held_out}}}",
        "tea": "null",
        "sampling": WAYS[name],
        "training.seed": seed,
        "training.max_steps": steps,
        # 8 prompts of 4 answers a step.
        "training.num_generations": 4,
        "training.gradient_accumulation_steps": 4,
        "training.steps_per_generation": 4,
        "training.eval_strategy": "steps",
        "training.eval_steps": EVERY,
        "training.eval_on_start": "true",
        "training.num_generations_eval": 1,
        "training.per_device_eval_batch_size": 25,
    }
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu.yaml"]
    command += ["scripts/train.py", RECIPE, *(f"{key}={value}" for key, value in overrides.items())]
    shutil.rmtree(run, ignore_errors=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _curve(name: str, seed: int) -> list[Point]:
    """Thousands of completion tokens generated in training so far, and the held-out reward there."""
    tokens: dict[int, float] = {}
    points = []
    for line in (json.loads(text) for text in _metrics(name, seed).read_text("utf-8").splitlines()):
        if "eval_reward" in line:
            points.append((sum(tokens.values()), line["eval_reward"]))
        elif "completions/mean_length" in line:
            tokens[line["step"]] = 32 * line["completions/mean_length"] / 1000
    return points


def _reached(curve: Sequence[Point], target: float) -> float | None:
    """Thousands of tokens at which a line through the evaluations first meets the target."""
    for (before, low), (after, high) in pairwise(curve):
        if low < target <= high:
            return before + (after - before) * (target - low) / (high - low)
    return None


def _tell(curves: Mapping[tuple[str, int], Sequence[Point]]) -> None:
    for (name, number), curve in curves.items():
        print(f"{name}, seed {number}: " + ", ".join(f"{reward:.3f} at {tokens:.1f} k" for tokens, reward in curve))
    for target in TARGETS:
        told: dict[str, list[Any]] = {name: [] for name in WAYS}
        for (name, _), curve in curves.items():
            told[name].append(_reached(curve, target))
        both = [
            (_reached(curves["domain_aware", number], target), _reached(curve, target))
            for (name, number), curve in curves.items()
            if name == "uniform" and ("domain_aware", number) in curves
        ]
        ratios = [one / other for one, other in both if one and other]
        line = f"reward {target:g}: " + "; ".join(
            f"{name} {', '.join('never' if value is None else f'{value:.1f} k' for value in values)}"
            for name, values in told.items()
        )
        print(line + (f"; ratio {statistics.median(ratios):.3f} (median of {len(ratios)})" if ratios else ""))
