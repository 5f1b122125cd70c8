"""A recipe's judges and rewards, made ready to score."""

from dataclasses import dataclass

from rlrules.errors import RecipeError, RlrulesError
from rlrules.judges import Judge, build_judge
from rlrules.recipe.load import LoadedRecipe
from rlrules.recipe.schema import GrpoRecipe
from rlrules.rewards.base import Resources, Scorer
from rlrules.rewards.engine import RewardEngine


@dataclass(frozen=True, slots=True)
class Rewards:
    """What scores.

    Attributes:
        judges: By name.
        scorers: By the reward's name.
        engine: All rewards and the objective.
    """

    judges: dict[str, Judge]
    scorers: dict[str, Scorer]
    engine: RewardEngine


def build_rewards(loaded: LoadedRecipe) -> Rewards:
    """Make all judges and scorers of a recipe; files are read, nothing is asked yet.

    Raises:
        RecipeError: What cannot be made, a line each.
    """
    recipe = loaded.recipe
    problems: list[str] = []
    judges: dict[str, Judge] = {}
    scorers: dict[str, Scorer] = {}
    for name, judge in recipe.judges.items():
        try:
            judges[name] = build_judge(name, judge)
        except RlrulesError as error:
            problems.append(loaded.problem(("judges", name), str(error)))
    resources = Resources(judges, _count(recipe.training.get("max_completion_length")))
    for name, reward in recipe.rewards.items():
        if all(judge in judges for judge in reward.judge_names()):
            try:
                scorers[name] = reward.build(resources)
            except RlrulesError as error:
                problems.append(loaded.problem(("rewards", name), str(error)))
    if problems:
        raise RecipeError(problems)
    objective = recipe.objective
    engine = RewardEngine(
        scorers, objective.build(), recipe.required_rewards(), objective.deadline_s, _in_process(recipe)
    )
    return Rewards(judges, scorers, engine)


def _in_process(recipe: GrpoRecipe) -> list[str]:
    """Rewards that compute in this process, themselves or through a judge."""
    return [
        name
        for name, reward in recipe.rewards.items()
        if reward.in_process or any(recipe.judges[judge].in_process for judge in reward.judge_names())
    ]


def _count(value: object) -> int | None:
    # Whatever else stands there TRL refuses.
    return value if isinstance(value, int) and value > 0 else None
