"""The agreement report: report.json for programs, report.html for people."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlrules.data.preferences import Preferences
from rlrules.data.stage_log import StageLog, Tell, content_sha, judge_sha, silent, write_atomically
from rlrules.errors import DataError
from rlrules.judges import Judge
from rlrules.judges.templates import render
from rlrules.rewards.rule_set import Rule
from rlrules.rules.agreement import Share, flags, flip_rates, rule_agreement, rule_matrix, set_accuracy
from rlrules.rules.config import ReportConfig
from rlrules.rules.lint import lint
from rlrules.rules.page import render_page
from rlrules.rules.verify import VerdictLine, Verdicts, judge_asker, verify

Report = dict[str, Any]


async def run_report(
    config: ReportConfig,
    rules: Sequence[Rule],
    preferences: Preferences,
    judge: Judge,
    folder: Path,
    tell: Tell = silent,
) -> Report:
    """Ask for every verdict, or what an earlier run left, and write report.json and report.html.

    Raises:
        DataError: verdicts.jsonl in the folder is of another report, or two preferences share an id.
        JudgeError: report.json cannot be made, because no verdict at all came back.
    """
    version = render("rules", conversation="", answer="", rule="", irrelevant=True, require_concise=False)[1]
    data = [[pair.id, pair.prompt, pair.chosen, pair.rejected] for pair in preferences]
    sha = content_sha(judge_sha(judge.config), config.temperature, version, [[r.id, r.text] for r in rules], data)
    log = StageLog(folder / "verdicts.jsonl", VerdictLine, sha)
    ask = judge_asker(judge, config.temperature)
    verdicts = await verify(preferences.pairs, rules, ask, config.repeats, log, tell)
    if verdicts.failed.all():
        problem = next(line.problem for line in reversed(log.lines) if line.outcome != "value")
        raise DataError(f"{log.path}: none of {verdicts.draws.size} verdicts came back; the last: {problem}")
    report = build_report(config, rules, preferences, verdicts)
    report["judge"] = {"model": judge.config.model, "temperature": config.temperature}
    report["config_sha"] = sha
    write_report(folder, report)
    return report


def build_report(config: ReportConfig, rules: Sequence[Rule], preferences: Preferences, verdicts: Verdicts) -> Report:
    """All numbers of the report; a share is {value, low, high, n}, with null where there is no case.

    Args:
        config: Thresholds of the flags.
        rules: K rules.
        preferences: N preferences.
        verdicts: Their verdicts; agreement is computed on the first draw, flip rates on all.
    """
    first, failed = verdicts.draws[0], verdicts.failed[0]
    agreement = rule_agreement(first, failed)
    matrix = rule_matrix(first)
    flips = flip_rates(verdicts.draws, verdicts.failed) if config.repeats > 1 else [None] * len(rules)
    weights = [rule.weight for rule in rules]
    rows: list[Report] = []
    for rule, found, flip in zip(rules, agreement, flips, strict=True):
        shares = {name: _share(getattr(found, name)) for name in found.__slots__}
        row = {"id": rule.id, "text": rule.text, "weight": rule.weight, "lint": list(lint(rule.text))}
        rows.append(row | shares | {"flip_rate": None if flip is None else _share(flip)})
    found_flags = flags(matrix, config.redundant, config.conflict, config.min_responses)
    return {
        "rules": rows,
        "set_accuracy": {
            "na_excluded": _share(set_accuracy(first, weights, "excluded", failed)),
            "na_satisfied": _share(set_accuracy(first, weights, "satisfied", failed)),
        },
        "matrix": {
            "agreement": _table(matrix.agreement),
            "phi": _table(matrix.phi),
            "n": matrix.n.tolist(),
        },
        "flags": [
            {"kind": f.kind, "rules": [rules[f.first].id, rules[f.second].id], "phi": f.phi, "n": f.n}
            for f in found_flags
        ],
        "thresholds": {name: getattr(config, name) for name in ("redundant", "conflict", "min_responses")},
        "repeats": config.repeats,
        "counts": counts(preferences, rules, verdicts),
        "sources": sorted({pair.source for pair in preferences}),
    }


def counts(preferences: Preferences, rules: Sequence[Rule], verdicts: Verdicts) -> dict[str, int]:
    """How many rows, preferences, answers and verdicts there were, and what became of each verdict."""
    return {
        "rows": preferences.read,
        **{f"rows_dropped: {reason}": count for reason, count in preferences.dropped.items()},
        "preferences": len(preferences),
        "answers": 2 * len(preferences),
        "rules": len(rules),
        "repeats": len(verdicts.draws),
        **{f"verdicts_{name}": count for name, count in verdicts.counts.items()},
    }


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write report.json and report.html into `folder`."""
    content = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", content + "\n")
    write_atomically(folder / "report.html", render_page(report))


def _share(found: Share) -> dict[str, float | int | None]:
    return {
        "value": _number(found.value),
        "low": _number(found.low),
        "high": _number(found.high),
        "n": found.n,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _table(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float | None]]:
    return [[_number(float(value)) for value in row] for row in values]
