"""How far a model's answers satisfy a rules file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlrules.data.prompts import as_messages
from rlrules.data.stage_log import Tell, content_sha, each
from rlrules.errors import DataError
from rlrules.evaluation.config import RulesEvalConfig
from rlrules.evaluation.files import located, need
from rlrules.evaluation.generation import Chat, answer_all, truncated
from rlrules.evaluation.results import (
    Outcome,
    ResultRows,
    check_failures,
    judge_identity,
    open_manifest,
    usage_record,
    write_results,
)
from rlrules.evaluation.stats import bootstrap
from rlrules.judges import Judge
from rlrules.rewards.base import Resources
from rlrules.rewards.rule_set import load_rules
from rlrules.rewards.rules import RulesConfig
from rlrules.types import Completion, Group


async def run_rules(
    config: RulesEvalConfig, judge: Judge, model: Judge | None, folder: Path, tell: Tell
) -> dict[str, Any]:
    """Verify every rule on every answer, as the training reward does with rules that do not apply left out.

    Raises:
        DataError: A file cannot be used, or the folder holds another result.
        JudgeError: Too many answers have no verdicts.
    """
    rules = load_rules(config.rules)
    prompts, existing = _prompts(config)
    identity = {
        "benchmark": "rules",
        "name": config.name or (config.model.model if config.model else Path(str(config.answers)).stem),
        "model": judge_identity(config.model) if config.model else {"answers": content_sha(existing)},
        "judge": judge_identity(config.judge),
        "rules": content_sha([[rule.id, rule.text, rule.weight] for rule in rules]),
        "seed": config.seed,
        "questions": content_sha(prompts),
    }
    sha = open_manifest(folder, identity)
    rows, counts = ResultRows(folder / "rows.jsonl", sha), dict[str, Any]()
    keys = [str(number) for number in range(len(prompts))]
    answers = existing
    if answers is None:
        assert model is not None
        log = ResultRows(folder / "answers.jsonl", sha)
        chats = [Chat(key, (prompts[int(key)],), draw=config.seed) for key in keys]
        answers = {key: turns[0] for key, turns in (await answer_all(chats, model, log, tell)).items()}
        counts["answers"] = check_failures(log, keys, config.max_failed, "answers")
        counts["answers"]["n_truncated"] = truncated(log)
    scorer = RulesConfig(type="rules", judge="judge", rules=config.rules, na="excluded").build(
        Resources({"judge": judge})
    )

    async def work(key: str) -> None:
        messages = tuple(as_messages(prompts[int(key)], key))
        scored = await scorer.score(Group(messages, (Completion(answers[key], 0),)))
        score = scored.scores[0]
        outcome: Outcome = "ok" if score.value is not None else "failed"
        data = {"prompt": prompts[int(key)], "answer": answers[key], "satisfied": score.value}
        rows.add(key, data | {"rules": score.details.get("rules", {})}, outcome, score.reason)

    answered = [key for key in keys if key in answers]
    await each("verdicts", rows.pending(answered), work, tell)
    counts["verdicts"] = check_failures(rows, answered, config.max_failed, "answers")
    metrics = _metrics(config, [rule.id for rule in rules], rows, answered) | {"counts": counts}
    metrics["usage"] = {"judge": usage_record(judge.usage)} | ({"model": usage_record(model.usage)} if model else {})
    units = {key: [line.data["satisfied"], 1.0] for key in answered if (line := rows.get(key)) is not None}
    write_results(folder, {"benchmark": "rules", **metrics}, {"satisfied": units})
    return metrics


def _metrics(config: RulesEvalConfig, ids: Sequence[str], rows: ResultRows, keys: Sequence[str]) -> dict[str, Any]:
    lines = [line for key in keys if (line := rows.get(key)) is not None]
    satisfied = bootstrap([line.data["satisfied"] for line in lines], resamples=config.resamples, seed=config.seed)
    by_rule: dict[str, dict[str, float | int]] = {}
    for name in ids:
        values = np.array([np.nan if line.data["rules"][name] is None else line.data["rules"][name] for line in lines])
        known = int((~np.isnan(values)).sum())
        by_rule[name] = {"satisfied": float(np.nanmean(values)) if known else float("nan"), "n_applies": known}
    return {
        "satisfied": satisfied.value,
        "n": len(lines),
        "by_rule": by_rule,
        "intervals": {"satisfied": satisfied.record()} if config.resamples else {},
    }


def _prompts(config: RulesEvalConfig) -> tuple[list[str], dict[str, str] | None]:
    path = Path(config.answers or config.prompts or "")
    prompts: list[str] = []
    answers: dict[str, str] = {}
    for where, row in list(located(path))[: config.limit]:
        need(row, ("prompt", "answer") if config.answers else ("prompt",), where)
        if not isinstance(row["prompt"], str):
            raise DataError(f"{where}: `prompt`: expected text, got {type(row['prompt']).__name__}")
        answers[str(len(prompts))] = str(row.get("answer", ""))
        prompts.append(row["prompt"])
    if not prompts:
        raise DataError(f"{path}: no prompts")
    return prompts, answers if config.answers else None
