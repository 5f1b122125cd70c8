"""A vision-language model from scratch learns jigsaw puzzles by reward alone."""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import draw

RECIPE = "recipes/cpu/jigsaw_learning.yaml"
HELD_OUT = 512
BATCH = 8


def jigsaw(
    seeds: Annotated[list[int] | None, typer.Option(help="A run each: --seeds 0 --seeds 1; 0, 1 and 2.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps of GRPO a run.")] = 100,
    start_steps: Annotated[int, typer.Option(help="Steps that teach the answer's form, with random answers.")] = 300,
    picture: Annotated[Path, typer.Option(help="Where the curves go.")] = Path("docs/jigsaw.svg"),
) -> None:
    """Exact answers to held-out 2x1 puzzles, before and after GRPO, for solved and unsolved puzzles apart."""
    curves: dict[str, list[tuple[float, float]]] = {}
    after: list[float] = []
    for seed in seeds or [0, 1, 2]:
        folder = Path(f"runs/jigsaw-start-{seed}-{os.getpid()}")
        started = time.monotonic()
        _start(folder, seed, start_steps)
        begun = time.monotonic()
        run = _train(folder, seed, steps)
        ended = time.monotonic()
        curves[f"seed {seed}"] = _curve(run)
        told = {name: _evaluated(path, seed) for name, path in (("start", folder), ("trained", run / "model"))}
        for name, found in told.items():
            print(f"seed {seed}, {name}: {_told(found)}", flush=True)
        after.append(told["trained"]["exact"])
        print(f"seed {seed}: {begun - started:.0f} s of form, {ended - begun:.0f} s of GRPO", flush=True)
    print(f"exact: median {statistics.median(after):.3f} ({min(after):.3f} to {max(after):.3f}) of {HELD_OUT} puzzles")
    draw(curves, picture, "held-out accuracy, sampled", (0, 1))


def _start(folder: Path, seed: int, steps: int) -> None:
    """Write a tiny model that knows how an answer looks, and nothing of puzzles.

    Answers are drawn at random, and there is no image beside them: with images the model learns that they say nothing,
    and afterwards not even right answers teach it to look.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    from rlrules.processors import load_processor
    from rlrules.tiny_vlm import TinyVLM, write_tiny_vlm

    [row] = _puzzles(1, seed=0)
    asked = row["prompt"][0]["content"][1]
    answers = ("1 2", "2 1")
    texts = [f"user\n{asked['text']}\nassistant\n", *answers]
    write_tiny_vlm(folder, TinyVLM(heads=2, seed=seed), texts=texts * 3)
    processor = load_processor(str(folder), padding_side="left")
    model = AutoModelForImageTextToText.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.05)
    chat = [{"role": "user", "content": [asked]}]
    prompt = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    generator = random.Random(seed)
    for _ in range(steps):
        drawn = [generator.choice(answers) + processor.tokenizer.eos_token for _ in range(BATCH)]
        inputs = processor(text=[prompt + answer for answer in drawn], padding=True, return_tensors="pt")
        labels = inputs["input_ids"].clone()
        labels[:, : -len(processor.tokenizer(drawn[0])["input_ids"])] = -100
        model(**inputs, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.save_pretrained(folder)


def _train(start: Path, seed: int, steps: int) -> Path:
    name = f"jigsaw-{seed}-{os.getpid()}"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu.yaml"]
    command += ["scripts/train.py", RECIPE, f"name={name}", f"model.name={start}", f"training.seed={seed}"]
    command += [f"data.train.seed={seed}", f"training.max_steps={steps}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Path("runs") / name


def _curve(run: Path) -> list[tuple[float, float]]:
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    key = "eval_rewards/jigsaw/accuracy"
    return [(line["step"], line[key]) for line in metrics if key in line]


def _evaluated(folder: Path, seed: int) -> dict[str, Any]:
    """Greedy answers to held-out puzzles, of images and arrangements that no run has seen."""
    import torch
    from transformers import AutoModelForImageTextToText

    from rlrules.evaluation.jigsaw_questions import question_metrics
    from rlrules.processors import load_processor

    processor = load_processor(str(folder), padding_side="left")
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    rows = _puzzles(HELD_OUT, seed=2000 + seed)
    lines: list[dict[str, Any]] = []
    for first in range(0, len(rows), 64):
        batch = rows[first : first + 64]
        inputs = _inputs(processor, batch)
        with torch.no_grad():
            written = model.generate(**inputs, max_new_tokens=6, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        texts = processor.batch_decode(written, skip_special_tokens=True)
        lines += [{**row, "response": text} for row, text in zip(batch, texts, strict=True)]
    return question_metrics([(f"puzzle {line['id']}", line) for line in lines], think=False)


def _puzzles(count: int, seed: int) -> Sequence[Any]:
    """Puzzles as the recipe has them, of images with another seed."""
    from rlrules.data.jigsaw import JigsawPromptsConfig
    from rlrules.recipe.load import load_recipe

    data: Any = load_recipe(RECIPE).recipe.data
    made = data.train.model_dump()
    made["images"] |= {"count": count, "seed": seed}
    made |= {"stages": [{"m": 2, "n": 1, "prompts": count}], "seed": seed}
    return JigsawPromptsConfig.model_validate(made).load(len).rows


def _inputs(processor: Any, rows: Sequence[Any]) -> Any:
    from rlrules.images import open_image, references

    images = [[open_image(reference) for reference in references(row["prompt"])] for row in rows]
    texts = [processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) for row in rows]
    return processor(images=images, text=texts, padding=True, return_tensors="pt")


def _told(found: dict[str, Any]) -> str:
    parts = {name: part["exact"] for name, part in found["by_puzzle"].items()}
    low, high = (found["intervals"]["exact"][side] for side in ("low", "high"))
    shown = ", ".join(f"{name} {value:.3f}" for name, value in parts.items())
    return (
        f"exact {found['exact']:.3f} ({low:.3f} to {high:.3f}; {shown}; random {found['by_chance']['exact']:.2f}), "
        f"form {found['format']:.3f}"
    )
