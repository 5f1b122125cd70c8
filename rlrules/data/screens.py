"""Synthetic phone screens with exact boxes, and single steps on them: pictures to learn from, without any download."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from rlrules.data.canvas import Canvas, Element, PixelBox
from rlrules.data.screen_layouts import LAYOUTS, Screen, theme_of
from rlrules.errors import DataError

SIZE = (1080, 2400)
SMALLEST = 168
SHARES = {"click": 101, "open_app": 19, "navigate_back": 9, "scroll": 5, "input_text": 2}
"""How often each action is asked for: as in the data that UI-R1 trained on (table 7)."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A screen.

    Attributes:
        image: What is to be seen; one pixel where it was only planned.
        elements: What can be clicked.
        steps: Instructions for other actions that make sense on it, by action.
    """

    image: Image
    elements: tuple[Element, ...]
    steps: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step on a synthetic screen.

    Attributes:
        seed: The screen's.
        instruction: What is to be done.
        action: As in `rewards.gui_parse.ACTIONS`.
        box: Of a click, {left, top, right, bottom} in pixels.
        element: Of a click, what it is for: "icon" or "text".
    """

    seed: str
    instruction: str
    action: str
    box: PixelBox | None
    element: str | None


def make_screen(seed: str, size: tuple[int, int], planned: bool = False) -> Drawn:
    """The screen of a seed, the same each time.

    Args:
        seed: Any text.
        size: {width, height} in pixels: upright, at least 4:3 and 168 wide.
        planned: Leave out the picture, which takes most of the time.

    Raises:
        DataError: No screen has such a size.
    """
    width, height = size
    if width < SMALLEST or not 4 * width <= 3 * height <= 9 * width:
        raise DataError(
            f"screens of {width} x {height}: expected a width from {SMALLEST} pixels and a height of 4/3 to 3 widths"
        )
    rng = random.Random(f"screen {seed}")
    theme = theme_of(rng)
    screen = Screen(Canvas(size, theme.ground, planned), theme, rng)
    rng.choice(LAYOUTS)(screen)
    screen.frame()
    canvas = screen.canvas
    return Drawn(canvas.image, tuple(canvas.elements), {name: tuple(texts) for name, texts in screen.steps.items()})


def make_step(seed: str, size: tuple[int, int], actions: Sequence[str]) -> Step:
    """A step on a screen of its own.

    Args:
        seed: Any text.
        size: Of the screen, as for `make_screen`.
        actions: Those that may be asked for.
    """
    rng = random.Random(f"step {seed}")
    [action] = rng.choices(actions, [SHARES[name] for name in actions])
    number = 0
    while True:
        # Not every screen has a field to type in; some screen soon does.
        name = f"{seed}.{number}"
        drawn = make_screen(name, size, planned=True)
        if action == "click":
            element = rng.choice(drawn.elements)
            return Step(name, rng.choice(element.instructions), action, element.box, element.kind)
        if action in drawn.steps:
            return Step(name, rng.choice(drawn.steps[action]), action, None, None)
        number += 1


def reference(step: Step, size: tuple[int, int]) -> dict[str, Any]:
    """What names a step's screen in prompts and logs."""
    return {"type": "screen", "seed": step.seed, "size": list(size)}


def draw_screen(reference: Mapping[str, Any]) -> Image:
    """The picture that a reference names.

    Raises:
        DataError: It names none.
    """
    match reference.get("seed"), reference.get("size"):
        case str(seed), [int(width), int(height)]:
            return make_screen(seed, (width, height)).image
    raise DataError(f"a screen needs a text `seed` and a `size` of two integers, got {dict(reference)}")
