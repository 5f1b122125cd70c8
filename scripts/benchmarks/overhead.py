"""The cost of a step."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import EMBEDDED
from benchmarks.turns import WARMING, Turn, interleaved, tell_ratio


def overhead(pairs: Annotated[int, typer.Option(help="Pairs of steps.")] = 20) -> None:
    """CPU seconds of a step: our trainer against stock GRPOTrainer with the same function, taking turns."""
    steps = pairs + WARMING
    with tempfile.TemporaryDirectory() as folder:
        seconds = interleaved(lambda turn: _trainers(Path(folder), steps, turn), ("ours", "stock"), steps)
    tell_ratio(seconds["ours"][WARMING:], seconds["stock"][WARMING:], ("ours", "stock"))


def _trainers(folder: Path, steps: int, turn: Turn) -> list[Any]:
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
