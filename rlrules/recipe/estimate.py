"""What a recipe will cost: batches, judge calls, tokens and memory."""

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrules.data.rows import Rows
from rlrules.errors import RecipeError, RlrulesError
from rlrules.recipe.arguments import arguments_or_problems
from rlrules.recipe.checks import (
    Prepared,
    check_training,
    made_rewards,
    objective_problems,
    ping_problems,
    static_problems,
)
from rlrules.recipe.generation import rank_problems, trl_server_problems
from rlrules.recipe.load import LoadedRecipe
from rlrules.recipe.schema import GrpoRecipe, Recipe
from rlrules.recipe.served import serving_problems
from rlrules.versions import version_problems

if TYPE_CHECKING:
    from trl import GRPOConfig

GIB = 2**30
_PING_S = 10.0


def estimate(loaded: LoadedRecipe[Recipe], ranks: int, ping: bool, offline: bool) -> list[tuple[str, str]]:
    """Check a recipe and say what it will cost.

    Args:
        loaded: The recipe.
        ranks: How many will train.
        ping: Also ask every judge a question, and TRL's vLLM server how it was started.
        offline: Do not touch the model, the data and the files that rewards read.

    Returns:
        Names and values to show.

    Raises:
        RecipeError: All problems found.
    """
    recipe = loaded.recipe
    problems = ping_problems(loaded) if ping else []
    if isinstance(recipe, GrpoRecipe) and recipe.model is None and recipe.data is None and not recipe.training:
        # Only judges, rewards and objective: a recipe to score and serve with.
        policy = loaded.of(GrpoRecipe)
        problems += objective_problems(policy) if offline else made_rewards(policy)[1]
        problems += serving_problems(policy)
        if problems:
            raise RecipeError(list(dict.fromkeys(problems)))
        return [("rewards", ", ".join(recipe.rewards)), ("judge calls per completion", _calls_told(recipe, offline))]
    arguments, found = arguments_or_problems(loaded, Path("runs") / recipe.name)
    problems += found
    if arguments is not None:
        problems += rank_problems(loaded, arguments, ranks)
        problems += trl_server_problems(loaded, arguments, _PING_S) if ping else []
    prepared: Prepared | None = None
    if offline:
        problems += version_problems() + static_problems(loaded, arguments)
    else:
        try:
            prepared = check_training(loaded, arguments, problems)
        except RecipeError as error:
            problems = error.problems
    if problems or arguments is None:
        raise RecipeError(list(dict.fromkeys(problems)))
    if isinstance(recipe, GrpoRecipe):
        prompts = len(prepared.train.rows) if prepared else None
        rows = _batches(arguments, ranks, prompts)
        rows += _sampled(recipe, prepared) + _generated(recipe)
        rows += _costs(recipe, arguments, ranks, _steps(arguments, ranks, prompts), offline)
    else:
        rows = _passes(arguments, ranks, prepared)
    if prepared and prepared.train.left_out():
        rows.append(("left out", prepared.train.left_out()))
    if recipe.eval:
        rows.append(("evaluated by", ", ".join(f"{name} ({section.type})" for name, section in recipe.eval.items())))
    return [*rows, ("memory per rank", _memory(prepared.model if prepared else "", arguments, loaded))]


def _passes(arguments: Any, ranks: int, prepared: Prepared | None) -> list[tuple[str, str]]:
    """Of methods that go through given rows."""
    size = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * ranks
    rows = [("ranks", str(ranks)), ("effective batch", f"{size:,} rows an optimiser step")]
    if prepared is None:
        return [*rows, ("rows", "unknown"), ("optimiser steps", "unknown")]
    steps: int | None = arguments.max_steps if arguments.max_steps > 0 else None
    count = len(prepared.train.rows)
    if steps is None and not getattr(arguments, "packing", False):
        batches = math.ceil(count / (arguments.per_device_train_batch_size * ranks))
        steps = math.ceil(arguments.num_train_epochs * math.ceil(batches / arguments.gradient_accumulation_steps))
    lengths = _lengths(prepared.train)
    return [
        *rows,
        ("rows", f"{count:,}" + (f", {len(prepared.eval.rows):,} held out" if prepared.eval else "")),
        ("tokens", f"{sum(lengths):,} in all rows, {max(lengths):,} in the longest"),
        ("optimiser steps", "decided by packing" if steps is None else f"{steps:,}"),
    ]


def _lengths(rows: Rows) -> list[int]:
    # Rows with images are no tokens yet.
    return [row.get("length") or sum(len(ids) for key, ids in row.items() if key.endswith("_ids")) for row in rows.rows]


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


def _sampled(recipe: GrpoRecipe, prepared: Prepared | None) -> list[tuple[str, str]]:
    """How prompts are drawn, and from what."""
    if recipe.sampling is None:
        return []
    told = f"{recipe.sampling.type} by {recipe.sampling.column}"
    if prepared is None:
        return [("sampling", told)]
    counts = Counter(str(row[recipe.sampling.column]) for row in prepared.train.rows)
    return [("sampling", f"{told}: {', '.join(f'{name} {count:,}' for name, count in sorted(counts.items()))}")]


def _generated(recipe: GrpoRecipe) -> list[tuple[str, str]]:
    """Where completions come from, and what goes there."""
    if recipe.rollouts is None:
        return []
    sent = "the adapter" if recipe.rollouts.sync == "lora" else "all weights"
    return [("generation", f"{len(recipe.rollouts.urls)} vLLM over HTTP, {sent} sent at every rollout")]


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
    recipe: GrpoRecipe, arguments: "GRPOConfig", ranks: int, steps: int | None, offline: bool
) -> list[tuple[str, str]]:
    batch = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * ranks
    completions = batch / arguments.num_iterations
    total = "unknown" if steps is None else f"{steps:,}"
    rows = [("optimiser steps", total)]
    if offline:
        return rows
    size = arguments.num_generations
    calls = sum(reward.calls_per_group(size) for reward in recipe.rewards.values()) / size
    told = f"{calls:g} a completion, {calls * completions:,.0f} a step"
    bound = completions * (arguments.max_completion_length or 0)
    tokens = f"at most {bound:,.0f} generated a step"
    if steps is not None:
        told += f", {calls * completions * steps:,.0f} in all (cached ones included)"
        tokens += f", {bound * steps:,.0f} in all"
    return [*rows, ("judge calls", told), ("tokens", tokens)]


def _calls_told(recipe: GrpoRecipe, offline: bool) -> str:
    rewards = recipe.rewards.values()
    if offline:
        return "unknown"
    calls = f"{sum(reward.calls_per_completion() for reward in rewards):g}"
    comparing = [name for name, reward in recipe.rewards.items() if reward.compares]
    return f"{calls}, and those of {', '.join(comparing)} by the size of the groups" if comparing else calls


def _memory(model: str, arguments: Any, loaded: LoadedRecipe[Recipe]) -> str:
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
    reference = weights if getattr(arguments, "beta", 0) and loaded.recipe.model.peft is None else 0
    told = f"weights {weights / GIB:.1f} + gradients and Adam {training / GIB:.1f}"
    told += f" + reference {reference / GIB:.1f}" if reference else ""
    return f"{told} = {(weights + training + reference) / GIB:.1f} GiB unsharded, activations on top"


def count_parameters(model: str) -> int:
    """Number of a model's parameters, tied ones once, from its configuration alone.

    Raises:
        RecipeError: It has no configuration that can be read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(model)
        sees = type(config) in AutoModelForImageTextToText._model_mapping
        with torch.device("meta"):
            empty = (AutoModelForImageTextToText if sees else AutoModelForCausalLM).from_config(config)
    except (OSError, ValueError) as error:
        raise RecipeError([f"{model}: {str(error).splitlines()[0]}"]) from error
    return sum(parameter.numel() for parameter in empty.parameters())
