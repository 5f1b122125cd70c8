"""What a recipe will cost: batches, judge calls, tokens and memory."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rlrules.errors import RecipeError, RlrulesError
from rlrules.recipe.arguments import grpo_arguments
from rlrules.recipe.build import build_rewards
from rlrules.recipe.checks import check_training, objective_problems, ping_problems, static_problems
from rlrules.recipe.load import LoadedRecipe
from rlrules.versions import version_problems

if TYPE_CHECKING:
    from trl import GRPOConfig

GIB = 2**30


def estimate(loaded: LoadedRecipe, ranks: int, ping: bool, offline: bool) -> list[tuple[str, str]]:
    """Check a recipe and say what it will cost.

    Args:
        loaded: The recipe.
        ranks: How many will train.
        ping: Also ask every judge a question.
        offline: Do not touch the model, the data and the files that rewards read.

    Returns:
        Names and values to show.

    Raises:
        RecipeError: All problems found.
    """
    recipe = loaded.recipe
    problems = ping_problems(loaded) if ping else []
    if recipe.model is None and recipe.data is None and not recipe.training:
        # Only judges, rewards and objective: a recipe to score and serve with.
        problems += objective_problems(loaded)
        if not offline:
            build_rewards(loaded)
        if problems:
            raise RecipeError(problems)
        return [("rewards", ", ".join(recipe.rewards)), ("judge calls per completion", _calls_told(loaded, offline))]
    arguments = grpo_arguments(loaded, Path("runs") / recipe.name)
    prompts: int | None = None
    model = ""
    if offline:
        problems += version_problems() + static_problems(loaded, arguments)
    else:
        try:
            prepared = check_training(loaded, arguments)
            prompts, model = len(prepared.train.rows), prepared.model
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    rows = _batches(arguments, ranks, prompts)
    steps = _steps(arguments, ranks, prompts)
    rows += _costs(loaded, arguments, ranks, steps, offline)
    return [*rows, ("memory per rank", _memory(model, arguments, loaded))]


def _batches(arguments: "GRPOConfig", ranks: int, prompts: int | None) -> list[tuple[str, str]]:
    size, accumulated = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    per_rank = size * (arguments.steps_per_generation or 1) // arguments.num_generations
    return [
        ("ranks", str(ranks)),
        ("prompts", "unknown" if prompts is None else f"{prompts:,}"),
        ("effective batch", f"{size * accumulated * ranks:,} completions an optimiser step"),
        ("rollout", f"{per_rank * ranks:,} prompts x {arguments.num_generations} completions"),
        ("groups per rank", f"{per_rank:,} whole groups a rollout"),
    ]


def _steps(arguments: "GRPOConfig", ranks: int, prompts: int | None) -> int | None:
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    if prompts is None:
        return None
    batch = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * ranks
    rollout = arguments.per_device_train_batch_size * (arguments.steps_per_generation or 1) * ranks
    whole = prompts * arguments.num_generations // rollout * rollout
    steps: int = math.ceil(whole * arguments.num_iterations / batch * arguments.num_train_epochs)
    return steps


def _costs(
    loaded: LoadedRecipe, arguments: "GRPOConfig", ranks: int, steps: int | None, offline: bool
) -> list[tuple[str, str]]:
    batch = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * ranks
    completions = batch / arguments.num_iterations
    total = "unknown" if steps is None else f"{steps:,}"
    rows = [("optimiser steps", total)]
    if offline:
        return rows
    size = arguments.num_generations
    calls = sum(reward.calls_per_group(size) for reward in loaded.recipe.rewards.values()) / size
    told = f"{calls:g} a completion, {calls * completions:,.0f} a step"
    bound = completions * (arguments.max_completion_length or 0)
    tokens = f"at most {bound:,.0f} generated a step"
    if steps is not None:
        told += f", {calls * completions * steps:,.0f} in all (cached ones included)"
        tokens += f", {bound * steps:,.0f} in all"
    return [*rows, ("judge calls", told), ("tokens", tokens)]


def _calls_told(loaded: LoadedRecipe, offline: bool) -> str:
    rewards = loaded.recipe.rewards.values()
    if offline:
        return "unknown"
    calls = f"{sum(reward.calls_per_completion() for reward in rewards):g}"
    comparing = [name for name, reward in loaded.recipe.rewards.items() if reward.compares]
    return f"{calls}, and those of {', '.join(comparing)} by the size of the groups" if comparing else calls


def _memory(model: str, arguments: "GRPOConfig", loaded: LoadedRecipe) -> str:
    """Weights, gradients and Adam's two moments, unsharded; activations come on top."""
    if not model or loaded.recipe.model is None:
        return "unknown without the model"
    try:
        parameters = count_parameters(model)
    except RlrulesError as error:
        return f"unknown: {error}"
    width = 2 if loaded.recipe.model.dtype in ("bfloat16", "float16") else 4
    weights = parameters * width
    trained = 0.02 if loaded.recipe.model.peft is not None else 1.0
    training = trained * parameters * (width + 2 * width)
    reference = weights if arguments.beta and loaded.recipe.model.peft is None else 0
    told = f"weights {weights / GIB:.1f} + gradients and Adam {training / GIB:.1f}"
    told += f" + reference {reference / GIB:.1f}" if reference else ""
    return f"{told} = {(weights + training + reference) / GIB:.1f} GiB unsharded, activations on top"


def count_parameters(model: str) -> int:
    """Number of a model's parameters, tied ones once, from its configuration alone.

    Raises:
        RecipeError: It has no configuration that can be read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(model)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError) as error:
        raise RecipeError([f"{model}: {str(error).splitlines()[0]}"]) from error
    return sum(parameter.numel() for parameter in empty.parameters())
