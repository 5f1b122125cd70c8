"""Errors that a user can act on: one line each, naming the field, file or line and the remedy."""


class RlrulesError(Exception):
    """Base of every error this package raises on purpose; the command line prints it without a traceback."""


class RecipeError(RlrulesError):
    """A recipe that cannot be used. Carries every problem found, not only the first.

    Args:
        problems: One line each: where (file, line, dotted path), what, and the remedy.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class DataError(RlrulesError):
    """Rows that cannot be used: a missing file or column, a malformed line, an empty data set."""


class ModelError(RlrulesError):
    """A model name that leads to no weights."""


class JudgeError(RlrulesError):
    """A judge that cannot be used at all (a single failed question is a typed verdict instead)."""


class EngineError(RlrulesError):
    """A model server that did not start or died."""


class TrainingError(RlrulesError):
    """A run that cannot start or must stop."""
