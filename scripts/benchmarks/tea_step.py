"""The cost of TEA."""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import EMBEDDED
from benchmarks.turns import WARMING, Turn, interleaved, tell_ratio

NAMES = ("tea", "grpo")
TOKENS = 32


def tea_step(
    pairs: Annotated[int, typer.Option(help="Pairs of steps to measure; 0: none.")] = 20,
    processes: Annotated[int, typer.Option(help="Processes of each kind whose peak memory is measured.")] = 3,
    memory_of: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """CPU seconds and peak memory of a step with TEA over those of the same step without, at a fixed length.

    Pairs are kept in runs/tea_step.jsonl and told together, so that they can be measured in pieces.
    """
    if memory_of is not None:
        _alone(memory_of)
        return
    measured = Path("runs/tea_step.jsonl")
    if pairs:
        with tempfile.TemporaryDirectory() as folder:
            steps = pairs + WARMING
            seconds = interleaved(lambda turn: [_trainer(Path(folder), n, steps, turn) for n in NAMES], NAMES, steps)
        measured.parent.mkdir(exist_ok=True)
        with measured.open("a") as file:
            for pair in list(zip(*(seconds[name] for name in NAMES), strict=True))[WARMING:]:
                file.write(json.dumps(pair) + "\n")
    if measured.exists():
        every = [json.loads(line) for line in measured.read_text().splitlines()]
        tell_ratio([pair[0] for pair in every], [pair[1] for pair in every], NAMES)
    peaks: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(processes):
        for name in NAMES:
            command = [sys.executable, sys.argv[0], "tea-step", "--memory-of", name]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks[name].append(float(told.split()[-1]))
    if processes:
        ratios = [one / other for one, other in zip(peaks["tea"], peaks["grpo"], strict=True)]
        spread = f"({min(ratios):.4f} to {max(ratios):.4f}, {processes} pairs of processes)"
        print("peak memory, MiB, medians: " + ", ".join(f"{n} {statistics.median(peaks[n]):.0f}" for n in NAMES))
        print(f"ratio: median {statistics.median(ratios):.4f} {spread}")


def _alone(name: str) -> None:
    """Three steps in this process; prints its peak of resident memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        _trainer(Path(folder), name, 3, None).train()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _trainer(folder: Path, name: str, steps: int, turn: Turn | None) -> Any:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig

    from rlrules.models import resolve_model
    from rlrules.recipe.schema import TeaSection
    from rlrules.rewards.engine import RewardEngine
    from rlrules.rewards.length import LengthScorer
    from rlrules.rewards.objective import WeightedSumConfig
    from rlrules.training.grpo import RulesGRPOTrainer
    from rlrules.training.log import RunLog
    from rlrules.training.scoring import BatchScorer

    run = folder / name
    run.mkdir()
    arguments = GRPOConfig(
        output_dir=str(run / "out"), max_steps=steps, per_device_train_batch_size=4, num_generations=4,
        max_completion_length=TOKENS, generation_kwargs={"min_new_tokens": TOKENS}, logging_steps=1,
        save_strategy="no", report_to="none", bf16=False, use_cpu=True, gradient_checkpointing=False,
        disable_tqdm=True, remove_unused_columns=False, model_init_kwargs={"dtype": "float32"},
    )  # fmt: skip
    rows = [{"prompt": [{"role": "user", "content": f"Tell me about number {n}."}]} for n in range(64)]
    weights = WeightedSumConfig(weights={"length": 1}).build()
    engine = RewardEngine({"length": LengthScorer(2, 10)}, weights, ["length"], 60)
    trainer = RulesGRPOTrainer(
        scorer=BatchScorer(engine, {}, RunLog(run), 0.05, "group"),
        tea=TeaSection() if name == "tea" else None,
        model=resolve_model(EMBEDDED),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        callbacks=[turn(name)] if turn else [],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
