"""What every method's trainer is made from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from datasets import Dataset
from peft import LoraConfig
from transformers import Trainer, TrainerCallback

from rlrules.recipe.checks import Prepared
from rlrules.recipe.schema import Recipe
from rlrules.training.images import Row, dataset_of
from rlrules.training.log import RunLog
from rlrules.training.state import Stateful


@dataclass(frozen=True, slots=True)
class Job:
    """One run on one rank.

    Attributes:
        recipe: What is run.
        arguments: TRL's configuration of the recipe's method.
        prepared: Model, tokenizer, rows, rewards.
        log: Where lines go; None on all ranks but the first.
        callbacks: Of the trainer.
        states: What the method's parts learn beside the weights, by name; it is saved in checkpoints and restored from
            the one that the run goes on from. `make_trainer` adds to it.
    """

    recipe: Recipe
    arguments: Any
    prepared: Prepared
    log: RunLog | None
    callbacks: list[TrainerCallback]
    states: dict[str, Stateful] = field(default_factory=dict)

    def trainer_arguments(self, task: str, dataset: Callable[[Sequence[Row]], Dataset] = dataset_of) -> dict[str, Any]:
        """The arguments that TRL's trainers share.

        Args:
            task: PEFT's name for what the model does.
            dataset: Makes a data set of rows.
        """
        held_out, peft = self.prepared.eval, self.recipe.model.peft if self.recipe.model else None
        return {
            "model": self.prepared.model,
            "args": self.arguments,
            "train_dataset": dataset(self.prepared.train.rows),
            "eval_dataset": dataset(held_out.rows) if held_out else None,
            "processing_class": self.prepared.tokenizer,
            "peft_config": None if peft is None else LoraConfig(task_type=task, **peft),
            "callbacks": self.callbacks,
        }


class Method(Protocol):
    """A way to train; one module of this folder each."""

    def layout(self, job: Job, ranks: int) -> str:
        """How the run is laid out, in one line."""
        ...

    def make_trainer(self, job: Job) -> Trainer:
        """TRL's trainer."""
        ...

    def save(self, job: Job, trainer: Trainer, folder: Path) -> None:
        """Save the model once all steps are done, and do what belongs to that; on all ranks."""
        ...


def rows_layout(job: Job, ranks: int, noun: str) -> str:
    """The layout of a run that goes through given rows."""
    size = job.arguments.per_device_train_batch_size * job.arguments.gradient_accumulation_steps * ranks
    told = told_rows(job.prepared, noun)
    return f"{ranks} rank{'s' * (ranks > 1)}; an optimiser step is {size} {noun}; {told}"


def told_rows(prepared: Prepared, noun: str) -> str:
    """How many rows there are, and what was left out."""
    left_out = prepared.train.left_out()
    return f"{len(prepared.train.rows)} {noun}" + (f" (left out: {left_out})" if left_out else "")
