"""All stages in one folder: preferences -> pairs -> reasons -> candidates -> rules.json.

Every stage appends its finished items to a JSONL file of its own, so that a run can be killed at any time and the
same command goes on where it was.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlrules.data.preferences import Preferences
from rlrules.data.stage_log import StageLog, Tell, content_sha, judge_sha, silent, write_atomically
from rlrules.errors import DataError, JudgeError
from rlrules.judges import Judge
from rlrules.judges.templates import render
from rlrules.rules.candidates import CandidateLine, candidates_of, extract, extract_question
from rlrules.rules.config import ExtractionConfig
from rlrules.rules.inputs import read_candidates
from rlrules.rules.lint import lint
from rlrules.rules.merge import MergeLine, MergeResult, merge, merge_question
from rlrules.rules.pairs import Pair, build_pairs, save_pairs
from rlrules.rules.reasoning import ReasonLine, explain, reason_question
from rlrules.rules.rule_set import Rule, RuleSet, rule_id, save_rules


async def run_extraction(
    config: ExtractionConfig, preferences: Preferences, judge: Judge, folder: Path, tell: Tell = silent
) -> RuleSet:
    """Run all stages, or what an earlier run left of them.

    Args:
        config: The extraction.
        preferences: What `config.data` loads.
        judge: The model that reasons, extracts and merges.
        folder: Where pairs.jsonl, reasons.jsonl, candidates.jsonl, merges.jsonl and rules.json go.
        tell: Told of progress.

    Returns:
        What rules.json holds.

    Raises:
        DataError: A file in the folder is of another extraction, or no rule came out.
        JudgeError: The judge answered nothing, or too little to replace the rules.json that is there.
    """
    pairs = build_pairs(preferences, config.pairs)
    data_sha = content_sha(save_pairs(folder / "pairs.jsonl", pairs))
    shas = _Shas(config, pairs, data_sha)
    # All opened before anything is asked: what belongs to another extraction is refused before it costs anything.
    reason_log = StageLog(folder / "reasons.jsonl", ReasonLine, shas.reasons)
    candidate_log = StageLog(folder / "candidates.jsonl", CandidateLine, shas.candidates)
    merge_log = StageLog(folder / "merges.jsonl", MergeLine, shas.merges)
    write_atomically(folder / "config.json", config.model_dump_json(indent=1) + "\n")

    reasons = await explain(pairs, judge, reason_log, tell)
    _check_reasons(reasons, config)
    lines = await extract(pairs, reasons, judge, candidate_log, config.source, config.max_candidates, tell)
    candidates = candidates_of(lines)
    counts = _counts(preferences, reasons, lines)
    if not candidates:
        told = ", ".join(f"{counts[name]} {name}" for name in ("pairs_empty", "pairs_failed", "pairs_unanswered"))
        raise DataError(f"{folder / 'candidates.jsonl'}: no candidate of {len(lines)} explanations ({told})")
    merged = await merge(candidates, judge, merge_log, config.chunk, tell)
    rule_set = rule_set_of(merged, config, counts, data_sha, shas.merges)
    save_rules(folder / "rules.json", rule_set)
    return rule_set


async def run_merge(
    config: ExtractionConfig, inputs: Sequence[Path], judge: Judge, folder: Path, tell: Tell = silent
) -> RuleSet:
    """Merge candidates files and rules files into one rules.json.

    Raises:
        DataError: An input is malformed or of weighted rules, or the folder's files are of another merge.
        JudgeError: More calls failed than for the rules.json that is there.
    """
    candidates = read_candidates(inputs)
    data_sha = content_sha([[candidate.rule_id, candidate.text] for candidate in candidates])
    sha = content_sha(judge_sha(config.judge), config.chunk, _version(merge_question(["-"]).template), data_sha)
    merged = await merge(candidates, judge, StageLog(folder / "merges.jsonl", MergeLine, sha), config.chunk, tell)
    rule_set = rule_set_of(merged, config, {"files": len(inputs)}, data_sha, sha)
    save_rules(folder / "rules.json", rule_set)
    return rule_set


def rule_set_of(
    merged: MergeResult, config: ExtractionConfig, counts: Mapping[str, int], data_sha: str, config_sha: str
) -> RuleSet:
    """The rules file of a merge: provenance of every rule and the fate of every candidate."""
    rules: list[Rule] = []
    for found in merged.rules:
        more: dict[str, Any] = {"support": len(found.members), "member_rule_ids": list(found.members)}
        if found.kept_because:
            more["kept_because"] = found.kept_because
        if remarks := lint(found.text):
            more["lint"] = list(remarks)
        rules.append(Rule.model_validate({"id": rule_id(found.text), "text": found.text, **more}))
    judge = config.judge
    return RuleSet(
        rules=rules,
        model=judge.model,
        params={"revision": judge.revision, "temperature": judge.temperature, "max_tokens": judge.max_tokens},
        data_sha=data_sha,
        config_sha=config_sha,
        parent_counts={**counts, **merged.counts},
        dropped=[{"rule_id": key, "reason": reason} for key, reason in merged.dropped.items()],
    )


class _Shas:
    """Hash of all that each stage's lines depend on, the stages before it included."""

    def __init__(self, config: ExtractionConfig, pairs: Sequence[Pair], data_sha: str) -> None:
        self.reasons = content_sha(judge_sha(config.judge), reason_question(pairs[0]).template, data_sha)
        extracting = _version(extract_question("", "A", config.max_candidates).template)
        self.candidates = content_sha(self.reasons, config.source, config.max_candidates, extracting)
        self.merges = content_sha(self.candidates, config.chunk, _version(merge_question(["-"]).template))


def _version(template: str) -> str:
    return f"{template}+{render('repair', problem='', attempt=1)[1]}"


def _check_reasons(reasons: Mapping[str, ReasonLine], config: ExtractionConfig) -> None:
    answered = [line for line in reasons.values() if line.status == "ok"]
    if not answered:
        first = next(iter(reasons.values()))
        raise JudgeError(f"none of {len(reasons)} pairs could be explained; the first: {first.problem}")
    if config.source == "reasoning" and not any(line.reasoning for line in answered):
        raise DataError(
            f"source: reasoning: {config.judge.model} gave no chain of thought for any of {len(answered)} pairs; "
            "use a reasoning model, or set source: explanation"
        )


def _counts(
    preferences: Preferences,
    reasons: Mapping[str, ReasonLine],
    lines: Mapping[str, Sequence[CandidateLine]],
) -> dict[str, int]:
    explained = [line for line in reasons.values() if line.status == "ok"]
    outcomes = Counter(group[0].parse_status for group in lines.values())
    return {
        "rows": preferences.read,
        **{f"rows_dropped: {reason}": count for reason, count in preferences.dropped.items()},
        "preferences": len(preferences),
        "pairs": len(reasons),
        "explained": len(explained),
        "not_explained": len(reasons) - len(explained),
        "explanations_cut_off": sum(line.finish_reason == "length" for line in explained),
        "pairs_with_rules": outcomes["ok"] + outcomes["repaired"],
        "pairs_repaired": outcomes["repaired"],
        "pairs_empty": outcomes["empty"],
        "pairs_failed": outcomes["failed"],
        "pairs_unanswered": outcomes["unanswered"],
    }
