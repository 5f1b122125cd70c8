"""Pictures that a program draws, for puzzles without any photographs: landscapes with a right way up.

No two are alike, every piece of one looks different, and what belongs where can be told: the sky is over the land, the
light comes from the left, houses stand on the ground and point up, shadows fall to the right.
"""

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Colour = tuple[int, int, int]


def scene(seed: int, index: int, width: int, height: int) -> dict[str, Any]:
    """The reference of a landscape; `draw_scene` draws it."""
    return {"type": "scene", "seed": seed, "index": index, "width": width, "height": height}


def draw_scene(reference: Mapping[str, Any]) -> "Image":
    """Draw a landscape.

    Args:
        reference: Of `scene`.
    """
    from PIL import Image, ImageDraw

    width, height = int(reference["width"]), int(reference["height"])
    generator = random.Random(f"scene {reference['seed']} {reference['index']}")
    horizon = round(height * generator.uniform(0.4, 0.6))
    image = Image.fromarray(_backdrop(generator, width, height, horizon))
    draw = ImageDraw.Draw(image)
    _sun(draw, generator, width, horizon)
    _hills(draw, generator, width, horizon)
    for _ in range(generator.randint(2, 4)):
        _house(draw, generator, width, height, horizon)
    for _ in range(generator.randint(2, 5)):
        _tree(draw, generator, width, height, horizon)
    return image


def _backdrop(generator: random.Random, width: int, height: int, horizon: int) -> NDArray[np.uint8]:
    """Sky and land, shape (height, width, 3): both change downwards, and are brighter on the left."""
    sky = _between(np.array(_hue(generator, 0.55, 0.65, 0.7)), np.array([235, 240, 245]), horizon)
    land = _between(
        np.array(_hue(generator, 0.22, 0.4, 0.45)), np.array(_hue(generator, 0.05, 0.14, 0.3)), height - horizon
    )
    rows = np.concatenate([sky, land])
    light = np.linspace(1.1, 0.7, width)[None, :, None]
    grain = np.random.default_rng(generator.getrandbits(32)).normal(0, 6, (height, width, 1))
    return np.clip(rows[:, None, :] * light + grain, 0, 255).astype(np.uint8)


def _between(top: NDArray[Any], bottom: NDArray[Any], rows: int) -> NDArray[np.float64]:
    share = np.linspace(0, 1, rows)[:, None]
    return top * (1 - share) + bottom * share


def _hue(generator: random.Random, low: float, high: float, value: float) -> Colour:
    import colorsys

    parts = colorsys.hsv_to_rgb(generator.uniform(low, high), generator.uniform(0.5, 0.9), value)
    return (round(parts[0] * 255), round(parts[1] * 255), round(parts[2] * 255))


def _sun(draw: "ImageDraw", generator: random.Random, width: int, horizon: int) -> None:
    radius = max(2, round(horizon * generator.uniform(0.08, 0.16)))
    across, down = generator.uniform(0.05, 0.35) * width, generator.uniform(0.15, 0.5) * horizon
    draw.ellipse((across - radius, down - radius, across + radius, down + radius), fill=(255, 236, 150))


def _hills(draw: "ImageDraw", generator: random.Random, width: int, horizon: int) -> None:
    colour = _hue(generator, 0.3, 0.7, 0.5)
    places = [round(width * part / 8) for part in range(9)]
    crest = [(place, horizon - round(horizon * generator.uniform(0.05, 0.35))) for place in places]
    draw.polygon([(0, horizon), *crest, (width, horizon)], fill=colour)


def _house(draw: "ImageDraw", generator: random.Random, width: int, height: int, horizon: int) -> None:
    wide, tall = width * generator.uniform(0.1, 0.18), height * generator.uniform(0.12, 0.2)
    left = generator.uniform(0.02, 0.8) * width
    foot = horizon + generator.uniform(0.15, 0.85) * (height - horizon)
    top = foot - tall
    draw.polygon([(left + wide, top), (left + wide, foot), (left + 1.8 * wide, foot)], fill=(40, 45, 35))
    draw.rectangle((left, top, left + wide, foot), fill=_hue(generator, 0, 1, 0.85))
    roof = [(left - wide * 0.1, top), (left + wide / 2, top - tall * 0.6), (left + wide * 1.1, top)]
    draw.polygon(roof, fill=_hue(generator, 0, 0.06, 0.6))
    draw.rectangle((left + wide * 0.4, foot - tall * 0.5, left + wide * 0.6, foot), fill=(60, 40, 25))


def _tree(draw: "ImageDraw", generator: random.Random, width: int, height: int, horizon: int) -> None:
    place, foot = generator.uniform(0.03, 0.97) * width, horizon + generator.uniform(0.1, 0.9) * (height - horizon)
    tall = height * generator.uniform(0.1, 0.2)
    trunk = max(1.0, width * 0.01)
    draw.rectangle((place - trunk, foot - tall * 0.4, place + trunk, foot), fill=(80, 55, 30))
    crown = tall * 0.35
    box = (place - crown, foot - tall, place + crown, foot - tall * 0.3)
    draw.ellipse(box, fill=_hue(generator, 0.25, 0.42, 0.4))
