"""A recipe's `training` section as TRL's configuration."""

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrules.errors import RecipeError
from rlrules.recipe.load import LoadedRecipe, Problem, did_you_mean
from rlrules.recipe.schema import GrpoRecipe, ModelSection, Recipe, SftRecipe
from rlrules.rewards.advantages import DEFAULT_SCALE, named_scale

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from trl import GRPOConfig, RewardConfig, SFTConfig

# Fields of TRL's that have another place here, with that place.
_ELSEWHERE = {
    "output_dir": "the run directory is runs/NAME",
    "model_init_kwargs": "use `model`",
    "resume_from_checkpoint": "use --resume",
    "remove_unused_columns": "the columns are needed",
    "logging_dir": "the run directory is runs/NAME",
    "run_name": "use `name`",
}
_ELSEWHERE_GRPO = _ELSEWHERE | {
    "reward_weights": "use `objective.weights`",
    "multi_objective_aggregation": "use `objective: {type: weighted_sum, normalize: group}`",
    "log_completions": "completions are always in completions.jsonl",
    "log_multimodal": "completions.jsonl says which images a prompt holds",
}
_TOKENISED = _ELSEWHERE | {
    "chat_template_path": "use `model.chat_template`",
    "dataset_num_proc": "rows come to TRL as tokens",
    "pad_token": "it is the tokenizer's",
}
_ELSEWHERE_SFT = _TOKENISED | {
    "assistant_only_loss": "the loss is on each row's last answer",
    "completion_only_loss": "the loss is on each row's last answer",
    "dataset_kwargs": "rows come to TRL as tokens",
    "dataset_text_field": "use `data.train.columns`",
    "truncation_mode": "rows longer than max_length are left out, never cut",
}


def training_arguments(loaded: LoadedRecipe[Recipe], run_dir: Path) -> "TrainingArguments":
    """Make TRL's configuration of the recipe's method for this process.

    What the section leaves out takes TRL's default, except: every step is logged, no tracker is reported to, and a
    machine without an accelerator computes on the CPU.

    Raises:
        RecipeError: Fields that TRL does not have, that have another place, or that TRL refuses.
    """
    if isinstance(loaded.recipe, GrpoRecipe):
        return grpo_arguments(loaded.of(GrpoRecipe), run_dir)
    return sft_arguments(loaded, run_dir) if isinstance(loaded.recipe, SftRecipe) else reward_arguments(loaded, run_dir)


def arguments_or_problems(loaded: LoadedRecipe[Recipe], run_dir: Path) -> tuple["TrainingArguments | None", list[str]]:
    """As `training_arguments`; where they cannot be made, None and why, to be told with what else is wrong."""
    try:
        return training_arguments(loaded, run_dir), []
    except RecipeError as error:
        return None, error.problems


def grpo_arguments(loaded: LoadedRecipe, run_dir: Path) -> "GRPOConfig":
    """As `training_arguments`, for GRPO."""
    from trl import GRPOConfig

    training = loaded.recipe.training
    problems = scale_problems(loaded)
    # TRL's own check is of all ranks' batch together, and says nothing of ranks.
    sizes = ("per_device_train_batch_size", "num_generations", "gradient_accumulation_steps")
    size, generations, accumulated = (training.get(name, getattr(GRPOConfig, name)) for name in sizes)
    steps = training.get("steps_per_generation", accumulated)
    counts = all(isinstance(count, int) and count > 0 for count in (size, steps, generations))
    if counts and "generation_batch_size" not in training:
        problems += straddling(loaded, size, steps, generations)
    return _made(loaded, GRPOConfig, problems, run_dir)


def sft_arguments(loaded: LoadedRecipe[Recipe], run_dir: Path) -> "SFTConfig":
    """As `training_arguments`, for fine-tuning."""
    from trl import SFTConfig

    return _made(loaded, SFTConfig, [], run_dir)


def reward_arguments(loaded: LoadedRecipe[Recipe], run_dir: Path) -> "RewardConfig":
    """As `training_arguments`, for reward models."""
    from trl import RewardConfig

    return _made(loaded, RewardConfig, [], run_dir)


def field_problems(recipe: Mapping[str, Any], problem: Problem) -> list[str]:
    """A line for each key of `training` that TRL's configuration lacks, or that has another place.

    Args:
        recipe: A recipe's mapping, its `method` and `training` at least.
        problem: Makes the line.
    """
    from trl import GRPOConfig, RewardConfig, SFTConfig

    configs: dict[str, tuple[Any, Mapping[str, str]]] = {
        "grpo": (GRPOConfig, _ELSEWHERE_GRPO),
        "sft": (SFTConfig, _ELSEWHERE_SFT),
        "reward_model": (RewardConfig, _TOKENISED),
    }
    config, elsewhere = configs[recipe["method"]]
    known = {field.name for field in dataclasses.fields(config) if field.init}
    problems: list[str] = []
    training = recipe.get("training")
    for key in training if isinstance(training, Mapping) else ():
        if key in elsewhere:
            problems.append(problem(("training", key), f"cannot be set: {elsewhere[key]}"))
        elif key not in known:
            message = f"TRL's {config.__name__} has no such field{did_you_mean(key, known)}"
            problems.append(problem(("training", key), message))
    return problems


def scale_problems(loaded: LoadedRecipe) -> list[str]:
    """A line where TRL would refuse `scale_rewards`."""
    try:
        named_scale(loaded.recipe.training.get("scale_rewards", DEFAULT_SCALE))
    except ValueError as error:
        return [loaded.problem(("training", "scale_rewards"), str(error))]
    return []


def straddling(loaded: LoadedRecipe, size: int, steps: int, generations: int) -> list[str]:
    """A line where a rank's part of a rollout is not made of whole groups."""
    if (size * steps) % generations == 0:
        return []
    message = (
        f"groups would straddle ranks: per_device_train_batch_size ({size}) x steps_per_generation ({steps}) must be "
        f"a multiple of num_generations ({generations})"
    )
    return [loaded.problem(("training", "num_generations"), message)]


def _made(loaded: LoadedRecipe[Recipe], config: Any, problems: list[str], run_dir: Path) -> Any:
    import torch

    recipe = loaded.recipe
    problems = field_problems({"method": recipe.method, "training": recipe.training}, loaded.problem) + problems
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
    fixed: dict[str, Any] = {
        "output_dir": str(run_dir / "checkpoints"),
        "run_name": loaded.recipe.name,
        "remove_unused_columns": False,
        "model_init_kwargs": _model_arguments(loaded.recipe.model) if loaded.recipe.model else None,
    }
    if isinstance(recipe, GrpoRecipe):
        # TRL would gather all images on all ranks, for a table that is not printed.
        fixed["log_multimodal"] = False
    try:
        with warnings.catch_warnings():
            # TRL's own defaults use names that transformers is about to drop; nothing a recipe could mend.
            warnings.simplefilter("ignore", FutureWarning)
            return config(**{**defaults, **loaded.recipe.training, **fixed})
    except (TypeError, ValueError, ArithmeticError, ImportError) as error:
        raise RecipeError([loaded.problem(("training",), f"TRL refuses: {str(error).splitlines()[0]}")]) from error


def _model_arguments(model: ModelSection) -> dict[str, Any]:
    arguments = {"dtype": model.dtype}
    if model.attn_implementation is not None:
        arguments["attn_implementation"] = model.attn_implementation
    return arguments
