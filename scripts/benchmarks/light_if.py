"""Learning to follow constraints: TEA beside plain GRPO and top-entropy masking."""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import draw

RECIPE = "recipes/cpu/light_if_tea.yaml"
UNTRAINED = "untrained"
VARIANTS: Mapping[str, Sequence[str]] = {
    UNTRAINED: (),
    "tea": (),
    "grpo": ("tea=null",),
    "top_entropy": ("tea=null", "training.top_entropy_quantile=0.2"),
}
"""What each changes in the recipe."""

# Kinds that no run trains on, each within reach of 64 tokens.
UNSEEN: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "change_case:english_capital": {},
    "detectable_content:postscript": {},
    "detectable_format:number_bullet_lists": {"num_bullets": [2, 3]},
    "detectable_format:number_highlighted_sections": {"num_highlights": [1, 2]},
    "keywords:existence": {},
    "keywords:forbidden_words": {},
    "startend:end_checker": {},
}
# Prompts made of one seed prompt, held out and of unseen kinds.
PROMPTS = (6, 3)
SHOWN = 2

Row = dict[str, Any]


def light_if(
    variant: Annotated[list[str] | None, typer.Option(help="Which to run; default all.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Which to run; default 0, 1 and 2.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps a run.")] = 20,
    report: Annotated[bool, typer.Option("--report", help="Run nothing: tell of the results that there are.")] = False,
    picture: Annotated[Path, typer.Option(help="Where the curves go.")] = Path("docs/light_if.svg"),
) -> None:
    """Held-out reward before and after training, on kinds of constraints trained on and on others.

    A run and its evaluation are one result in runs/light_if, and what has its result is not run again: give one
    `--variant` and `--seed` at a time to spread them, and a killed run goes on from its last checkpoint. Whatever is
    there is then reported together, with 95 % intervals over held-out seed prompts, resampled with all that was made
    of them.
    """
    for name in variant or VARIANTS:
        if name not in VARIANTS:
            raise typer.BadParameter(f"no variant {name!r}: {', '.join(VARIANTS)}")
        for number in [] if report else seed or [0, 1, 2]:
            if not _result(name, number).exists():
                model = None if name == UNTRAINED else _train(name, number, steps)
                _evaluate(name, number, model)
    results = {(name, number): _rows(path) for name, number, path in _results()}
    if not results:
        raise typer.BadParameter("there is no result yet")
    _tell(results)
    curves = {}
    for name, number in results:
        if name != UNTRAINED:
            curves[f"{name}, seed {number}"] = _smooth(_metric(name, number, "entropy"))
    if curves:
        draw(curves, picture, "entropy of a token, nats", (0, None))


def _result(name: str, seed: int) -> Path:
    return Path(f"runs/light_if/{name}-{seed}.jsonl")


def _results() -> Iterator[tuple[str, int, Path]]:
    for name in VARIANTS:
        for path in sorted(Path("runs/light_if").glob(f"{name}-*.jsonl")):
            yield name, int(path.stem.rpartition("-")[2]), path


def _rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _train(name: str, seed: int, steps: int) -> Path:
    run = f"light_if-{name}-{seed}"
    model = Path("runs") / run / "model"
    if (model / "tokenizer_config.json").exists():  # The last that a finished run saves.
        return model
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu.yaml"]
    # A port of its own: several runs may go on side by side.
    command += ["--main_process_port", "0", "scripts/train.py", RECIPE, f"name={run}", f"training.seed={seed}"]
    command += [f"training.max_steps={steps}", "training.save_strategy=steps", "training.save_steps=10"]
    command += ["training.save_total_limit=1", "training.eval_strategy=no", *VARIANTS[name], "--resume", "auto"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(model.parent / "checkpoints")  # Two gigabytes that nothing needs any more.
    return model


def _evaluate(name: str, seed: int, model: Path | None) -> None:
    """Write an answer to every held-out prompt, with its score."""
    from benchmarks.light_if_answers import scored_answers

    rows = scored_answers(RECIPE, model, UNSEEN, PROMPTS, seed)
    path = _result(name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    draft.replace(path)


def _metric(name: str, seed: int, key: str) -> list[tuple[float, float]]:
    lines = _rows(Path(f"runs/light_if-{name}-{seed}/metrics.jsonl"))
    return [(line["step"], line[key]) for line in lines if key in line]


def _smooth(points: Sequence[tuple[float, float]], window: int = 5) -> list[tuple[float, float]]:
    values = [value for _, value in points]
    return [(step, statistics.mean(values[max(0, n - window + 1) : n + 1])) for n, (step, _) in enumerate(points)]


def _tell(results: Mapping[tuple[str, int], list[Row]]) -> None:
    for part in ("held out", "unseen kinds"):
        print(f"{part}:")
        before = [row for (name, _), rows in results.items() if name == UNTRAINED for row in rows if row["set"] == part]
        for name in VARIANTS:
            seeds = [number for found, number in results if found == name]
            rows = [row for number in seeds for row in results[name, number] if row["set"] == part]
            if rows:
                print(f"  {name}, seeds {seeds}: {_summary(rows, before if name != UNTRAINED else [])}")
                for number in seeds if len(seeds) > 1 else []:
                    mean = statistics.mean(row["reward"] for row in results[name, number] if row["set"] == part)
                    print(f"    seed {number}: reward {mean:.3f}")
        for name, number in results:
            for row in [row for row in results[name, number] if row["set"] == part][: SHOWN if number == 0 else 0]:
                print(f"  {name}: {row['reward']:.2f} {row['kinds']} {row['text']!r}")


def _summary(rows: Sequence[Row], before: Sequence[Row]) -> str:
    """Means over rows, with intervals over the seed prompts that they were made of."""
    from rlrules.evaluation.stats import bootstrap, paired_bootstrap

    units = sorted({row["unit"] for row in rows})
    reward = bootstrap(*_sums(rows, units))
    told = [f"reward {reward.value:.3f} [{reward.low:.3f}, {reward.high:.3f}]"]
    if before:
        gain = paired_bootstrap(_sums(rows, units), _sums(before, units))
        told.append(f"gain {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")
    told += [
        f"{label} {statistics.mean(row[key] for row in rows):.3g}"
        for key, label in (("all", "all followed"), ("tokens", "tokens"), ("truncated", "cut"), ("entropy", "entropy"))
    ]
    told += [f"distinct-{n} {_distinct([row['text'] for row in rows], n):.3f}" for n in (1, 2)]
    return f"{', '.join(told)}; {len(rows)} answers, {len(units)} seed prompts"


def _sums(rows: Sequence[Row], units: Sequence[str]) -> tuple[list[float], list[float]]:
    found = {unit: [row["reward"] for row in rows if row["unit"] == unit] for unit in units}
    return [sum(found[unit]) for unit in units], [len(found[unit]) for unit in units]


def _distinct(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words over all there are."""
    grams = [
        gram
        for words in (text.lower().split() for text in texts)
        for gram in zip(*(words[k:] for k in range(n)), strict=False)
    ]
    return len(set(grams)) / max(1, len(grams))
