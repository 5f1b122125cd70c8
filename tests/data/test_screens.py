"""Synthetic screens: the same each time, boxes around what is there, instructions that fit one thing alone."""

import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from rlrules.data.canvas import Canvas
from rlrules.data.icons import ICONS, icon_mask
from rlrules.data.screen_layouts import LAYOUTS, Screen, theme_of
from rlrules.data.screens import SHARES, draw_screen, make_screen, make_step, reference
from rlrules.errors import DataError
from rlrules.images import open_image
from rlrules.rewards.gui_parse import ACTIONS

SIZE = (216, 480)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("size", [SIZE, (270, 360), (360, 1080)])
def test_every_kind_of_screen(layout, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    for seed in range(4):
        drawn = []
        for planned in (False, True):
            rng = random.Random(seed)
            theme = theme_of(rng)
            screen = Screen(Canvas(size, theme.ground, planned), theme, rng)
            layout(screen)
            drawn.append((screen.canvas.elements, screen.steps, rng.random()))
        assert drawn[0] == drawn[1], "planned and drawn differ"
        elements = drawn[0][0]
        assert len(elements) >= 2
        asked = [text for element in elements for text in element.instructions]
        assert len(set(asked)) == len(asked), "an instruction that fits two things"
        for number, element in enumerate(elements):
            left, top, right, bottom = element.box
            assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
            middle = ((left + right) / 2, (top + bottom) / 2)
            for other in elements[:number] + elements[number + 1 :]:
                a, b, c, d = other.box
                assert not (a <= middle[0] <= c and b <= middle[1] <= d), (element, other)


def test_boxes_hold_what_is_drawn() -> None:
    """A picture without an icon differs from one with it only inside the icon's box."""
    for name in ICONS:
        for at in ((40.0, 40.0), (171.3, 300.7)):
            canvas = Canvas(SIZE, (255, 255, 255))
            left, top, right, bottom = canvas.icon(name, *at, 24, (0, 0, 0))
            ys, xs = np.nonzero(np.asarray(canvas.image.convert("L")) < 255)
            assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (left, top, right, bottom)
    canvas = Canvas(SIZE, (255, 255, 255))
    left, top, right, bottom = canvas.text(20, 100, "Bluetooth", 24, (0, 0, 0))
    ys, xs = np.nonzero(np.asarray(canvas.image.convert("L")) < 250)
    assert left <= xs.min() <= left + 1 and right - 2 <= xs.max() < right
    assert top <= ys.min() <= top + 1 and bottom - 2 <= ys.max() < bottom
    shortened = canvas.text(20, 100, "Bluetooth " * 9, 24, (0, 0, 0), room=120)
    assert shortened[2] - shortened[0] <= 120 * SIZE[0] / 360


def test_a_seed_s_screen_is_the_same_each_time() -> None:
    first, again, other = (make_screen(seed, SIZE) for seed in ("a", "a", "b"))
    assert first.image.tobytes() == again.image.tobytes() and first.elements == again.elements
    assert first.image.tobytes() != other.image.tobytes()
    planned = make_screen("a", SIZE, planned=True)
    assert planned.elements == first.elements and planned.steps == first.steps and planned.image.size == (1, 1)


def test_steps_point_at_their_screen() -> None:
    step = make_step("0:3", SIZE, ["click"])
    assert step == make_step("0:3", SIZE, ["click"])
    image = open_image(reference(step, SIZE))
    assert image.size == SIZE and image.tobytes() == make_screen(step.seed, SIZE).image.tobytes()
    [element] = [one for one in make_screen(step.seed, SIZE).elements if step.instruction in one.instructions]
    assert (element.box, element.kind) == (step.box, step.element)


def test_actions_come_in_their_shares() -> None:
    assert set(SHARES) == set(ACTIONS) and sum(SHARES.values()) == 136
    steps = [make_step(str(number), SIZE, ACTIONS) for number in range(272)]
    counts = Counter(step.action for step in steps)
    for action, share in SHARES.items():
        # Within three standard deviations of a binomial.
        expected = 272 * share / 136
        assert abs(counts[action] - expected) < 3 * expected**0.5, counts
    assert all((step.box is not None) == (step.action == "click") for step in steps)
    assert {make_step(str(number), SIZE, ["scroll"]).action for number in range(5)} == {"scroll"}


@pytest.mark.parametrize("size", [(100, 200), (400, 500), (200, 601)])
def test_sizes_that_no_phone_has(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"screens of {size[0]} x {size[1]}: expected a width from 168 pixels"):
        make_screen("a", size)


def test_references_that_name_no_screen() -> None:
    for wrong in ({"size": [216, 480]}, {"seed": "a", "size": "216"}, {"seed": "a", "size": [216]}):
        with pytest.raises(DataError, match="a screen needs a text `seed` and a `size` of two integers"):
            draw_screen({"type": "screen", **wrong})


def test_icons_look_different() -> None:
    masks = {name: icon_mask(name, 24) for name in ICONS}
    assert len({mask.tobytes() for mask in masks.values()}) == len(ICONS)
    assert all(isinstance(mask, Image.Image) and mask.size == (24, 24) for mask in masks.values())
