"""Weights out of a checkpoint, into the model that goes on being trained."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel, Trainer
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

OVERRIDES = {
    "_load_from_checkpoint": "(self, resume_from_checkpoint: str, model: torch.nn.modules.module.Module | None = None) "
    "-> None",
    "_load_best_model": "(self) -> None",
}
"""transformers' methods that `NamedWeights` replaces, with their signatures; a test holds it to them."""


class NamedWeights(Trainer):  # type: ignore[misc]
    """Loads checkpoints of models whose weights are saved under other names than their modules have.

    Models that see images are saved under the names they were published with, while transformers loads a checkpoint by
    the names of modules and passes over what does not fit. Of Qwen2.5-VL nothing does: a resumed run would begin from
    the first weights again, with the optimiser's state of later ones.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """As transformers', or by the model's own way where its names are others."""
        # With FSDP the model is given, and its checkpoint has a form of its own.
        if model is not None or not self._loaded(Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        """Likewise."""
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        if sharded or not self._loaded(Path(self.state.best_model_checkpoint)):
            super()._load_best_model()

    def _loaded(self, checkpoint: Path) -> bool:
        """Load a checkpoint's weights, if they are a whole model's under other names; whether they were."""
        model = self.model
        if not isinstance(model, PreTrainedModel) or saved_names(checkpoint) <= set(model.state_dict()):
            return False
        saved = type(model).from_pretrained(checkpoint, dtype="auto")
        model.load_state_dict(saved.state_dict())
        return True


def saved_names(checkpoint: Path) -> set[str]:
    """Names of the weights in a checkpoint; none where it holds no whole model."""
    index, whole = checkpoint / SAFE_WEIGHTS_INDEX_NAME, checkpoint / SAFE_WEIGHTS_NAME
    if index.exists():
        return set(json.loads(index.read_text())["weight_map"])
    if not whole.exists():
        return set()
    with safe_open(whole, framework="pt") as file:
        return set(file.keys())
