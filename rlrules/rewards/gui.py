"""Rewards of a GUI agent's single steps: the action's type, its place, and the form of the answer (UI-R1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from rlrules.errors import DataError, RecipeError
from rlrules.processors import pixel_bounds
from rlrules.rewards.base import Context, PointwiseScorer, Resources, Scorer, ScorerConfig, unpacked
from rlrules.rewards.boxes import Box, Size, in_box, iou, scaled
from rlrules.rewards.gui_frames import (
    FACTOR,
    MAX_PIXELS,
    MIN_PIXELS,
    Frame,
    numbers,
    seen_size,
    size_of,
)
from rlrules.rewards.gui_length import LengthAdapted
from rlrules.rewards.gui_parse import ACTIONS, Predicted, keeps_format, read_action
from rlrules.types import Completion, Group, Score, Scored

FULL = 3.0
"""Type, coordinate and format."""
IOU_OVER = 0.5
"""A box that is asked for is right where its overlap with the true one is greater (UI-R1, section 4.4)."""


class GuiConfig(ScorerConfig):
    """Type + coordinate + format, each 0 or 1 (UI-R1, equation 3); with `length: dast` the length reward on top.

    A click that hits no place scores no coordinate; for the other actions, which have none, it is 1 with the type.
    """

    type: Literal["gui"] = "gui"
    think: bool = Field(True, description="A thought comes first; false: it may not.")
    answer: Literal["point", "box"] = Field("point", description="What a click's answer gives.")
    frame: Frame = Field("resized", description="Units of the answer's coordinates.")
    min_pixels: int = Field(MIN_PIXELS, ge=1, description="Of the processor; for `frame: resized`.")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="Likewise.")
    factor: int = Field(FACTOR, ge=1, description="Patch size times merge size of the processor.")
    length: Literal["none", "dast"] = Field("none", description="Whether length counts, by the group's difficulty.")
    budget: Literal["group", "limit"] = Field(
        "group", description="For `dast`: the longest answer is the group's, or training.max_completion_length."
    )

    @model_validator(mode="after")
    def _bounds(self) -> "GuiConfig":
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) is over max_pixels ({self.max_pixels})")
        return self

    @property
    def needs_tokens(self) -> bool:  # type: ignore[override]
        """Whether lengths count."""
        return self.length != "none"

    def columns(self) -> tuple[str, ...]:
        """What is to be done; where, only of clicks."""
        return ("action",)

    def optional_columns(self) -> tuple[str, ...]:
        """A click's place; the image's size in pixels, before and after the processor; what the prompt asks for."""
        return ("bbox", "image_size", "resized_size", "asked")

    def row_problem(self, row: Mapping[str, Any]) -> str:
        """A click needs its box, and the sizes that its coordinates are scaled by; and what is asked for is read."""
        asked = row.get("asked")
        asked = asked if isinstance(asked, Mapping) else {}
        for name in ("think", "answer", "frame"):
            if name in asked and asked[name] != getattr(self, name):
                return f"the prompt asks for `{name}: {asked[name]}`, the reward for `{name}: {getattr(self, name)}`"
        try:
            self.target(row)
        except DataError as error:
            return str(error)
        return ""

    def processor_problem(self, processor: Any) -> str:
        """Coordinates of the resized image are scaled by what the processor does."""
        if self.frame != "resized":
            return ""
        bounds = pixel_bounds(processor)
        if bounds is None:
            return "frame: the processor does not resize as Qwen2-VL's; set `original` or `normalized_1000`"
        for name, here, there in zip(("factor", "min_pixels", "max_pixels"), self.bounds, bounds, strict=True):
            if here != there:
                mend = "" if name == "factor" else f", or model.{name} to {here}"
                return f"{name} is {here}, the processor's {there}: set it to that{mend}"
        return ""

    @property
    def bounds(self) -> tuple[int, int, int]:
        """Factor of sides, fewest and most pixels."""
        return self.factor, self.min_pixels, self.max_pixels

    def target(self, row: Mapping[str, Any]) -> "Target":
        """What a row wants.

        Raises:
            DataError: A column is missing or malformed.
        """
        action = row["action"]
        if action not in ACTIONS:
            raise DataError(f"column 'action': {action!r} is none of {', '.join(ACTIONS)}")
        if action != "click":
            return Target(action)
        box = numbers(unpacked(row.get("bbox")), 4)
        if box is None or box[0] > box[2] or box[1] > box[3]:
            raise DataError(f"column 'bbox': a click needs {{left, top, right, bottom}}, got {row.get('bbox')!r}")
        found = (box[0], box[1], box[2], box[3])
        if self.frame == "original":
            return Target(action, found)
        image = size_of(row, "image_size")
        if image is None:
            got = row.get("image_size")
            raise DataError(f"column 'image_size': frame {self.frame!r} needs a width and a height, got {got!r}")
        resized = size_of(row, "resized_size")
        if resized is None and row.get("resized_size") is not None:
            raise DataError(f"column 'resized_size': expected a width and a height, got {row['resized_size']!r}")
        try:
            seen = seen_size(self.frame, image, resized, self.bounds)
        except ValueError as error:
            raise DataError(f"column 'image_size': {error}") from error
        return Target(action, found, seen, image)

    def build(self, resources: Resources) -> Scorer:
        """Make the scorer.

        Raises:
            RecipeError: `budget: limit` has no limit.
        """
        scorer = GuiScorer(self)
        if self.length == "none":
            return scorer
        limit = resources.max_completion_length if self.budget == "limit" else None
        if self.budget == "limit" and limit is None:
            raise RecipeError(["budget: limit needs training.max_completion_length; set it, or `budget: group`"])
        return LengthAdapted(scorer, FULL, limit)


@dataclass(frozen=True, slots=True)
class Target:
    """What a row wants, and how to get from an answer's coordinates to its image's pixels.

    Attributes:
        action: One of `ACTIONS`.
        box: Of a click, in the image's pixels.
        seen: Width and height in the answer's units; None: they are pixels.
        image: Width and height in pixels.
    """

    action: str
    box: Box | None = None
    seen: Size | None = None
    image: Size | None = None

    def hit_by(self, predicted: Predicted, answer: Literal["point", "box"]) -> bool:
        """Whether a click, or the box of what is to be clicked, is right."""
        assert self.box is not None
        if answer == "point":
            return predicted.point is not None and in_box(scaled(predicted.point, self.seen, self.image), self.box)
        if predicted.box is None:
            return False
        first, last = (scaled(corner, self.seen, self.image) for corner in (predicted.box[:2], predicted.box[2:]))
        return iou((*first, *last), self.box) > IOU_OVER


class GuiScorer(PointwiseScorer):
    """See `GuiConfig`; lengths left out.

    Args:
        config: The recipe's section.
    """

    def __init__(self, config: GuiConfig) -> None:
        self._config = config

    async def score_one(self, context: Context, completion: Completion) -> Score:
        """Score one completion."""
        return self._score(self._config.target(context.row), completion)

    async def score(self, group: Group) -> Scored:
        """Score all completions of `group`; there is nothing to wait for."""
        target = self._config.target(group.row)
        return Scored(tuple(self._score(target, completion) for completion in group.completions))

    def _score(self, target: Target, completion: Completion) -> Score:
        predicted = read_action(completion.text)
        same = predicted.action == target.action
        place = same and (target.action != "click" or target.hit_by(predicted, self._config.answer))
        formed = keeps_format(completion.text, self._config.think)
        parts = {
            "type": float(same),
            "coordinate": float(place),
            "format": float(formed),
            "accuracy": float(same and place),
        }
        details: dict[str, Any] = {**parts, "action": predicted.action}
        if predicted.point is not None:
            details["point"] = list(predicted.point)
        reason = self._unread(predicted)
        if reason and completion.truncated:
            reason += "; it was cut off"
        value = parts["type"] + parts["coordinate"] + parts["format"]
        return Score(value, "malformed" if reason else "ok", reason, parts, details)

    def _unread(self, predicted: Predicted) -> str:
        if predicted.problem:
            return predicted.explained
        if predicted.action != "click":
            return ""
        if self._config.answer == "point":
            return "" if predicted.point else "a click without a coordinate: two numbers from 0 up"
        return "" if predicted.box else "a click without a bbox: left, top, right, bottom from 0 up"
