"""A phone screen being drawn: shapes and text in density-independent pixels, and the boxes of what can be acted on."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from rlrules.data.icons import icon_mask

WIDTH_DP = 360
"""Width of every screen in its own units, as on Android phones."""

Color = tuple[int, int, int]
Kind = Literal["icon", "text"]
PixelBox = tuple[int, int, int, int]
_OVERSAMPLING = 4


@dataclass(frozen=True, slots=True)
class Element:
    """Something on a screen that a click can be meant for.

    Attributes:
        kind: What one recognises it by: "icon" or "text", as ScreenSpot's element types.
        box: {left, top, right, bottom} in pixels, all inside the screen.
        instructions: Ways to ask for it, none of which fits anything else on the screen.
    """

    kind: Kind
    box: PixelBox
    instructions: tuple[str, ...]


class Canvas:
    """See the module. Places are in dp, from the top left; what comes back is in pixels.

    Args:
        size: {width, height} in pixels.
        ground: Colour of everything not drawn on.
        planned: Only find out where things come to stand; nothing is drawn, which is most of the time.
    """

    def __init__(self, size: tuple[int, int], ground: Color, planned: bool = False) -> None:
        self.image = Image.new("RGB", (1, 1) if planned else size, ground)
        self.elements: list[Element] = []
        self._size = size
        self._planned = planned
        self.height = size[1] * WIDTH_DP / size[0]
        self._unit = size[0] / WIDTH_DP
        self._draw = ImageDraw.Draw(self.image)

    def box(self, left: float, top: float, right: float, bottom: float) -> PixelBox:
        """A box in pixels, cut at the screen's edges."""
        width, height = self._size
        found = [round(side * self._unit) for side in (left, top, right, bottom)]
        return max(0, found[0]), max(0, found[1]), min(width, found[2]), min(height, found[3])

    def element(self, kind: Kind, box: PixelBox, *instructions: str) -> None:
        """Say that a click can be meant for `box`."""
        self.elements.append(Element(kind, box, instructions))

    def panel(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        color: Color,
        radius: float = 0,
        outline: Color | None = None,
    ) -> PixelBox:
        """A filled box, its corners rounded."""
        box = self.box(left, top, right, bottom)
        if self._planned or box[0] >= box[2] or box[1] >= box[3]:
            return box
        round_by = round(radius * self._unit)
        if round_by == 0:
            self._draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), color, outline)
            return box
        line = max(1, round(self._unit)) if outline else 0
        size = (box[2] - box[0], box[3] - box[1])
        if outline is not None:
            self.image.paste(outline, box[:2], _rounded(size, round_by))
            size = (size[0] - 2 * line, size[1] - 2 * line)
        if min(size) > 0:
            self.image.paste(color, (box[0] + line, box[1] + line), _rounded(size, max(1, round_by - line)))
        return box

    def disc(self, x: float, y: float, radius: float, color: Color) -> PixelBox:
        """A filled circle."""
        return self.panel(x - radius, y - radius, x + radius, y + radius, color, radius)

    def icon(self, name: str, x: float, y: float, size: float, color: Color) -> PixelBox:
        """An icon around a point; its box is that of its ink."""
        side = max(6, round(size * self._unit))
        mask = icon_mask(name, side)
        left, top = round(x * self._unit) - side // 2, round(y * self._unit) - side // 2
        if not self._planned:
            self.image.paste(color, (left, top), mask)
        ink = mask.getbbox()
        assert ink is not None
        return left + ink[0], top + ink[1], left + ink[2], top + ink[3]

    def text(
        self, x: float, y: float, text: str, size: float, color: Color, anchor: str = "lm", room: float = WIDTH_DP
    ) -> PixelBox:
        """A line of text at a point, shortened to `room`; its box is that of its ink.

        Args:
            x: Where, in dp.
            y: Likewise.
            text: What it says.
            size: Of the letters, in dp.
            color: Of the letters.
            anchor: What of the text stands at the point, as in Pillow.
            room: Width that it may take, in dp.
        """
        font = font_of(max(7, round(size * self._unit)))
        shown, cut = text, text
        while font.getlength(shown) > room * self._unit and len(cut) > 1:
            cut = cut[:-1].rstrip()
            shown = f"{cut}..."
        place = (round(x * self._unit), round(y * self._unit))
        if not self._planned:
            self._draw.text(place, shown, color, font, anchor)
        left, top, right, bottom = self._draw.textbbox(place, shown, font, anchor)
        return int(left), int(top), int(right), int(bottom)

    def dim(self) -> None:
        """Darken everything, and forget what could be clicked: a dialog covers it."""
        self.elements.clear()
        if not self._planned:
            self.image.paste((0, 0, 0), mask=Image.new("L", self._size, 130))


def joined(*boxes: PixelBox) -> PixelBox:
    """The smallest box around some."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


@lru_cache(maxsize=64)
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font.

    Args:
        size: In pixels.
    """
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType draws no text of a given size"
    return font


@lru_cache(maxsize=256)
def _rounded(size: tuple[int, int], radius: int) -> Image.Image:
    """Coverage of a box with round corners; drawn at once where it is large, since only its corners need care."""
    mask = Image.new("L", size, 255)
    radius = min(radius, size[0] // 2, size[1] // 2)
    if radius == 0:
        return mask
    corner = Image.new("L", (2 * radius * _OVERSAMPLING,) * 2)
    ImageDraw.Draw(corner).ellipse((0, 0, corner.width - 1, corner.height - 1), fill=255)
    corner = corner.reduce(_OVERSAMPLING)
    for x in (0, 1):
        for y in (0, 1):
            part = corner.crop((x * radius, y * radius, (x + 1) * radius, (y + 1) * radius))
            mask.paste(part, (x * (size[0] - radius), y * (size[1] - radius)))
    return mask
