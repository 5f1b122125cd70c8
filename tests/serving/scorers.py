"""Scorers for tests of the server."""

import asyncio
import time
from typing import Literal

from rlrules.rewards.base import Context, PointwiseScorer, Resources, ScorerConfig
from rlrules.types import Completion, Score


class StepConfig(ScorerConfig):
    """The step, and a thousandth of all steps."""

    type: Literal["tests.serving.scorers:StepConfig"]

    def build(self, resources: Resources) -> "Step":
        return Step()


class Step(PointwiseScorer):
    async def score_one(self, context: Context, completion: Completion) -> Score:
        return Score(context.progress.step + context.progress.total_steps / 1000)


class OddConfig(ScorerConfig):
    """Details that JSON does not know."""

    type: Literal["tests.serving.scorers:OddConfig"]

    def build(self, resources: Resources) -> "Odd":
        return Odd()


class Odd(PointwiseScorer):
    async def score_one(self, context: Context, completion: Completion) -> Score:
        details = {"half": "\ud800", "nan": float("nan"), "object": object()}
        return Score(1.0, metrics={"good": 1.0, "bad": float("inf")}, details=details)


class SlowConfig(ScorerConfig):
    """The number in the completion, after so many seconds."""

    type: Literal["tests.serving.scorers:SlowConfig"]
    seconds: float
    blocks: bool = False

    def build(self, resources: Resources) -> "Slow":
        return Slow(self.seconds, self.blocks)


class Slow(PointwiseScorer):
    def __init__(self, seconds: float, blocks: bool) -> None:
        self.seconds = seconds
        self.blocks = blocks

    async def score_one(self, context: Context, completion: Completion) -> Score:
        if self.blocks:
            time.sleep(self.seconds)
        await asyncio.sleep(self.seconds)
        return Score(float(completion.text))
