"""report.json as one page that needs nothing from outside itself."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

_MAX_LABELS = 60
# Drawn in this, and then in the page's own colour, which differs in the dark.
_EDGE = "#010203"


def render_page(report: Mapping[str, Any]) -> str:
    """The page. Rules are numbered from the best agreement to the worst, in its table and its picture alike."""
    rules: Sequence[Mapping[str, Any]] = report["rules"]
    order = sorted(range(len(rules)), key=lambda place: _rank(rules[place]))
    numbers = {rules[place]["id"]: number for number, place in enumerate(order, 1)}
    environment = Environment(
        loader=PackageLoader("rlrules.rules"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "signed": lambda value: f"{value:+.2f}".replace("-", "−")}
    return environment.get_template("rules_report.html.jinja").render(
        report=report,
        rules=[rules[place] for place in order],
        numbers=numbers,
        texts={rule["id"]: rule["text"] for rule in rules},
        heat_map=Markup(_heat_map(report["matrix"]["phi"], order)) if len(rules) > 1 else "",
    )


def _rank(rule: Mapping[str, Any]) -> tuple[float, int]:
    agreement = rule["agreement"]
    return (-agreement["value"] if agreement["n"] else 1.0, -agreement["n"])


def _percent(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def _heat_map(phi: Sequence[Sequence[float | None]], order: Sequence[int]) -> str:
    """The matrix of correlations as an SVG element, rules in `order`."""
    from matplotlib import colormaps, rc_context, rcdefaults, rcParams
    from matplotlib.figure import Figure

    values = np.array([[np.nan if value is None else value for value in row] for row in phi], float)
    values = values[np.ix_(order, order)]
    count = len(order)
    side = min(9.0, 2.6 + 0.27 * count)
    # Fonts stay the page's own, and the same numbers give the same page whatever the user's matplotlib settings say.
    with rc_context():
        rcdefaults()
        rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "rlrules"})
        figure = Figure(figsize=(side + 0.8, side), layout="constrained")
        axes = figure.subplots()
        colours = colormaps["RdBu"].with_extremes(bad=(0.5, 0.5, 0.5, 0.15))
        edge = 0.6 if count <= _MAX_LABELS else 0.0
        shown = np.ma.masked_invalid(values)
        mesh = axes.pcolormesh(shown, cmap=colours, vmin=-1, vmax=1, edgecolors=_EDGE, linewidth=edge)
        places = range(0, count, -(-count // _MAX_LABELS))
        for ticks in (axes.set_xticks, axes.set_yticks):
            ticks([place + 0.5 for place in places], [str(place + 1) for place in places])
        axes.tick_params(length=0, labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(mesh, ax=axes, shrink=0.6, aspect=24, ticks=[-1, -0.5, 0, 0.5, 1])
        bar.ax.tick_params(length=0, labelsize=8)
        bar.outline.set_visible(False)
        if bar.solids is not None:
            bar.solids.set(rasterized=False, edgecolor="face")  # Otherwise an image, which the page does not allow.
        file = io.StringIO()
        nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = svg.replace(_EDGE, "var(--card)")
    return svg.replace("<svg ", '<svg role="img" aria-label="Correlation of every two rules" ', 1)
