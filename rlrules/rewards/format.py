"""Rewards for the form of an answer: think tags, or any pattern."""

import re
from typing import Literal

from pydantic import field_validator

from rlrules.rewards.base import Context, PointwiseScorer, Resources, ScorerConfig
from rlrules.types import Completion, Score

_THINK_FORM = re.compile(r"\s*<think>(?:(?!</?think>).)*</think>(?:(?!</?think>).)*\S\s*", re.DOTALL)


class FormatConfig(ScorerConfig):
    """1 for one thought in think tags followed by an answer, else 0."""

    type: Literal["format"] = "format"

    def build(self, resources: Resources) -> "PatternScorer":
        """Make the scorer."""
        return PatternScorer(_THINK_FORM, "not one <think>…</think> followed by an answer")


class RegexConfig(ScorerConfig):
    """1 where the whole answer matches `pattern`, else 0.

    `.` matches line breaks; write `.*` at an end that is free.
    """

    type: Literal["regex"] = "regex"
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    def build(self, resources: Resources) -> "PatternScorer":
        """Make the scorer."""
        return PatternScorer(re.compile(self.pattern, re.DOTALL), "does not match the pattern")


class PatternScorer(PointwiseScorer):
    """1.0 where the whole text matches; otherwise 0.0, marked as malformed.

    Args:
        pattern: What the whole text must match.
        complaint: The reason given where it does not.
    """

    def __init__(self, pattern: re.Pattern[str], complaint: str) -> None:
        self._pattern = pattern
        self._complaint = complaint

    async def score_one(self, context: Context, completion: Completion) -> Score:
        """Match one completion."""
        if self._pattern.fullmatch(completion.text):
            return Score(1.0)
        return Score(0.0, "malformed", self._complaint)
