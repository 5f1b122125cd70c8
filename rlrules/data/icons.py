"""Icons of phone screens, drawn from lines and circles on a grid of 24 by 24."""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache

from PIL import Image, ImageDraw

GRID = 24
_OVERSAMPLING = 4
_STROKE = 2.0

Points = Iterable[tuple[float, float]]


class _Pen:
    """Draws white on black, in units of the grid.

    Args:
        side: Of the picture, in pixels before it is reduced.
    """

    def __init__(self, side: int) -> None:
        self.mask = Image.new("L", (side, side))
        self._draw = ImageDraw.Draw(self.mask)
        self._unit = side / GRID

    def _at(self, points: Points) -> list[tuple[float, float]]:
        return [(x * self._unit, y * self._unit) for x, y in points]

    def line(self, *points: tuple[float, float], width: float = _STROKE) -> None:
        """A line with round ends and corners."""
        found = self._at(points)
        self._draw.line(found, fill=255, width=max(1, round(width * self._unit)), joint="curve")
        for point in points:
            self.disc(*point, width / 2)

    def disc(self, x: float, y: float, radius: float, ink: int = 255) -> None:
        """A filled circle."""
        (left, top), (right, bottom) = self._at([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse((left, top, right, bottom), fill=ink)

    def ring(self, x: float, y: float, radius: float) -> None:
        """A circle's line, its middle at `radius`."""
        outer = radius + _STROKE / 2
        (left, top), (right, bottom) = self._at([(x - outer, y - outer), (x + outer, y + outer)])
        self._draw.ellipse((left, top, right, bottom), outline=255, width=round(_STROKE * self._unit))

    def arc(self, x: float, y: float, radius: float, start: float, end: float) -> None:
        """Part of a circle's line, from `start` to `end` degrees, clockwise from the right."""
        steps = max(2, round((end - start) / 4))
        angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
        self.line(*((x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles))

    def shape(self, *points: tuple[float, float], ink: int = 255) -> None:
        """A filled polygon."""
        self._draw.polygon(self._at(points), fill=ink)

    def box(self, left: float, top: float, right: float, bottom: float, ink: int = 255, radius: float = 0) -> None:
        """A filled box."""
        (a, b), (c, d) = self._at([(left, top), (right, bottom)])
        self._draw.rounded_rectangle((a, b, c, d), radius * self._unit, fill=ink)

    def frame(self, left: float, top: float, right: float, bottom: float, radius: float = 2) -> None:
        """A box's line."""
        (a, b), (c, d) = self._at([(left, top), (right, bottom)])
        width = round(_STROKE * self._unit)
        self._draw.rounded_rectangle((a, b, c, d), radius * self._unit, outline=255, width=width)


def _menu(pen: _Pen) -> None:
    for y in (6, 12, 18):
        pen.line((4, y), (20, y))


def _back(pen: _Pen) -> None:
    pen.line((20, 12), (4, 12))
    pen.line((11, 5), (4, 12), (11, 19))


def _close(pen: _Pen) -> None:
    pen.line((5, 5), (19, 19))
    pen.line((19, 5), (5, 19))


def _search(pen: _Pen) -> None:
    pen.ring(10, 10, 6)
    pen.line((14.5, 14.5), (20, 20), width=2.6)


def _add(pen: _Pen) -> None:
    pen.line((12, 5), (12, 19))
    pen.line((5, 12), (19, 12))


def _more(pen: _Pen) -> None:
    for y in (5, 12, 19):
        pen.disc(12, y, 2)


def _heart(pen: _Pen) -> None:
    pen.disc(7.8, 8.8, 4.4)
    pen.disc(16.2, 8.8, 4.4)
    pen.shape((3.9, 11), (12, 20.5), (20.1, 11), (12, 8))


def _star(pen: _Pen) -> None:
    tips = [
        (12 + radius * math.sin(math.pi * step / 5), 12.6 - radius * math.cos(math.pi * step / 5))
        for step in range(10)
        for radius in [10 if step % 2 == 0 else 4.2]
    ]
    pen.shape(*tips)


def _trash(pen: _Pen) -> None:
    pen.line((4, 6.5), (20, 6.5))
    pen.line((9.5, 3.8), (14.5, 3.8))
    pen.line((6, 7), (7, 20), (17, 20), (18, 7))
    for x in (10, 14):
        pen.line((x, 10.5), (x, 16.5), width=1.6)


def _share(pen: _Pen) -> None:
    pen.line((17.5, 5.5), (6.5, 12), (17.5, 18.5))
    for x, y in ((17.5, 5.5), (6.5, 12), (17.5, 18.5)):
        pen.disc(x, y, 2.9)


def _camera(pen: _Pen) -> None:
    pen.box(2.5, 6.5, 21.5, 19.5, radius=2.5)
    pen.shape((8, 7), (9.5, 4), (14.5, 4), (16, 7))
    pen.disc(12, 13, 4.4, ink=0)
    pen.disc(12, 13, 2.4)


def _bell(pen: _Pen) -> None:
    pen.disc(12, 9.5, 5.6)
    pen.shape((6.4, 9.5), (17.6, 9.5), (18, 15), (20, 17.6), (4, 17.6), (6, 15))
    pen.disc(12, 19.6, 2)
    pen.line((12, 3), (12, 5))


def _home(pen: _Pen) -> None:
    pen.shape((2.5, 12.2), (12, 3.4), (21.5, 12.2))
    pen.box(5.5, 11, 18.5, 20.5)
    pen.box(10, 14.5, 14, 20.6, ink=0)


def _person(pen: _Pen) -> None:
    pen.disc(12, 8, 4.2)
    pen.box(4.2, 14.2, 19.8, 26, radius=6)
    pen.box(0, 20.5, 24, 24, ink=0)


def _gear(pen: _Pen) -> None:
    for step in range(8):
        angle = math.pi * step / 4
        tip = (12 + 8.8 * math.cos(angle), 12 + 8.8 * math.sin(angle))
        pen.line((12, 12), tip, width=4)
    pen.disc(12, 12, 7.4)
    pen.disc(12, 12, 3.2, ink=0)


def _play(pen: _Pen) -> None:
    pen.shape((7, 4), (20, 12), (7, 20))


def _pause(pen: _Pen) -> None:
    pen.box(6, 4.5, 10, 19.5, radius=1)
    pen.box(14, 4.5, 18, 19.5, radius=1)


def _skip(pen: _Pen) -> None:
    pen.shape((5, 5), (16, 12), (5, 19))
    pen.box(16.5, 5, 19, 19)


def _mic(pen: _Pen) -> None:
    pen.box(9, 2.5, 15, 14, radius=3)
    pen.arc(12, 11, 6, 0, 180)
    pen.line((12, 17), (12, 21))


def _phone(pen: _Pen) -> None:
    pen.arc(19.5, 4.5, 13.2, 97, 173)
    pen.line((6.2, 4.8), (7.4, 9), width=4.6)
    pen.line((19.2, 17.8), (15, 16.6), width=4.6)


def _mail(pen: _Pen) -> None:
    pen.frame(2.5, 5, 21.5, 19)
    pen.line((4, 7), (12, 13), (20, 7))


def _lock(pen: _Pen) -> None:
    pen.box(5, 10.5, 19, 21, radius=2)
    pen.arc(12, 8.5, 4.4, 180, 360)
    pen.line((7.6, 8.5), (7.6, 11))
    pen.line((16.4, 8.5), (16.4, 11))
    pen.disc(12, 15.5, 1.8, ink=0)


def _check(pen: _Pen) -> None:
    pen.line((4.5, 12.5), (9.5, 17.5), (19.5, 6.5), width=2.4)


def _cart(pen: _Pen) -> None:
    pen.line((2, 4), (5, 4), (7.6, 15), (18, 15), (20.5, 7), (6, 7))
    pen.disc(9, 19.5, 1.9)
    pen.disc(17, 19.5, 1.9)


def _pencil(pen: _Pen) -> None:
    pen.line((7, 17), (17.5, 6.5), width=4.6)
    pen.shape((3.5, 20.5), (4.8, 14.8), (9.2, 19.2))


def _download(pen: _Pen) -> None:
    pen.line((12, 4), (12, 15))
    pen.line((7, 10.5), (12, 15.5), (17, 10.5))
    pen.line((5, 20), (19, 20))


def _calendar(pen: _Pen) -> None:
    pen.frame(3.5, 5, 20.5, 20.5)
    pen.box(3.5, 5, 20.5, 10, radius=1.5)
    for x in (8, 16):
        pen.line((x, 3), (x, 6))
    for x in (8, 12, 16):
        pen.disc(x, 14.8, 1.3)


def _pin(pen: _Pen) -> None:
    pen.disc(12, 9, 6.4)
    pen.shape((6.2, 11.6), (12, 21.5), (17.8, 11.6))
    pen.disc(12, 9, 2.5, ink=0)


def _photo(pen: _Pen) -> None:
    pen.frame(3, 4, 21, 20)
    pen.disc(8.4, 9, 1.8)
    pen.shape((5, 18), (10, 12.5), (13, 15.5), (16, 11.5), (19.5, 18))


def _clock(pen: _Pen) -> None:
    pen.ring(12, 12, 8.4)
    pen.line((12, 7), (12, 12), (15.5, 14))


def _chat(pen: _Pen) -> None:
    pen.box(3, 4, 21, 16.5, radius=3)
    pen.shape((6, 15), (6, 21), (12, 15))


def _music(pen: _Pen) -> None:
    pen.disc(7.5, 17.5, 3)
    pen.disc(17, 15.5, 3)
    pen.line((9.7, 17.5), (9.7, 6), (19.2, 4), (19.2, 15.5))


def _folder(pen: _Pen) -> None:
    pen.shape((3, 5.5), (9.5, 5.5), (11.5, 8), (3, 8))
    pen.box(3, 7, 21, 19.5, radius=1.5)


def _globe(pen: _Pen) -> None:
    pen.ring(12, 12, 8.4)
    pen.line((3.6, 12), (20.4, 12), width=1.5)
    pen.line((12, 3.6), (12, 20.4), width=1.5)
    pen.arc(6.4, 12, 9.8, -60, 60)
    pen.arc(17.6, 12, 9.8, 120, 240)


def _bluetooth(pen: _Pen) -> None:
    pen.line((6.5, 7.5), (17, 16.5), (12, 21), (12, 3), (17, 7.5), (6.5, 16.5))


def _wifi(pen: _Pen) -> None:
    pen.disc(12, 18.5, 1.9)
    for radius in (5.5, 9.5, 13.5):
        pen.arc(12, 18.5, radius, 225, 315)


def _battery(pen: _Pen) -> None:
    pen.box(9.5, 2.5, 14.5, 5)
    pen.frame(7, 4, 17, 21.5)
    pen.box(9.5, 11, 14.5, 19)


def _sun(pen: _Pen) -> None:
    pen.disc(12, 12, 4.6)
    for step in range(8):
        x, y = math.cos(math.pi * step / 4), math.sin(math.pi * step / 4)
        pen.line((12 + 7.4 * x, 12 + 7.4 * y), (12 + 9.4 * x, 12 + 9.4 * y))


def _chevron(pen: _Pen) -> None:
    pen.line((9, 5.5), (15.5, 12), (9, 18.5))


def _filter(pen: _Pen) -> None:
    for y, half in ((6, 8.5), (12, 5.5), (18, 2.5)):
        pen.line((12 - half, y), (12 + half, y))


ICONS: dict[str, Callable[[_Pen], None]] = {
    drawn.__name__.removeprefix("_"): drawn
    for drawn in (
        *(_menu, _back, _close, _search, _add, _more, _heart, _star, _trash, _share, _camera, _bell, _home, _person),
        *(_gear, _play, _pause, _skip, _mic, _phone, _mail, _lock, _check, _cart, _pencil, _download, _calendar, _pin),
        *(_photo, _clock, _chat, _music, _folder, _globe, _bluetooth, _wifi, _battery, _sun, _chevron, _filter),
    )
}


@lru_cache(maxsize=512)
def icon_mask(name: str, side: int) -> Image.Image:
    """An icon as coverage, 0 to 255, `side` by `side` pixels; not to be changed.

    Args:
        name: One of `ICONS`.
        side: In pixels.
    """
    pen = _Pen(side * _OVERSAMPLING)
    ICONS[name](pen)
    return pen.mask.reduce(_OVERSAMPLING)
