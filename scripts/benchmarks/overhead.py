"""The cost of a step."""

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import EMBEDDED


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
