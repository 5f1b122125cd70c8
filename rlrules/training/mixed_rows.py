"""Rows with images and rows without them in one run of several ranks."""

from typing import Any

from accelerate.utils import DistributedType

from rlrules.errors import TrainingError
from rlrules.processors import sees
from rlrules.training.images import Held
from rlrules.training.job import Job


def let_ddp_look(job: Job, held: Held) -> None:
    """Have DDP look for weights without a gradient: a batch of text alone gives the image encoder none.

    Args:
        job: Its arguments are changed, where the recipe does not say how.
        held: Gives the images of a row.
    """
    if _blind(job, held) and sees(job.prepared.tokenizer):
        told = job.recipe.training.get("ddp_find_unused_parameters", True)
        job.arguments.ddp_find_unused_parameters = told


def refuse_waiting(job: Job, trainer: Any, held: Held) -> None:
    """Where ranks gather weights or gradients part by part, one without images leaves those that have some waiting.

    Raises:
        TrainingError: Some rows hold images and some do not, and ranks share their weights.
    """
    state, count, blind = trainer.accelerator, len(job.prepared.train.rows), _blind(job, held)
    sharded = state.distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP)
    if 0 < blind < count and sharded and state.num_processes > 1:
        raise TrainingError(
            f"data.train: {blind} of {count} rows hold no image, and {state.distributed_type.value} would wait for "
            "ever for the ranks that get only such; train on rows with images alone, or launch without it (plain DDP)"
        )


def _blind(job: Job, held: Held) -> int:
    return sum(not held(row) for row in job.prepared.train.rows)
