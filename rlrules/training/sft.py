"""Fine-tuning on given answers."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from trl import SFTTrainer

from rlrules.recipe.schema import EntropySelection, SftRecipe
from rlrules.training.entropy_selection import kept_of, metrics, selected
from rlrules.training.images import dataset_of, in_column
from rlrules.training.job import Job, rows_layout
from rlrules.training.mixed_rows import let_ddp_look, refuse_waiting
from rlrules.training.weights import NamedWeights

OVERRIDES = {
    "compute_loss": "(self, model, inputs, return_outputs=False, num_items_in_batch=None)",
    "_get_num_items_in_batch": "(self, batch_samples: list, device: torch.device) -> torch.Tensor | int | None",
}
"""TRL's and transformers' methods that this trainer replaces, with their signatures; a test holds them to it."""


class RulesSFTTrainer(NamedWeights, SFTTrainer):  # type: ignore[misc]
    """Fine-tuning on the tokens whose loss is large for their entropy (Light-IF, entropy-preserving SFT).

    Of a micro-batch's N supervised tokens the floor(keep * N) of the greatest CE - coef * H are learned, with hard
    weights and no gradient through the choice. The loss is the mean CE over all tokens that an optimiser step keeps,
    on all ranks and in all micro-batches. In evaluation nothing is selected.

    Args:
        selection: The recipe's section; None, or `keep: 1`, is TRL's own loss.
        arguments: As for TRL's trainer.
    """

    def __init__(self, *, selection: EntropySelection | None = None, **arguments: Any) -> None:
        self._selection = selection if selection is not None and selection.keep < 1 else None
        super().__init__(**arguments)
        # Models that see images say that their own loss takes no count of tokens. TRL's does, and without one a row's
        # weight would depend on which micro-batch it is in.
        self.model_accepts_loss_kwargs = True

    @property
    def sees_images(self) -> bool:
        """Whether its rows are texts and images, not tokens."""
        return bool(self._is_vision_dataset)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | int | None:
        """Kept tokens of an optimiser step on all ranks, which is what its losses are divided by."""
        # Asked in training only, but before the model is put into its training mode.
        if self._selection is not None:
            # The count of as many labels as are kept: transformers knows which models want one, and sums over ranks.
            kept = [torch.zeros(kept_of(self._selection, _supervised(batch)), device=device) for batch in batch_samples]
            batch_samples = [{"labels": labels, "shift_labels": labels} for labels in kept]
        count: torch.Tensor | int | None = super()._get_num_items_in_batch(batch_samples, device)
        return count

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """TRL's loss, on the kept tokens while training."""
        section = self._selection
        if section is None or not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        sums: list[torch.Tensor] = []

        def selecting(**given: Any) -> Any:
            found = selected(section, model(**given))
            sums.append(found.sums)
            if num_items_in_batch is None and found.sums[0] > 0:
                # Without a count TRL divides by all of the micro-batch's tokens.
                found.outputs.log_probs = found.outputs.log_probs * (1 + found.sums[3] / found.sums[0])
            return found.outputs

        loss = super().compute_loss(selecting, inputs, return_outputs, num_items_in_batch)
        for name, value in metrics(self.accelerator.reduce(sums[0], reduction="sum")).items():
            self._metrics["train"][f"selection/{name}"].append(value)
        return loss


def _supervised(batch: Mapping[str, Any]) -> int:
    labels: torch.Tensor = batch["shift_labels"] if "shift_labels" in batch else batch["labels"][..., 1:]
    return int(labels.ne(-100).sum())


def layout(job: Job, ranks: int) -> str:
    """How the run is laid out, in one line."""
    return rows_layout(job, ranks, "examples")


def make_trainer(job: Job) -> Trainer:
    """TRL's trainer, on rows that are tokens already, or on texts and images.

    Raises:
        TrainingError: Some rows hold images and some do not, and ranks share their weights.
    """
    assert isinstance(job.recipe, SftRecipe)
    let_ddp_look(job, in_column)
    made = job.trainer_arguments("CAUSAL_LM", partial(dataset_of, held=in_column, kept=0))
    trainer = RulesSFTTrainer(selection=job.recipe.entropy_selection, **made)
    if trainer.sees_images:
        # What is too long was left out; a row that is cut would lose places of its images.
        trainer.data_collator.max_length = None
        refuse_waiting(job, trainer, in_column)
    return trainer


def save(job: Job, trainer: Trainer, folder: Path) -> None:
    """Save the trained model."""
    trainer.save_model(str(folder))
