"""How good the reasoning before an answer is, graded by a judge that sees nothing of the answer (SophiaVL-R1)."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from rlrules.judges import Judge
from rlrules.judges.images import image_url
from rlrules.judges.thinking import LEVELS, Graded, grade_thinking, images_of, level_of
from rlrules.rewards.base import Resources, ScorerConfig, judge_of, unscored
from rlrules.rewards.tagged import Tagged, read_tagged
from rlrules.types import ContentPart, Group, Message, Score, Scored

PROBE: tuple[Message, ...] = (
    {
        "role": "user",
        "content": "A tank holds 48 litres. A tap fills it at 6 litres a minute while a leak loses 2 litres a minute. "
        "How many minutes does the empty tank take to fill?",
    },
)
SOUND = (
    "Each minute the tap adds 6 litres and the leak takes away 2, so the tank gains 6 - 2 = 4 litres a minute. It has "
    "to gain 48 litres in all, which takes 48 / 4 = 12 minutes. Check: in 12 minutes 72 litres come in and 24 are "
    "lost, and 72 - 24 = 48."
)
UNSOUND = (
    "The tank is blue, so I add everything: 48 + 6 + 2 = 65. No, 48 + 6 = 42. A leak makes water heavier, and heavy "
    "water fills faster, so I multiply by the leak. Je ne sais pas. The tank is blue, so I add everything: 48 + 6 = "
    "42. I think I saw 3 somewhere, so it must be 3."
)


class ThinkingConfig(ScorerConfig):
    """The judge's mean grade over its probabilities of 0.0, 0.1 … 1.0, or the one it wrote where they are not known."""

    type: Literal["thinking"] = "thinking"
    judge: str = Field(description="The recipe's judge that grades.")
    probed: bool = Field(True, description="Refuse to train with a judge that grades nonsense as high as sense.")

    def judge_names(self) -> tuple[str, ...]:
        """The judge."""
        return (self.judge,)

    def calls_per_completion(self) -> float:
        """One; a second where the judge hesitates between 1.0 and less."""
        return 1.0

    async def probe(self, judges: Mapping[str, Judge]) -> str:
        """Sound reasoning must get a higher grade than nonsense."""
        if not self.probed:
            return ""
        judge = judges[self.judge]
        sound, unsound = [await grade_thinking(judge, PROBE, (), thought) for thought in (SOUND, UNSOUND)]
        for graded in (sound, unsound):
            if graded.outcome != "value":
                return f"gives no grade: {graded.reason}"
        if sound.value > unsound.value:
            return ""
        return (
            f"grades sound reasoning {sound.value:.3f} and nonsense {unsound.value:.3f}; take a judge that can tell "
            "them apart (recipes/thinking_reward_model.yaml trains one)"
        )

    def build(self, resources: Resources) -> "ThinkingScorer":
        """Make the scorer."""
        return ThinkingScorer(judge_of(resources, self.judge))


class ThinkingScorer:
    """Grades a group's reasonings.

    A completion without the form of `tagged.py` is malformed and no judge is asked. One question goes ahead of the
    others of its group, so that the server has read images and question when they come.

    Args:
        judge: Who grades.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def score(self, group: Group) -> Scored:
        """Grade all completions of a group; raises where an image of the prompt cannot be had."""
        tagged = [read_tagged(completion.text) for completion in group.completions]
        asked = [number for number, read in enumerate(tagged) if not _broken(read)]
        images = await asyncio.to_thread(_encoded, group.prompt) if asked else []

        async def grade(number: int) -> Graded:
            return await grade_thinking(self._judge, group.prompt, images, tagged[number].thought)

        ahead = [await grade(number) for number in asked[:1]]
        others = await asyncio.gather(*(grade(number) for number in asked[1:]), return_exceptions=True)
        graded = dict(zip(asked, [*ahead, *others], strict=True))
        return Scored(tuple(_score(graded.get(number), read) for number, read in enumerate(tagged)))


def _encoded(prompt: Sequence[Message]) -> list[ContentPart]:
    return [image_url(part) for part in images_of(prompt)]


def _broken(read: Tagged) -> str:
    return read.problem or ("" if read.thought else "no reasoning to grade")


def _score(graded: Graded | BaseException | None, read: Tagged) -> Score:
    if graded is None:
        return Score(0.0, "malformed", _broken(read))
    if isinstance(graded, BaseException):
        return unscored(graded)
    metrics = {outcome: float(graded.outcome == outcome) for outcome in ("failed", "unparsed", "truncated")}
    metrics["thought_cut"] = float(graded.cut)
    if graded.outcome != "value":
        return Score(None, "unscored", graded.reason, metrics)
    known = bool(graded.probabilities)
    metrics |= {f"level_{level}": float(level == level_of(graded.value)) for level in LEVELS}
    metrics["from_probabilities"] = float(known)
    details: dict[str, object] = {"said": graded.said}
    if known:
        spread = sum(share * (float(level) - graded.value) ** 2 for level, share in graded.probabilities.items())
        details["deviation"] = round(math.sqrt(spread), 6)
    return Score(graded.value, metrics=metrics, details=details)
