"""Single steps on screenshots as prompts: the question that a GUI agent is asked, and what its answer is held to."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlrules.data.gui_rows import GuiRow, read_gui_rows, screenshot_size
from rlrules.data.prompts_base import CountTokens, Prompts, PromptsConfig, prepared
from rlrules.data.screens import SIZE, make_step, reference
from rlrules.errors import DataError
from rlrules.images import image_part
from rlrules.rewards.gui_frames import Frame
from rlrules.rewards.gui_parse import ACTIONS, ActionName
from rlrules.types import Message

Answer = Literal["point", "box"]


class ScreensConfig(BaseModel):
    """Synthetic phone screens, one a step (see `data/screens.py`)."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(1000, ge=1)
    width: int = Field(SIZE[0], ge=1, description="In pixels.")
    height: int = Field(SIZE[1], ge=1, description="In pixels.")
    seed: int = 0


class GuiPromptsConfig(PromptsConfig):
    """Steps on screenshots: a file or data set in UI-R1's form, or synthetic screens.

    `think`, `answer` and `frame` are those of the reward that reads the answers; rows say them in the column `asked`,
    which the reward checks.
    """

    type: Literal["gui"] = "gui"
    path: str | None = Field(None, description="JSON, JSONL, CSV, parquet, a folder, or a data set on the hub.")
    split: str = "train"
    columns: dict[str, str] = Field(default_factory=dict, description="Our name -> the data's: {element: data_type}.")
    images: str | None = Field(None, description="Folder that image paths are relative to; null: that of the file.")
    screens: ScreensConfig | None = Field(None, description="Draw screens in place of reading them.")
    actions: list[ActionName] = Field(
        list(ACTIONS), min_length=1, description="Offered in the prompt; others left out."
    )
    think: bool = Field(True, description="Ask for a thought before the answer.")
    answer: Answer = Field("point", description="What to ask of a click.")
    frame: Frame = Field("resized", description="Units to ask for.")

    @model_validator(mode="after")
    def _one_source(self) -> "GuiPromptsConfig":
        if (self.path is None) == (self.screens is None):
            raise ValueError("give either `path` or `screens`")
        if len(set(self.actions)) < len(self.actions):
            raise ValueError(f"actions: one stands twice in {', '.join(self.actions)}")
        return self

    def load(self, count_tokens: CountTokens) -> Prompts:
        """Read the steps, or think them up.

        Raises:
            DataError: The data cannot be had, a row is malformed or its image missing, or nothing is left.
        """
        dropped: Counter[str] = Counter()
        made = self._screens() if self.screens is not None else self._rows(dropped)
        return prepared(self, self.path or "screens", made, count_tokens, dict(dropped))

    def prompt(self, row: GuiRow, size: tuple[int, int]) -> dict[str, Any]:
        """A step as a row to train on.

        Args:
            row: The step.
            size: Of its screenshot, in pixels.
        """
        return {
            "prompt": messages(row, size, self.actions, self.think, self.answer, self.frame),
            "id": row.id,
            "instruction": row.instruction,
            "action": row.action,
            "bbox": row.bbox,
            "image_size": list(size),
            "element": row.element,
            "asked": {"think": self.think, "answer": self.answer, "frame": self.frame},
        }

    def _rows(self, dropped: Counter[str]) -> list[dict[str, Any]]:
        assert self.path is not None
        made: list[dict[str, Any]] = []
        for row in read_gui_rows(self.path, self.split, self.columns, self.images):
            size = screenshot_size(row)
            if problem := row.problem(size):
                raise DataError(f"{row.where}: {problem}")
            if row.action not in self.actions:
                dropped["actions"] += 1
                continue
            made.append(self.prompt(row, size))
        return made

    def _screens(self) -> list[dict[str, Any]]:
        assert self.screens is not None
        size = (self.screens.width, self.screens.height)
        made: list[dict[str, Any]] = []
        for index in range(self.screens.count):
            step = make_step(f"{self.screens.seed}:{index}", size, self.actions)
            name = f"screen {step.seed}"
            box = None if step.box is None else list(step.box)
            image = reference(step, size)
            row = GuiRow(name, name, image, step.instruction, step.action, box, step.element or "")
            made.append(self.prompt(row, size))
        return made


def messages(
    row: GuiRow, size: tuple[int, int], actions: Sequence[str], think: bool, answer: Answer, frame: Frame
) -> list[Message]:
    """What a model is asked: one turn, the screenshot and then the question.

    Args:
        row: The step.
        size: Of its screenshot, in pixels.
        actions: That the model may choose from.
        think: A thought comes before the answer.
        answer: What is asked of a click.
        frame: In which units.
    """
    names = ", ".join(actions)
    place, skeleton = _PLACES[answer]
    clicks = "click" in actions
    unit = _UNITS[frame].format(width=size[0], height=size[1])
    action = actions[0] if len(actions) == 1 else "ACTION"
    form = f"<answer>[{{'action': '{action}'{skeleton if clicks else ''}}}]</answer>"
    steps = (
        "Reason between <think> and </think> first, then answer between <answer> and </answer>, in this form:"
        if think
        else "Answer at once between <answer> and </answer>, without reasoning, in this form:"
    )
    where = f"For click, say where: {place} in whole numbers, {unit}, counted from the upper left corner."
    lines = [
        "The picture is a screenshot of a user interface. Its user wants to carry out this command:",
        row.instruction,
        f"Choose one action from: {names}." if len(actions) > 1 else f"The action is {names}.",
        *([where] if clicks else []),
        steps,
        f"<think>...</think>{form}" if think else form,
        "Keep to the form exactly and add nothing to it.",
    ]
    return [{"role": "user", "content": [image_part(row.image), {"type": "text", "text": "\n".join(lines)}]}]


_PLACES = {
    "point": ("the point to click", ", 'coordinate': [x, y]"),
    "box": ("the box around the element", ", 'bbox': [left, top, right, bottom]"),
}
_UNITS = {
    "resized": "in pixels of the picture as you see it",
    "original": "in pixels of the screenshot, which is {width} wide and {height} high",
    "normalized_1000": "in thousandths of the picture's width and height",
}
