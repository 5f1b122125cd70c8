"""The `eval` section of a recipe: a benchmark's configuration with the trained model in the place of the tested one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrules.errors import RecipeError
from rlrules.evaluation.benchmarks import BENCHMARKS
from rlrules.evaluation.config import VisionEvalConfig
from rlrules.recipe.load import LoadedRecipe, did_you_mean, load_config, load_mapping, merge
from rlrules.recipe.schema import EvalSection, Recipe, RewardModelRecipe

if TYPE_CHECKING:
    from rlrules.evaluation.config import EvalConfig

ORIGIN = "the trained model"


def type_problems(loaded: LoadedRecipe[Recipe]) -> list[str]:
    """A line for each evaluation of an unknown type, or of one that the trained model cannot be put to."""
    problems: list[str] = []
    for name, section in loaded.recipe.eval.items():
        if section.type not in BENCHMARKS:
            message = f"no benchmark {section.type!r}{did_you_mean(section.type, BENCHMARKS)}"
            problems.append(loaded.problem(("eval", name, "type"), message))
        elif _slot(loaded.recipe, section.type) is None:
            fitting = ", ".join(known for known in BENCHMARKS if _slot(loaded.recipe, known))
            message = f"{section.type} cannot be run on a {loaded.recipe.method}; take one of {fitting}"
            problems.append(loaded.problem(("eval", name, "type"), message))
    return problems


def evaluation_problems(loaded: LoadedRecipe[Recipe]) -> list[str]:
    """A line for everything that is wrong with the configurations of the evaluations whose type is good."""
    problems: list[str] = []
    for name, section in loaded.recipe.eval.items():
        if section.type not in BENCHMARKS or _slot(loaded.recipe, section.type) is None:
            continue
        if not Path(section.config).is_file():
            message = f"{section.config} does not exist (looked in {Path.cwd()})"
            problems.append(loaded.problem(("eval", name, "config"), message))
            continue
        try:
            evaluation_config(loaded, name, "model", "cpu")
        except RecipeError as error:
            problems += error.problems
    return problems


def evaluation_config(loaded: LoadedRecipe[Recipe], name: str, model: str, device: str) -> "EvalConfig":
    """The configuration of one evaluation, with the trained model as the one that is tested.

    Args:
        loaded: The recipe.
        name: Of the evaluation.
        model: The trained model's folder.
        device: Where it runs, by torch's name.

    Raises:
        RecipeError: All problems found, a line each.
    """
    recipe, section = loaded.recipe, loaded.recipe.eval[name]
    slot = _slot(recipe, section.type)
    given = merge(load_mapping(section.config), section.overrides)
    if slot == "model" and "answers" in given:
        message = f"evaluation {name!r} asks the trained model, not for existing answers; remove this"
        raise RecipeError([_problem(loaded, name, section, message)])
    layers = [
        (loaded.sources.locate(("eval", name, "overrides")), section.overrides),
        (ORIGIN, _tested(recipe, str(slot), given.get(str(slot)), model, device)),
    ]
    return load_config(section.config, (), BENCHMARKS[section.type].config(), layers)


def _problem(loaded: LoadedRecipe[Recipe], name: str, section: EvalSection, message: str) -> str:
    if "answers" in section.overrides:
        return loaded.problem(("eval", name, "overrides", "answers"), message)
    return f"{section.config}: answers: {message}"


def _slot(recipe: Recipe, benchmark: str) -> str | None:
    """The field of a benchmark's configuration that the trained model fills; None where it has none for it."""
    config = BENCHMARKS[benchmark].config()
    if issubclass(config, VisionEvalConfig):
        # In this process it would read text alone.
        return None
    fields = config.model_fields
    # A policy answers where answers are tested; where judges and reward models are, it is tested as a judge.
    wanted = ("reward_model",) if isinstance(recipe, RewardModelRecipe) else ("model", "judge")
    return next((field for field in wanted if field in fields), None)


def _tested(recipe: Recipe, slot: str, given: object, model: str, device: str) -> dict[str, Any]:
    """What goes over a configuration; null takes out what was said of another model."""
    dtype = recipe.model.dtype if recipe.model is not None else "float32"
    here: dict[str, Any] = {"model": model, "device": device, "dtype": dtype}
    if slot == "reward_model":
        return {"judge": None, slot: {"type": "reward_model", "urls": None, "mean": None, "std": None, **here}}
    if isinstance(given, dict):
        # How it is to answer is the benchmark's to say, whoever was to answer.
        here |= {key: given[key] for key in ("temperature", "max_tokens") if key in given}
    # Its answers are kept in the result's folder; by the model's folder a cache would take another run's for them.
    tested = {slot: {"type": "local", "revision": None, "cache": False, **here}}
    return tested if slot == "model" else {"reward_model": None, **tested}
