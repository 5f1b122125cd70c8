"""Scoring what no trainer made: files of completions, and requests to a server.

Both use the rewards of a run; what they must hold their input to, and do behind the engine, is here.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrules.errors import DataError
from rlrules.models import resolve_model
from rlrules.recipe.build import Rewards
from rlrules.recipe.checks import token_counter
from rlrules.recipe.load import LoadedRecipe
from rlrules.recipe.schema import GrpoRecipe
from rlrules.rewards.advantages import DEFAULT_SCALE, Scale, advantages, named_scale
from rlrules.rewards.engine import ScoredGroup, totals


def row_problem(recipe: GrpoRecipe, row: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why completions cannot be scored against a data row, or None.

    Returns:
        The column that is missing, empty where none is; and what is wrong, in words.
    """
    for name, reward in recipe.rewards.items():
        for column in reward.columns():
            if row.get(column) is None:
                return column, f"reward {name!r} needs the column {column!r}"
        if problem := reward.row_problem(row):
            return "", f"reward {name!r}: {problem}"
    return None


def group_problem(recipe: GrpoRecipe, size: int) -> str:
    """Why groups of `size` completions cannot be scored, in words; empty where they can."""
    for name, reward in recipe.rewards.items():
        if problem := reward.group_problem(size):
            return f"reward {name!r}: {problem}"
    return ""


def columns_read(recipe: GrpoRecipe) -> list[str]:
    """All columns that the rewards read, also where only some rows have them; sorted."""
    rewards = recipe.rewards.values()
    return sorted({column for reward in rewards for column in (*reward.columns(), *reward.optional_columns())})


class TokenCounts:
    """Counts the tokens of completions that come without a count, where one is needed.

    Args:
        recipe: Its `model` counts, loaded when it is first needed.
    """

    def __init__(self, recipe: GrpoRecipe) -> None:
        self._needing = [f"reward {name!r}" for name, reward in recipe.rewards.items() if reward.needs_tokens]
        self._needing += ["the objective"] * recipe.objective.needs_tokens
        self._model = recipe.model
        self._count: Callable[[str], int] | None = None
        self._lock = threading.Lock()

    @property
    def needed(self) -> bool:
        """Whether a reward, or the objective, reads token counts."""
        return bool(self._needing)

    def of(self, text: str) -> int:
        """Tokens in `text`; 0 where nothing reads them.

        Raises:
            DataError: There is no model to count with.
        """
        if not self._needing:
            return 0
        if self._model is None:
            raise DataError(
                f"{self._needing[0]} needs token counts: give `tokens` with each completion, "
                "or `model` in the recipe to count with"
            )
        with self._lock:  # Fast tokenizers complain of being used by two threads at once.
            if self._count is None:
                self._count = token_counter(resolve_model(self._model.name))
            return self._count(text)


def settled(
    loaded: LoadedRecipe, rewards: Rewards, scored: Sequence[ScoredGroup]
) -> tuple[list[ScoredGroup], list[NDArray[np.float64]]]:
    """Finish what the engine made, these groups being the whole batch.

    Returns:
        The groups, and the advantages that TRL would make of each, of shape (G,).
    """
    finished = rewards.engine.settle(scored, totals(scored))
    return finished, advantages([group.outcome.rewards for group in finished], _scale(loaded))


def _scale(loaded: LoadedRecipe) -> Scale:
    if loaded.recipe.objective.makes_advantages:
        return "none"
    return named_scale(loaded.recipe.training.get("scale_rewards", DEFAULT_SCALE))
