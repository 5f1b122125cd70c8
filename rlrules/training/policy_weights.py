"""A policy's weights in a folder, as a server loads them: written by the first rank, there whole or not at all."""

import shutil
from pathlib import Path
from typing import Any

import torch

from rlrules.engines.policy import Sync


def gathered(trainer: Any, sync: Sync) -> dict[str, torch.Tensor]:
    """What `write` writes; all ranks call it together, and what the first gets counts.

    Args:
        trainer: TRL's, after its first step was prepared.
        sync: The adapter alone, or all weights.
    """
    if sync == "full":
        weights: dict[str, torch.Tensor] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        return weights
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapter = {name: weight for name, weight in model.named_parameters() if model.prefix in name}
    # Under ZeRO-3 a rank holds a part of each.
    with trainer._dist.gather_params(list(adapter.values())):
        return {name: weight.detach().to("cpu", copy=True) for name, weight in adapter.items()}


def write(trainer: Any, weights: dict[str, torch.Tensor], folder: Path, sync: Sync) -> None:
    """Write a version, with its configuration; on the first rank.

    Raises:
        OSError: The folder cannot be written.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    draft = folder.with_name(f".{folder.name}.draft")
    # Of an adapter others may lie beside it: a copy of what it began as, for the KL term.
    named = {"selected_adapters": ["default"]} if sync == "lora" else {}
    model.save_pretrained(draft, state_dict=weights, **named)
    # A server may look at any moment.
    draft.rename(folder)


def remove(folder: Path) -> None:
    """Remove a version that no server is to load any more."""
    shutil.rmtree(folder, ignore_errors=True)
