"""What would go wrong later, said before anything is trained: the checks that need TRL, the data or a judge."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlrules.data.prompts_base import CountTokens
from rlrules.data.rows import Rows
from rlrules.data.tokenizers import counter_of, load_tokenizer
from rlrules.errors import DataError, RecipeError, RlrulesError
from rlrules.judges import Judge, JudgeFailure, Question, build_judge
from rlrules.judges.verdict import THINK_OPEN
from rlrules.models import resolve_model
from rlrules.recipe.arguments import scale_problems, straddling
from rlrules.recipe.build import Rewards, build_rewards
from rlrules.recipe.entropy import entropy_problems
from rlrules.recipe.evaluations import evaluation_problems, type_problems
from rlrules.recipe.generation import generation_problems
from rlrules.recipe.load import LoadedRecipe, did_you_mean
from rlrules.recipe.rollouts import rollout_server_problems, rollouts_problems
from rlrules.recipe.rows import image_problems, read_parts
from rlrules.recipe.sampling import sampling_problems
from rlrules.recipe.schema import GrpoRecipe, ModelSection, Recipe
from rlrules.rewards.advantages import DEFAULT_SCALE, named_scale
from rlrules.rewards.base import ScorerConfig
from rlrules.types import Message
from rlrules.versions import version_problems

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from trl import GRPOConfig


# Enough to see how a reply begins.
SEED_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything a run needs, known to be good.

    Attributes:
        model: Hub id or folder.
        tokenizer: Its tokenizer or processor, with the recipe's chat template.
        train: Rows to train on: prompts, or tokens.
        eval: Held-out rows, where the recipe has any.
        rewards: Judges and engine, where the method has any.
    """

    model: str
    tokenizer: Any
    train: Rows
    eval: Rows | None
    rewards: Rewards | None = None


def static_problems(loaded: LoadedRecipe[Recipe], arguments: "TrainingArguments | None") -> list[str]:
    """What is wrong with a recipe to train, as far as it shows without its model, its data and its files.

    Args:
        loaded: The recipe.
        arguments: TRL's; None where they cannot be made, so that what shows without them is found.
    """
    data = loaded.recipe.data
    missing = [part for part, section in (("model", loaded.recipe.model), ("data", data)) if section is None]
    problems = [loaded.problem((), f"`{part}` is missing: a recipe needs it to train") for part in missing]
    if isinstance(loaded.recipe, GrpoRecipe):
        policy = loaded.of(GrpoRecipe)
        problems += objective_problems(policy) + _scale_problems(policy) + _group_problems(policy, arguments)
        problems += _layout_problems(policy, arguments) if arguments is not None else []
        problems += rollouts_problems(policy, arguments)
    problems += type_problems(loaded) + _peft_problems(loaded)
    if arguments is None:
        return problems
    problems += entropy_problems(loaded, arguments) + generation_problems(loaded, arguments)
    if arguments.eval_strategy != "no" and (data is None or data.eval is None):
        problems.append(loaded.problem(("training", "eval_strategy"), "there is no `data.eval` to evaluate on"))
    every = exact_resume_every(arguments)
    if arguments.save_strategy == "steps" and arguments.save_steps % every:
        message = f"{arguments.save_steps:g} is no multiple of {every}: a run could not be resumed exactly from there"
        problems.append(loaded.problem(("training", "save_steps"), message))
    return problems


def objective_problems(loaded: LoadedRecipe) -> list[str]:
    """A line where the objective needs comparisons and no reward that it counts makes any."""
    recipe = loaded.recipe
    used = [name for name in recipe.objective.rewards_used() if name in recipe.rewards]
    if not recipe.objective.compares or any(recipe.rewards[name].compares for name in used):
        return []
    message = f"none of {', '.join(used)} compares completions: weight a `preference`, or take `type: weighted_sum`"
    return [loaded.problem(("objective", "weights"), message)]


def made_rewards(loaded: LoadedRecipe) -> tuple[Rewards | None, list[str]]:
    """A recipe's rewards, None where they cannot be made; and a line for all that is wrong with them."""
    problems = objective_problems(loaded)
    try:
        return build_rewards(loaded), problems
    except RecipeError as error:
        return None, problems + error.problems


def check_training(
    loaded: LoadedRecipe[Recipe], arguments: "TrainingArguments | None", problems: Sequence[str] = ()
) -> Prepared:
    """Check a recipe against TRL, the installed versions, its model, its data and its files.

    Args:
        loaded: The recipe.
        arguments: TRL's; None where they cannot be made.
        problems: Found before, such as why they cannot.

    Raises:
        RecipeError: All problems found, none twice.
    """
    recipe = loaded.recipe
    found = [*problems, *version_problems(), *static_problems(loaded, arguments), *evaluation_problems(loaded)]
    rewards: Rewards | None = None
    if isinstance(recipe, GrpoRecipe):
        rewards, further = made_rewards(loaded.of(GrpoRecipe))
        found += further
    model, tokenizer = "", None
    if recipe.model is not None:
        try:
            model = resolve_model(recipe.model.name)
            tokenizer = _tokenizer(model, recipe.model, recipe)
        except RlrulesError as error:
            found.append(loaded.problem(("model", "name"), str(error)))
    train, held_out, further = read_parts(loaded, tokenizer, arguments)
    found += further
    if isinstance(recipe, GrpoRecipe):
        found += _processor_problems(loaded.of(GrpoRecipe), tokenizer)
        found += _prompt_problems(loaded.of(GrpoRecipe), arguments, train, held_out, tokenizer)
    if found or train is None:
        raise RecipeError(list(dict.fromkeys(found)))
    return Prepared(model, tokenizer, train, held_out, rewards)


def token_counter(model: str) -> CountTokens:
    """Counts the tokens of a text with the tokenizer of `model` (hub id or folder).

    Raises:
        DataError: It has no tokenizer that can be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return counter_of(AutoTokenizer.from_pretrained(model))
    except (OSError, ValueError) as error:
        raise DataError(f"no tokenizer for {model!r}: {str(error).splitlines()[0]}") from error


def ping_problems(loaded: LoadedRecipe[Recipe]) -> list[str]:
    """Ask every judge one question, the cache left out, and every server of `rollouts`; a line for each that fails."""
    problems: list[str] = []
    recipe = loaded.recipe
    if not isinstance(recipe, GrpoRecipe):
        return problems
    for name, config in recipe.judges.items():
        config = config.model_copy(update={"cache": False})
        seeded = [key for key, reward in recipe.rewards.items() if name in reward.seeded_judges()]
        try:
            asyncio.run(_ping(build_judge(name, config)))
            for url in getattr(config, "urls", [None]) if seeded else []:
                # Servers of one judge are started one by one, each with a template of its own.
                alone = config.model_copy(update={"urls": [url]}) if url else config
                asyncio.run(_seed(build_judge(name, alone), url or config.model, seeded[0]))
        except RlrulesError as error:
            problems.append(loaded.problem(("judges", name), str(error)))
    return problems + rollout_server_problems(loaded.of(GrpoRecipe)) or _probe_problems(loaded.of(GrpoRecipe))


def _probe_problems(loaded: LoadedRecipe) -> list[str]:
    """A line for each reward whose judges, which all answer, get wrong what they must know."""
    problems: list[str] = []
    for name, reward in loaded.recipe.rewards.items():
        configs = {judge: loaded.recipe.judges[judge] for judge in reward.judge_names()}
        judges = {
            judge: build_judge(judge, config.model_copy(update={"cache": False})) for judge, config in configs.items()
        }
        if problem := asyncio.run(_probed(reward, judges)):
            problems.append(loaded.problem(("rewards", name), f"judge {', '.join(judges)} {problem}"))
    return problems


async def _probed(reward: ScorerConfig, judges: Mapping[str, Judge]) -> str:
    try:
        return await reward.probe(judges)
    finally:
        for judge in judges.values():
            await judge.close()


def exact_resume_every(arguments: "TrainingArguments") -> int:
    """Optimiser steps between two points at which no generated batch is half used; 1 where nothing is generated."""
    if not hasattr(arguments, "num_generations"):
        return 1
    block = int(arguments.steps_per_generation or 1) * int(arguments.num_iterations)
    accumulated = int(arguments.gradient_accumulation_steps)
    return math.lcm(block, accumulated) // accumulated


async def _ping(judge: Judge) -> None:
    try:
        await judge.ping()
    finally:
        await judge.close()


async def _seed(judge: Judge, where: str, reward: str) -> None:
    """Hold the template that is really served to what a reward says of it."""
    hello: Message = {"role": "user", "content": "Reply with the word Yes."}
    try:
        ending = await judge.prompt_end([hello])
        if ending is None:
            # Without a look at the prompt: a reply that opens its own thought was not begun inside one.
            answer = await judge.ask(Question((hello,), "canary", max_tokens=SEED_TOKENS))
            fits, told = not answer.text.lstrip().startswith(THINK_OPEN), f"a reply begins by {answer.text[:40]!r}"
        else:
            fits, told = ending.rstrip().endswith(THINK_OPEN), f"its prompt ends in {ending[-40:]!r}"
    except JudgeFailure as failure:
        raise RecipeError([f"the judge does not answer: {failure}"]) from failure
    finally:
        await judge.close()
    if not fits:
        raise RecipeError(
            [
                f"the chat template served by {where} does not open the thought: {told}; serve it with the template "
                f"that the judge was trained with (vLLM: --chat-template), or set rewards.{reward}.seeded to false"
            ]
        )


def _group_problems(loaded: LoadedRecipe, arguments: "GRPOConfig | None") -> list[str]:
    problems: list[str] = []
    for key, size in _group_sizes(loaded, arguments).items():
        for name, reward in loaded.recipe.rewards.items():
            if problem := reward.group_problem(size):
                problems.append(loaded.problem(("training", key), f"reward {name!r}: {problem}"))
    return problems


def _group_sizes(loaded: LoadedRecipe, arguments: "GRPOConfig | None") -> dict[str, int]:
    """Completions in a group, by the field that says so."""
    if arguments is None:
        size = loaded.recipe.training.get("num_generations")
        return {"num_generations": size} if isinstance(size, int) else {}
    sizes = {"num_generations": arguments.num_generations}
    if arguments.eval_strategy != "no":
        sizes["num_generations_eval"] = arguments.num_generations_eval or arguments.num_generations
    return sizes


def _scale_problems(loaded: LoadedRecipe) -> list[str]:
    objective = loaded.recipe.objective
    scale = loaded.recipe.training.get("scale_rewards", DEFAULT_SCALE)
    if not objective.makes_advantages or scale_problems(loaded) or named_scale(scale) == "none":
        return []
    message = f"is {scale!r}: `{objective.type}` gives advantages, which TRL must take as they are; set it to none"
    return [loaded.problem(("training", "scale_rewards"), message)]


def _layout_problems(loaded: LoadedRecipe, arguments: "GRPOConfig") -> list[str]:
    generations, steps = arguments.num_generations, arguments.steps_per_generation or 1
    problems = straddling(loaded, arguments.per_device_train_batch_size, steps, generations)
    held_out = arguments.num_generations_eval or generations
    if arguments.eval_strategy != "no" and arguments.per_device_eval_batch_size % held_out:
        message = (
            f"groups would straddle ranks in evaluation: per_device_eval_batch_size "
            f"({arguments.per_device_eval_batch_size}) must be a multiple of num_generations_eval ({held_out})"
        )
        problems.append(loaded.problem(("training", "per_device_eval_batch_size"), message))
    return problems


def _tokenizer(path: str, model: ModelSection, recipe: Recipe) -> Any:
    # As TRL loads it where it is left to it.
    sides = {"padding_side": "left", "truncation_side": "left"} if isinstance(recipe, GrpoRecipe) else {}
    end = recipe.training.get("eos_token")
    pixels = (model.min_pixels, model.max_pixels)
    return load_tokenizer(path, model.chat_template, model.think_seed, end, pixels, **sides)


def _processor_problems(loaded: LoadedRecipe, processor: Any) -> list[str]:
    if processor is None:
        return []
    told = ((name, reward.processor_problem(processor)) for name, reward in loaded.recipe.rewards.items())
    return [loaded.problem(("rewards", name), problem) for name, problem in told if problem]


def _prompt_problems(
    loaded: LoadedRecipe, arguments: "GRPOConfig | None", train: Rows | None, held: Rows | None, tokenizer: Any
) -> list[str]:
    problems: list[str] = []
    for part, prompts in (("train", train), ("eval", held)):
        if prompts is not None:
            problems += _column_problems(loaded, part, prompts.rows)
            problems += image_problems(loaded, part, prompts.rows, tokenizer)
    if train is not None and (sampling := loaded.recipe.sampling) is not None:
        problems += sampling_problems(loaded, sampling, arguments, train.rows)
    if arguments is None:
        return problems
    needed = (arguments.generation_batch_size or 1) // arguments.num_generations
    if train is not None and len(train.rows) < needed:
        message = f"{len(train.rows)} prompts, but one generation batch takes {needed}; lower the batch or add data"
        problems.append(loaded.problem(("data", "train"), message))
    return problems


def _column_problems(loaded: LoadedRecipe, part: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For every reward, each column that a row lacks; where none does, the first row that it cannot score against."""
    lacking: dict[tuple[str, str], str] = {}
    unsound: dict[str, str] = {}
    # Once through the rows: some are made as they are taken.
    for number, row in enumerate(rows, 1):
        for name, reward in loaded.recipe.rewards.items():
            missing = [column for column in reward.columns() if row.get(column) is None]
            for column in missing:
                if (name, column) not in lacking:
                    message = f"reward {name!r} needs the column {column!r}, row {number} lacks it"
                    lacking[name, column] = message + did_you_mean(column, sorted(set().union(*rows)))
            if not missing and name not in unsound and (problem := reward.row_problem(row)):
                unsound[name] = f"reward {name!r}, row {number}: {problem}"
    found = list(lacking.values())
    found += [message for name, message in unsound.items() if not any(name == reward for reward, _ in lacking)]
    return [loaded.problem(("data", part), message) for message in found]


def _peft_problems(loaded: LoadedRecipe[Recipe]) -> list[str]:
    if loaded.recipe.model is None or loaded.recipe.model.peft is None:
        return []
    import dataclasses

    from peft import LoraConfig

    known = {field.name for field in dataclasses.fields(LoraConfig)}
    return [
        loaded.problem(("model", "peft", key), "peft's LoraConfig has no such field" + did_you_mean(key, known))
        for key in loaded.recipe.model.peft
        if key not in known
    ]
