"""Jigsaw puzzles as prompts: a plan in which every row is a function of its number alone (Jigsaw-R1, section 3).

The released code counts what each process fetches, so that its curriculum depends on the number of processes, workers
and completions. Here a row says by itself which grid, which image and which question it is: the same on all ranks, in
every epoch and after a restart.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlrules.data.image_sources import AnyImagesConfig
from rlrules.data.jigsaw_images import patches, puzzle, trimmed_size
from rlrules.data.jigsaw_prompts import patches_text, puzzle_text
from rlrules.data.jigsaw_questions import ask, place_patches, shuffled
from rlrules.data.prompts_base import CountTokens
from rlrules.data.rows import Row, Rows
from rlrules.images import Reference, image_part, open_image
from rlrules.rewards.jigsaw_answers import Question


class Stage(BaseModel):
    """A part of the curriculum.

    Attributes:
        m: Rows of its grids.
        n: Columns.
        prompts: How many rows it lasts.
    """

    model_config = ConfigDict(extra="forbid")

    m: int = Field(ge=1, le=6)
    n: int = Field(ge=1, le=6)
    prompts: int = Field(ge=1)

    @model_validator(mode="after")
    def _has_pieces(self) -> "Stage":
        if self.m * self.n < 2:
            raise ValueError("a puzzle of one piece is none")
        return self


class Seen(BaseModel):
    """How the policy's processor resizes an image, which is what a box's coordinates are of.

    Attributes:
        min_pixels: Smaller images are enlarged.
        max_pixels: Larger ones are shrunk.
        factor: Sides become multiples of it.
    """

    model_config = ConfigDict(extra="forbid")

    min_pixels: int = Field(3136, ge=1)
    max_pixels: int = Field(12_845_056, ge=1)
    factor: int = Field(28, ge=1)


class JigsawPromptsConfig(BaseModel):
    """Puzzles of any images; gives the columns that the reward `jigsaw` reads."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["jigsaw"] = "jigsaw"
    images: AnyImagesConfig
    stages: list[Stage] = Field(min_length=1, description="The curriculum: grids, and for how many rows each.")
    question: Question = "pair"
    think: bool = Field(True, description="Ask for a thought first; the reward's `think` has to agree.")
    swap: bool = Field(True, description="Turn half of the grids: m and n change places.")
    mask: float = Field(0.0, ge=0, lt=0.5, description="Share of a piece's sides that is blacked out.")
    choices: int = Field(4, ge=2, le=8, description="Solutions to choose from, where the question is `multiple`.")
    seen: Seen = Field(Seen(), description="How the model sees an image, where the question is `box`.")
    seed: int = 0

    def load(self, count_tokens: CountTokens) -> Rows:
        """Lay out all rows; an image is opened when its row is taken.

        Raises:
            DataError: The images cannot be had.
        """
        return Rows(PuzzleRows(self, self.images.load()), {})


class PuzzleRows(Sequence[Row]):
    """The rows of a plan, each made when it is asked for.

    Args:
        config: The plan.
        images: What is cut.
    """

    def __init__(self, config: JigsawPromptsConfig, images: Sequence[Reference]) -> None:
        self._config = config
        self._images = images
        self._ends = [sum(stage.prompts for stage in config.stages[: n + 1]) for n in range(len(config.stages))]

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, number: int) -> Row: ...
    @overload
    def __getitem__(self, number: slice) -> list[Row]: ...
    def __getitem__(self, number: int | slice) -> Row | list[Row]:
        """Row `number`, from 0."""
        if isinstance(number, slice):
            return [self._row(one) for one in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        return self._row(number % len(self))

    def _row(self, number: int) -> Row:
        config = self._config
        stage = next(place for place, end in enumerate(self._ends) if number < end)
        rows, columns = config.stages[stage].m, config.stages[stage].n
        generator = random.Random(f"puzzle {config.seed} {number}")
        if config.swap and generator.random() < 0.5:
            rows, columns = columns, rows
        source = self._image(stage, number - (self._ends[stage - 1] if stage else 0))
        made = (_patches_row if config.question == "box" else _puzzle_row)(config, source, rows, columns, generator)
        image, text = made.pop("image_part"), made.pop("text")
        parts = [image, {"type": "text", "text": text}]
        return {
            "id": str(number),
            "prompt": [{"role": "user", "content": parts}],
            "question": config.question,
            "think": config.think,
            "m": rows,
            "n": columns,
            **made,
        }

    def _image(self, stage: int, place: int) -> Reference:
        """All images in an order of the stage's, then all again in another."""
        turn, index = divmod(place, len(self._images))
        return self._images[_order(self._config.seed, stage, turn, len(self._images))[index]]


def _puzzle_row(
    config: JigsawPromptsConfig, source: Reference, rows: int, columns: int, generator: random.Random
) -> dict[str, Any]:
    arrangement = shuffled(generator, rows * columns)
    asked = ask(config.question, rows, columns, arrangement, generator, config.choices)
    options = [list(option) if isinstance(option, tuple) else option for option in asked.options]
    return {
        "image_part": image_part(puzzle(source, rows, columns, arrangement, config.mask)),
        "text": puzzle_text(asked, rows, columns, config.think, config.mask > 0),
        "answer": asked.answer,
        "arrangement": arrangement,
    } | ({"options": options} if options else {})


def _patches_row(
    config: JigsawPromptsConfig, source: Reference, rows: int, columns: int, generator: random.Random
) -> dict[str, Any]:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    width, height = trimmed_size(*_size(source), rows, columns)
    boxes, shown, region = place_patches(generator, width, height, rows, columns)
    left, top, right, bottom = boxes[shown[region - 1] - 1]
    seen = config.seen
    seen_height, seen_width = smart_resize(height, width, seen.factor, seen.min_pixels, seen.max_pixels)
    return {
        "image_part": image_part(patches(source, boxes, shown, (rows, columns, config.mask))),
        "text": patches_text(region, rows, columns, config.think, config.mask > 0),
        "answer": [left / width, top / height, right / width, bottom / height],
        "image_size": [seen_width, seen_height],
        "region": region,
    }


def _size(source: Reference) -> tuple[int, int]:
    if not isinstance(source, str) and source["type"] == "scene":
        return source["width"], source["height"]
    return open_image(source).size


@lru_cache(maxsize=4)
def _order(seed: int, stage: int, turn: int, count: int) -> list[int]:
    return random.Random(f"images {seed} {stage} {turn}").sample(range(count), count)
