"""Writing rules files: where their rules come from, and never a worse file over a good one."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlrules.data.stage_log import write_atomically
from rlrules.errors import DataError, JudgeError
from rlrules.rewards.rule_set import Rule, load_rules

__all__ = ["Rule", "RuleSet", "load_rules", "normalised", "rule_id", "save_rules"]

VERSION = 1
_MARKER = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.)])\s+")


def normalised(text: str) -> str:
    """A rule's text without what does not change it: list markers, case, blanks, quotes, the full stop."""
    return " ".join(_MARKER.sub("", text).casefold().split()).strip(" \"'“”.;")


def rule_id(text: str) -> str:
    """Stable id of a rule: a hash of its normalised text, 10 hexadecimal digits."""
    return hashlib.sha256(normalised(text).encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A rules file's content.

    Attributes:
        rules: The rules, best supported first.
        model: The model that made them.
        params: Its sampling parameters.
        data_sha: Hash of the pairs.
        config_sha: Hash of all settings that led to them.
        parent_counts: How many of what each stage had and left.
        dropped: Candidates that became part of no rule, with the reason.
    """

    rules: Sequence[Rule]
    model: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    data_sha: str = ""
    config_sha: str = ""
    parent_counts: Mapping[str, int] = field(default_factory=dict)
    dropped: Sequence[Mapping[str, str]] = ()


def save_rules(path: Path, rule_set: RuleSet) -> None:
    """Write a rules file, atomically.

    Raises:
        DataError: There is no rule to write; a file that is there stays.
        JudgeError: More merging calls failed than for the file that is there, which stays.
    """
    if not rule_set.rules:
        raise DataError(f"{path}: not written: no rule came out of this run (an earlier file stays as it was)")
    failed, before = rule_set.parent_counts.get("failed_calls", 0), _failed_calls(path)
    if before is not None and failed > before:
        raise JudgeError(
            f"{path}: not overwritten: {failed} merging calls failed, {before} when it was made; run again when the "
            "judge answers, or remove it"
        )
    content = {
        "version": VERSION,
        "model": rule_set.model,
        "params": dict(rule_set.params),
        "data_sha": rule_set.data_sha,
        "config_sha": rule_set.config_sha,
        "parent_counts": dict(rule_set.parent_counts),
        "rules": [rule.model_dump(exclude_defaults=True) for rule in rule_set.rules],
        "dropped": [dict(entry) for entry in rule_set.dropped],
    }
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _failed_calls(path: Path) -> int | None:
    """Failed merging calls of the good rules file at `path`; None where there is none."""
    try:
        load_rules(path)
        counts = json.loads(path.read_text("utf-8")).get("parent_counts") or {}
        return int(counts.get("failed_calls", 0))
    except (DataError, OSError, AttributeError, TypeError, ValueError):
        return None
