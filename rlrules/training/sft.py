"""Fine-tuning on given answers."""

from pathlib import Path

from transformers import Trainer
from trl import SFTTrainer

from rlrules.training.job import Job, rows_layout


def layout(job: Job, ranks: int) -> str:
    """How the run is laid out, in one line."""
    return rows_layout(job, ranks, "examples")


def make_trainer(job: Job) -> Trainer:
    """TRL's trainer, on rows that are tokens already."""
    return SFTTrainer(**job.trainer_arguments("CAUSAL_LM"))


def save(job: Job, trainer: Trainer, folder: Path) -> None:
    """Save the trained model."""
    trainer.save_model(str(folder))
