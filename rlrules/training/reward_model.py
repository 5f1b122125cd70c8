"""A classifier with one output from preferences, and over which scores it will be normalised."""

import math
from pathlib import Path
from typing import Any

import torch
from peft import AutoPeftModelForSequenceClassification, PeftModel
from transformers import Trainer
from trl import RewardTrainer

from rlrules.training.job import Job, rows_layout


def layout(job: Job, ranks: int) -> str:
    """How the run is laid out, in one line."""
    return rows_layout(job, ranks, "pairs")


def make_trainer(job: Job) -> Trainer:
    """TRL's trainer, on rows that are tokens already."""
    return RewardTrainer(**job.trainer_arguments("SEQ_CLS"))


def save(job: Job, trainer: Trainer, folder: Path) -> None:
    """Save the classifier, with the mean and deviation of its scores over the held-out pairs in its config.

    Where no pairs are held out they are those over the pairs it was trained on. The `reward_model` scorer reads them
    as `mean` and `std`. Adapters are merged: neither that scorer nor a server takes them apart from their model.
    """
    held_out = trainer.eval_dataset is not None
    rewards = pair_scores(trainer, trainer.get_eval_dataloader() if held_out else _in_order(trainer))
    mean, std = rewards.mean().item(), rewards.std().item()
    accuracy = (rewards[:, 0] > rewards[:, 1]).float().mean().item()
    if math.isfinite(std) and std > 0:
        trainer.model.config.update({"mean": mean, "std": std})
    trainer.save_model(str(folder))
    if job.log is None:
        return
    if isinstance(trainer.model, PeftModel):
        _merge(folder, trainer.model.config, job)
    part, told = ("held_out", "held-out") if held_out else ("train", "training")
    values = {"scores/mean": mean, "scores/std": std, f"scores/{part}_accuracy": accuracy}
    job.log.metrics(trainer.state.global_step, values)
    print(
        f"{told} pairs: the better answer scores higher in {accuracy:.1%} of {len(rewards)}; scores have mean "
        f"{mean:.4g} and deviation {std:.4g}",
        flush=True,
    )


def _merge(folder: Path, config: Any, job: Job) -> None:
    # From what was saved: in memory its parts may lie on other ranks.
    dtype = job.arguments.model_init_kwargs["dtype"]
    adapted = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=dtype)
    merged = adapted.merge_and_unload()
    merged.config.update({key: getattr(config, key) for key in ("mean", "std", "pad_token_id") if hasattr(config, key)})
    merged.save_pretrained(folder)
    for file in folder.glob("adapter_*"):
        file.unlink()


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
