"""A classifier with one output from preferences, and over which scores it will be normalised."""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from trl import RewardTrainer

from rlrules.training.job import Job, rows_layout


def layout(job: Job, ranks: int) -> str:
    """How the run is laid out, in one line."""
    return rows_layout(job, ranks, "pairs")


def make_trainer(job: Job) -> Trainer:
    """TRL's trainer, on rows that are tokens already."""
    return RewardTrainer(**job.trainer_arguments("SEQ_CLS"))


def finish(job: Job, trainer: Trainer, folder: Path) -> None:
    """Store the scores' mean and deviation over the held-out pairs, or over the trained ones where none are held out.

    They go into the model's config as `mean` and `std`, which the `reward_model` scorer reads.
    """
    held_out = trainer.eval_dataset is not None
    rewards = pair_scores(trainer, trainer.get_eval_dataloader() if held_out else _in_order(trainer))
    mean, std = rewards.mean().item(), rewards.std().item()
    accuracy = (rewards[:, 0] > rewards[:, 1]).float().mean().item()
    found = {"mean": mean, "std": std}
    if std > 0 and math.isfinite(std):
        trainer.model.config.update(found)
    if job.log is not None:
        # Of an adapter alone PEFT saves no config, and the scorer would look for one in vain.
        trainer.model.config.save_pretrained(folder)
        part = "held_out" if held_out else "train"
        values = {f"scores/{name}": value for name, value in found.items()}
        job.log.metrics(trainer.state.global_step, {**values, f"scores/{part}_accuracy": accuracy})
        print(
            f"{'held-out' if held_out else 'training'} pairs: the better answer scores higher in {accuracy:.1%} of "
            f"{len(rewards)}; scores have mean {mean:.4g} and deviation {std:.4g}",
            flush=True,
        )


def pair_scores(trainer: Any, batches: Any) -> torch.Tensor:
    """Shape (N, 2), on all ranks: the scores of the chosen and the rejected answer of every pair, in order."""
    model = trainer.model_wrapped
    model.eval()
    found: list[torch.Tensor] = []
    for batch in batches:
        batch.pop("margin", None)
        with torch.no_grad():
            logits = model(**batch, use_cache=False).logits.float()
        # B chosen, then B rejected; as pairs, so that the padding of the last batch over ranks is taken off by pairs.
        found.append(trainer.accelerator.gather_for_metrics(logits.view(2, -1).T.contiguous()).cpu())
    return torch.cat(found)


def _in_order(trainer: Any) -> Any:
    return trainer.get_test_dataloader(trainer.train_dataset)
