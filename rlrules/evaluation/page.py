"""A result as one page that needs nothing from outside itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from rlrules.data.rows import read_jsonl
from rlrules.data.stage_log import write_atomically
from rlrules.evaluation.results import MANIFEST, METRICS, PAGE, RowLine, read_json
from rlrules.reporting.text import Text, number, shorten

SAMPLES = 24
_TEXT = 4000
_TITLES = {
    "alpaca": "AlpacaEval 2",
    "mt-bench": "MT-Bench",
    "reward-bench": "RewardBench",
    "rm-bench": "RM-Bench",
    "preference": "Preference accuracy",
    "ifeval": "IFEval",
    "ifbench": "IFBench",
    "rules": "Rule satisfaction",
    "jigsaw": "Jigsaw puzzles",
    "gui": "Clicks on screenshots",
    "arena-hard": "Arena-Hard",
    "calibrate": "Judge calibration",
}


def write_page(folder: Path, headline: Sequence[str]) -> Path:
    """Write page.html beside the metrics.

    Args:
        folder: A finished result.
        headline: Names of the numbers that get a card of their own.

    Returns:
        The page's path.
    """
    manifest, metrics = read_json(folder / MANIFEST), read_json(folder / METRICS)
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("rlrules.evaluation"), PackageLoader("rlrules.rules")]),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "words": lambda name: str(name).replace("_", " ")}
    content = environment.get_template("result.html.jinja").render(
        title=_TITLES[metrics["benchmark"]],
        identity=manifest["identity"],
        manifest=manifest,
        cards=[_card(name, metrics) for name in headline if metrics.get(name) is not None],
        tables=[(name, _table(part)) for name, part in metrics.items() if _is_table(name, part)],
        numbers={name: value for name, value in metrics.items() if not isinstance(value, dict | list)},
        warnings=metrics.get("warnings", []),
        samples={name: _samples(folder / f"{name}.jsonl") for name in ("answers", "rows")},
    )
    path = folder / PAGE
    write_atomically(path, content)
    return path


def _card(name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    value, found = metrics[name], metrics.get("intervals", {}).get(name)
    card = {"name": name, "value": value, "low": None, "high": None, "span": None}
    if found and found["low"] is not None:
        # A frame that the whole interval fits in, with room on both sides.
        reach = 1.6 * max(found["high"] - value, value - found["low"], 1e-9)
        card |= {"low": found["low"], "high": found["high"], "span": (value - reach, value + reach)}
    return card


def _is_table(name: str, part: Any) -> bool:
    return isinstance(part, dict) and bool(part) and name != "intervals"


def _table(part: Mapping[str, Any]) -> dict[str, Any]:
    """Nested numbers as rows and columns; flat ones as names and values."""
    flat = {name: value for name, value in part.items() if not isinstance(value, dict)}
    nested = {name: value for name, value in part.items() if isinstance(value, dict) and value}
    columns = list(dict.fromkeys(key for value in nested.values() for key in value if key != "intervals"))
    return {"flat": flat, "nested": nested, "columns": columns}


def _samples(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = zip(read_jsonl(path), range(SAMPLES), strict=False)
    return [_sample(RowLine.model_validate(row)) for (_, row), _ in lines]


def _sample(line: RowLine) -> dict[str, Any]:
    data = line.data
    if isinstance(data.get("turns"), list):
        data = {f"turn {number}": text for number, text in enumerate(data["turns"], 1)} | data | {"turns": None}
    fields = {
        name: Text.of(value, _TEXT) if isinstance(value, str) and len(value) > 80 else shorten(value, 200)
        for name, value in data.items()
        if value not in (None, "")
    }
    return {"key": line.key, "outcome": line.outcome, "reason": line.reason, "fields": fields}


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else shorten(value, 300)
    return number(value)
