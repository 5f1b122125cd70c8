"""What `rules merge` takes: candidates of extractions, and rules files."""

from collections.abc import Sequence
from pathlib import Path

from rlrules.data.rows import read_jsonl
from rlrules.errors import DataError
from rlrules.rules.candidates import Candidate
from rlrules.rules.rule_set import load_rules


def read_candidates(paths: Sequence[Path]) -> list[Candidate]:
    """All statements of candidates files (.jsonl) and rules files (.json), in order.

    Where there is more than one file, ids get the file's number in front, so that they differ.

    Raises:
        DataError: A file is missing or malformed, an id stands twice with different texts, a rule has a weight.
    """
    found: dict[str, Candidate] = {}
    for number, path in enumerate(paths, 1):
        for where, candidate in _lines(path) if path.suffix == ".jsonl" else _rules(path):
            key = candidate.rule_id if len(paths) == 1 else f"{number}:{candidate.rule_id}"
            if key in found and found[key].text != candidate.text:
                raise DataError(f"{where}: rule_id: {candidate.rule_id!r} stands more than once with different texts")
            found[key] = Candidate(key, candidate.text)
    if not found:
        raise DataError(f"{', '.join(str(path) for path in paths)}: no candidates to merge")
    return list(found.values())


def _lines(path: Path) -> list[tuple[str, Candidate]]:
    found: list[tuple[str, Candidate]] = []
    for line, row in read_jsonl(path):
        where = f"{path}:{line}"
        if row.get("rule_id") is None and row.get("text") is None:
            continue  # A pair that gave no statement.
        for name in ("rule_id", "text"):
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise DataError(f"{where}: `{name}`: expected text, got {row.get(name)!r}")
        found.append((where, Candidate(row["rule_id"], row["text"])))
    return found


def _rules(path: Path) -> list[tuple[str, Candidate]]:
    rules = load_rules(path)
    weighted = [rule.id for rule in rules if rule.weight != 1]
    if weighted:
        raise DataError(f"{path}: weight: rule {weighted[0]!r} has one, which merging cannot keep; remove the weights")
    return [(f"{path}, rule {number}", Candidate(rule.id, rule.text)) for number, rule in enumerate(rules, 1)]
