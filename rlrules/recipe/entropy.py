"""What TRL's configuration must be for `tea` and for `entropy_selection`."""

from typing import TYPE_CHECKING

from rlrules.recipe.load import LoadedRecipe
from rlrules.recipe.schema import GrpoRecipe, Recipe, SftRecipe, TeaSection

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from trl import GRPOConfig, SFTConfig


def entropy_problems(loaded: LoadedRecipe[Recipe], arguments: "TrainingArguments") -> list[str]:
    """A line for each field of `training` that does not go with the recipe's entropy section."""
    recipe = loaded.recipe
    conflicts: dict[str, str] = {}
    if isinstance(recipe, GrpoRecipe) and recipe.tea is not None:
        conflicts = tea_conflicts(recipe.tea, arguments, recipe.rollouts is not None)
    elif isinstance(recipe, SftRecipe) and recipe.entropy_selection is not None:
        conflicts = selection_conflicts(arguments)
    return [loaded.problem(("training", field), message) for field, message in conflicts.items()]


def tea_conflicts(tea: TeaSection, arguments: "GRPOConfig", served: bool = False) -> dict[str, str]:
    """Why TEA cannot be added to TRL's loss as configured, by TRL's field; `served`: servers generate (`rollouts`)."""
    conflicts: dict[str, str] = {}
    if tea.coef == 0:
        return conflicts
    others = {
        "entropy_coef": (arguments.entropy_coef != 0, "an entropy bonus of TRL's"),
        "use_adaptive_entropy": (arguments.use_adaptive_entropy, "an entropy bonus of TRL's"),
        "top_entropy_quantile": (arguments.top_entropy_quantile < 1, "a policy loss on some tokens only"),
    }
    for field, (used, what) in others.items():
        if used:
            conflicts[field] = f"{what} and `tea` would pull on the same entropy: leave one of them out"
    block, accumulated = rollout_steps(arguments), arguments.gradient_accumulation_steps
    if block % accumulated:
        conflicts["gradient_accumulation_steps"] = (
            f"`tea` takes the mean advantage over an optimiser step, and one of {accumulated} micro-batches is not "
            f"rolled out as a whole: let it divide steps_per_generation x num_iterations ({block})"
        )
    elif tea.scope == "batch" and not has_old_logps(arguments, served):
        conflicts["steps_per_generation"] = (
            "`tea.scope: batch` needs old log-probabilities, which TRL takes only where a rollout serves more than one "
            f"optimiser step: make it a multiple of gradient_accumulation_steps ({accumulated}), twice at least, or "
            "set tea.scope to sequence"
        )
    return conflicts


def selection_conflicts(arguments: "SFTConfig") -> dict[str, str]:
    """Why tokens cannot be selected under TRL's configuration, by TRL's field."""
    conflicts: dict[str, str] = {}
    if arguments.label_smoothing_factor:
        conflicts["label_smoothing_factor"] = "smoothing takes a loss on all tokens: set it to 0 with entropy_selection"
    if arguments.loss_type != "nll":
        conflicts["loss_type"] = f"`{arguments.loss_type}` weighs tokens itself: set it to nll with entropy_selection"
    return conflicts


def rollout_steps(arguments: "GRPOConfig") -> int:
    """Micro-batches from one rollout to the next."""
    return int(arguments.steps_per_generation or 1) * int(arguments.num_iterations)


def has_old_logps(arguments: "GRPOConfig", served: bool = False) -> bool:
    """Whether TRL keeps the log-probabilities that the policy had when it was rolled out, `served` or not."""
    corrected = (arguments.use_vllm or served) and arguments.vllm_importance_sampling_correction
    return bool(arguments.gradient_accumulation_steps % rollout_steps(arguments) != 0 or corrected)
