"""A recipe's `training` section as TRL's configuration."""

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrules.errors import RecipeError
from rlrules.recipe.load import LoadedRecipe, did_you_mean

if TYPE_CHECKING:
    from trl import GRPOConfig

# Fields of TRL's that have another place here, with that place.
_ELSEWHERE = {
    "output_dir": "the run directory is runs/NAME",
    "model_init_kwargs": "use `model`",
    "reward_weights": "use `objective.weights`",
    "multi_objective_aggregation": "use `objective: {type: weighted_sum, normalize: group}`",
    "resume_from_checkpoint": "use --resume",
    "remove_unused_columns": "scorers need the columns",
    "log_completions": "completions are always in completions.jsonl",
    "logging_dir": "the run directory is runs/NAME",
    "run_name": "use `name`",
}


def grpo_arguments(loaded: LoadedRecipe, run_dir: Path) -> "GRPOConfig":
    """Make TRL's configuration for this process.

    What the section leaves out takes TRL's default, except: every step is logged, no tracker is reported to, and a
    machine without an accelerator computes on the CPU.

    Raises:
        RecipeError: Fields that TRL does not have, that have another place, or that TRL refuses.
    """
    import torch
    from trl import GRPOConfig

    training, model = loaded.recipe.training, loaded.recipe.model
    known = {field.name for field in dataclasses.fields(GRPOConfig) if field.init}
    problems: list[str] = []
    for key in training:
        if key in _ELSEWHERE:
            problems.append(loaded.problem(("training", key), f"cannot be set: {_ELSEWHERE[key]}"))
        elif key not in known:
            problems.append(loaded.problem(("training", key), "TRL has no such field" + did_you_mean(key, known)))
    # TRL's own check is of all ranks' batch together, and says nothing of ranks.
    sizes = ("per_device_train_batch_size", "num_generations", "gradient_accumulation_steps")
    size, generations, accumulated = (training.get(name, getattr(GRPOConfig, name)) for name in sizes)
    if "generation_batch_size" not in training:
        problems += straddling(loaded, size, training.get("steps_per_generation", accumulated), generations)
    if problems:
        raise RecipeError(problems)
    defaults: dict[str, Any] = {
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,  # console.py shows the run.
        "ddp_find_unused_parameters": False,  # The default looks for them in vain, every step.
    }
    if not torch.cuda.is_available():
        # bf16 is TRL's default and means autocast; without an accelerator it only costs.
        defaults |= {"use_cpu": True}
    fixed = {
        "output_dir": str(run_dir / "checkpoints"),
        "run_name": loaded.recipe.name,
        "remove_unused_columns": False,
        "model_init_kwargs": _model_arguments(model) if model else None,
    }
    try:
        with warnings.catch_warnings():
            # TRL's own defaults use names that transformers is about to drop; nothing a recipe could mend.
            warnings.simplefilter("ignore", FutureWarning)
            return GRPOConfig(**{**defaults, **training, **fixed})
    except (TypeError, ValueError, ImportError) as error:
        raise RecipeError([loaded.problem(("training",), f"TRL refuses: {str(error).splitlines()[0]}")]) from error


def straddling(loaded: LoadedRecipe, size: int, steps: int, generations: int) -> list[str]:
    """A line where a rank's part of a rollout is not made of whole groups."""
    if (size * steps) % generations == 0:
        return []
    message = (
        f"groups would straddle ranks: per_device_train_batch_size ({size}) x steps_per_generation ({steps}) must be "
        f"a multiple of num_generations ({generations})"
    )
    return [loaded.problem(("training", "num_generations"), message)]


def _model_arguments(model: Any) -> dict[str, Any]:
    arguments = {"dtype": model.dtype}
    if model.attn_implementation is not None:
        arguments["attn_implementation"] = model.attn_implementation
    return arguments
