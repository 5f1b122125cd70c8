"""Curves and heat strips as inline SVG that follows the page's colours, in light and in dark.

Figures hold numbers only: names come from recipes and data, and stay in the HTML, which escapes them.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrules.reporting.series import SMOOTH_FROM, Floats, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib draws in these; the page's own colours take their place in the SVG.
_STAND_INS = {
    "#010101": "--accent",
    "#020202": "--faint",
    "#030303": "--grid",
    "#040404": "--soft",
    "#050505": "--warm",
}
_ACCENT, _FAINT, _GRID, _SOFT, _WARM = _STAND_INS
# One colour in growing strength is read alike on white and on black.
_STRIP_COLOUR = (0.23, 0.51, 0.62)
_STRIP_HEIGHT = 14


def curve(series: Series, held_out: Series | None, size: tuple[int, int], key: str) -> str:
    """A metric over the steps: what was logged, a smoothed line where there are enough steps, held-out points.

    Args:
        series: The metric.
        held_out: The same on held-out prompts.
        size: Width and height, in the SVG's own units.
        key: Tells this figure's ids from the other figures' on the page.
    """
    with _settings(key):
        figure, axes = _axes(*size)
        most = max(60, size[0] // 3)
        drawn = series.thinned(most)
        if series.is_noisy:
            smooth = series.smoothed().thinned(most)
            axes.plot(drawn.steps, drawn.values, color=_FAINT, linewidth=1.0, clip_on=False)
            axes.plot(smooth.steps, smooth.values, color=_ACCENT, linewidth=2.0, clip_on=False)
        else:
            marker = "o" if len(series) < SMOOTH_FROM else ""
            axes.plot(
                drawn.steps, drawn.values, color=_ACCENT, linewidth=1.8, marker=marker, markersize=4, clip_on=False
            )
        values = drawn.values
        if held_out is not None:
            points = held_out.thinned(most)
            axes.plot(
                points.steps, points.values, color=_WARM, linewidth=1.0, marker="D", markersize=4.5, clip_on=False
            )
            values = np.concatenate([values, points.values])
        _limits(axes, values)
        return _svg(figure, key)


def strip(values: Floats, key: str) -> str:
    """A row of cells, stronger in colour the nearer a value is to 1; a value that is not there leaves a gap."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    width = len(values)
    with _settings(key):
        figure = Figure(figsize=(width / 72, _STRIP_HEIGHT / 72), dpi=72)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(0, 1)
        for place, value in enumerate(values):
            if np.isfinite(value):
                strength = 0.06 + 0.94 * float(np.clip(value, 0, 1))
                axes.add_patch(Rectangle((place, 0), 1, 1, color=_STRIP_COLOUR, alpha=round(strength, 2), linewidth=0))
        svg = _svg(figure, key)
    # Stretched to its cell of the table, whatever that is wide.
    return svg.replace("<svg ", '<svg preserveAspectRatio="none" shape-rendering="crispEdges" ', 1)


@contextlib.contextmanager
def _settings(key: str) -> Iterator[None]:
    """The same numbers give the same page, whatever the user's own matplotlib settings say."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": key, "svg.fonttype": "none"})
        yield


def _axes(width: int, height: int) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    left, bottom, top, right = 44, 20, 14, 14
    plot = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(plot)
    axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(axis="y", color=_GRID, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=_SOFT, labelsize=10, pad=5)
    formatter = ScalarFormatter(useOffset=False, useMathText=False)
    formatter.set_powerlimits((-3, 6))
    axes.yaxis.set_major_formatter(formatter)
    axes.yaxis.get_offset_text().set_color(_SOFT)
    axes.yaxis.get_offset_text().set_fontsize(9)
    axes.yaxis.set_major_locator(MaxNLocator(max(2, height // 45)))
    axes.xaxis.set_major_locator(MaxNLocator(max(2, width // 70), integer=True))
    axes.margins(x=0.015)
    return figure, axes


def _limits(axes: "Axes", values: Floats) -> None:
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        # A flat line lies in the middle, zero below it (or above).
        low, high = min(2 * low, 0.0), max(2 * high, 0.0)
        axes.set_ylim(low, high if high > low else 1.0)
    elif 0 <= low < 0.4 * high:
        # Close enough to zero that the curve's height can be read against it.
        axes.set_ylim(0, 1.08 * high)
    else:
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


def _svg(figure: "Figure", key: str) -> str:
    out = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _tidy(out.getvalue(), key)


def _tidy(document: str, key: str) -> str:
    """The bare <svg> element, ids made unique on the page, colours and font left to the page's style."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([\w-]+)', svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda match: f' id="{key}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)([\w-]+)', lambda match: f"{match[1]}{key}-{match[2]}", svg)
    for stand_in, name in _STAND_INS.items():
        svg = svg.replace(stand_in, f"var({name})")
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"| height="[^"]*pt"', lambda match: match[1] or "", svg)
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda match: re.sub(r"(\.\d{2})\d+", r"\1", match[0]), svg)
    return re.sub(r"\s+", " ", svg).replace("> <", "><").strip()
