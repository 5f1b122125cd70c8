"""A result's folder: manifest, rows as they come, metrics, page; the same command goes on where it was."""

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rlrules.data.stage_log import Line, StageLog, content_sha, write_atomically
from rlrules.errors import DataError, JudgeError
from rlrules.evaluation.record import as_jsonable
from rlrules.judges.base import JudgeConfig, Usage

Outcome = Literal["ok", "unparsed", "failed"]

MANIFEST, METRICS, UNITS, PAGE = "manifest.json", "metrics.json", "units.json", "page.html"
_PACKAGES = ("rlrules", "numpy", "scipy", "scikit-learn", "transformers", "torch", "if-verifiable", "nltk")


class RowLine(Line):
    """A line of rows.jsonl or answers.jsonl.

    Attributes:
        key: What was done: a question, a pair in an order, ….
        outcome: "ok"; "unparsed": an answer came and says nothing usable, which asking again would not mend; "failed":
            no answer came, so that the next run asks again.
        reason: Why it is not "ok".
        data: All else.
    """

    key: str
    outcome: Outcome = "ok"
    reason: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class ResultRows:
    """An append-only file of finished rows.

    Args:
        path: The file.
        identity: Hash of all that its rows depend on.

    Raises:
        DataError: A line is malformed, was made with another configuration, or a row is finished twice.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._log = StageLog(path, RowLine, identity)
        self.latest: dict[str, RowLine] = {}
        for number, line in enumerate(self._log.lines, 1):
            known = self.latest.get(line.key)
            if known is not None and known.outcome != "failed":
                raise DataError(f"{path}:{number}: key: {line.key!r} stands more than once; remove one of its lines")
            self.latest[line.key] = line

    def pending(self, keys: Sequence[str]) -> list[str]:
        """Those that are missing or failed."""
        return [key for key in keys if key not in self.latest or self.latest[key].outcome == "failed"]

    def add(self, key: str, data: dict[str, Any], outcome: Outcome = "ok", reason: str = "") -> None:
        """Write one row."""
        line = RowLine(config_sha=self._log.config_sha, key=key, outcome=outcome, reason=reason, data=data)
        self._log.append([line])
        self.latest[key] = line

    def get(self, key: str) -> RowLine | None:
        """The row, where it is "ok"."""
        line = self.latest.get(key)
        return line if line is not None and line.outcome == "ok" else None


def judge_identity(config: JudgeConfig) -> dict[str, Any]:
    """What of a judge or a model can change its answers, for people and for comparing."""
    return {
        "model": config.model,
        "revision": config.revision,
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "identity": list(config.identity()),
    }


def own_judge(judge: JudgeConfig, model: JudgeConfig | None) -> list[str]:
    """A warning where a model judges its own answers, which judges prefer."""
    same = model is not None and model.model == judge.model
    return [f"{judge.model} judges its own answers, which judges tend to prefer"] if same else []


def open_manifest(folder: Path, identity: Mapping[str, Any]) -> str:
    """Begin or go on with a result.

    Args:
        folder: Where it lies.
        identity: All that its rows depend on: benchmark, model, judge, templates, data, seeds, settings.

    Returns:
        The identity's hash.

    Raises:
        DataError: The folder holds a result of something else.
    """
    path, sha = folder / MANIFEST, content_sha(identity)
    if path.exists():
        known = read_json(path)["identity"]
        differing = [name for name in {**known, **identity} if known.get(name) != as_jsonable(identity).get(name)]
        if differing:
            name = differing[0]
            raise DataError(
                f"{path}: {name}: made with {json.dumps(known.get(name))[:80]}, now "
                f"{json.dumps(as_jsonable(identity).get(name))[:80]}; choose another folder with -o"
            )
        return sha
    manifest = {
        "identity": identity,
        "identity_sha": sha,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **_versions()},
    }
    write_atomically(path, json.dumps(as_jsonable(manifest), indent=1, ensure_ascii=False) + "\n")
    return sha


def check_failures(rows: ResultRows, keys: Sequence[str], at_most: float, what: str) -> dict[str, Any]:
    """Count outcomes; too many without a result end the run.

    Raises:
        JudgeError: More than the share `at_most` is unparsed or failed.
    """
    lines = [rows.latest.get(key) for key in keys]
    bad = [line for line in lines if line is None or line.outcome != "ok"]
    reasons: dict[str, int] = {}
    for line in bad:
        reason = "not done" if line is None else line.reason
        reasons[reason] = reasons.get(reason, 0) + 1
    counts = {
        "n_total": len(keys),
        "n_parsed": len(keys) - len(bad),
        "n_unparsed": sum(line is not None and line.outcome == "unparsed" for line in lines),
        "n_failed": sum(line is None or line.outcome == "failed" for line in lines),
        "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])[:20]),
    }
    if len(bad) > at_most * len(keys):
        first = next(iter(counts["reasons"]))  # type: ignore[call-overload]
        raise JudgeError(
            f"{len(bad)} of {len(keys)} {what} have no result, more than max_failed = {at_most:g} allows; most often: "
            f"{first}. The same command asks again for those that failed"
        )
    return counts


def usage_record(usage: Usage) -> dict[str, float]:
    """A judge's counts, as JSON."""
    return {name: getattr(usage, name) for name in Usage.__slots__}


def write_results(folder: Path, metrics: Mapping[str, Any], units: Mapping[str, Any]) -> None:
    """Write metrics.json and units.json.

    Args:
        folder: The result's.
        metrics: Every number.
        units: By name of metric, what a paired comparison takes: {unit: [total, weight]}.
    """
    write_atomically(folder / METRICS, json.dumps(as_jsonable(metrics), indent=1, ensure_ascii=False) + "\n")
    write_atomically(folder / UNITS, json.dumps(as_jsonable(units), ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        DataError: No such file, or none.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; is {path.parent} a finished result?") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object")
    return content


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
