"""Arena-Hard from a model to its score: answers, and two games a prompt against the baseline's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlrules.data.preferences_base import user
from rlrules.data.stage_log import Tell, content_sha, each
from rlrules.errors import DataError
from rlrules.evaluation.arena_hard import VERDICTS, Battle, entries_of, read_verdict_text, score_record
from rlrules.evaluation.config import ArenaHardConfig
from rlrules.evaluation.files import asked_for, listed, located, need, refuse_again
from rlrules.evaluation.generation import Chat, answer_all, truncated
from rlrules.evaluation.results import (
    ResultRows,
    check_failures,
    judge_identity,
    open_manifest,
    own_judge,
    usage_record,
    write_results,
)
from rlrules.judges import Judge, JudgeFailure, Question
from rlrules.judges.templates import conversation, fenced, render
from rlrules.judges.verdict import after_thought, read_verdict

HUB = "lmarena-ai/arena-hard-auto"


async def run_arena_hard(
    config: ArenaHardConfig, judge: Judge, model: Judge | None, folder: Path, tell: Tell
) -> dict[str, Any]:
    """Do what is missing of a run in `folder`, and compute its score.

    Raises:
        DataError: A file cannot be used, or the folder holds another result.
        JudgeError: Too many answers or verdicts failed.
    """
    prompts, categories = _questions(config)
    baseline = _answers(config.baseline, prompts)
    existing = _answers(config.answers, prompts) if config.answers else None
    identity = {
        "benchmark": "arena-hard",
        "name": config.name or (config.model.model if config.model else Path(str(config.answers)).stem),
        "model": judge_identity(config.model) if config.model else {"answers": content_sha(existing)},
        "judge": judge_identity(config.judge),
        "template": _asked("", "", "", config.explain).template,
        "explain": config.explain,
        "seed": config.seed,
        "questions": content_sha(prompts),
        "baseline": content_sha(baseline),
    }
    sha = open_manifest(folder, identity)
    rows, counts = ResultRows(folder / "rows.jsonl", sha), dict[str, Any]()
    answers = existing
    if answers is None:
        assert model is not None
        log = ResultRows(folder / "answers.jsonl", sha)
        chats = [Chat(uid, (prompt,), draw=config.seed) for uid, prompt in prompts.items()]
        answers = {uid: turns[0] for uid, turns in (await answer_all(chats, model, log, tell)).items()}
        counts["answers"] = check_failures(log, list(prompts), config.max_failed, "answers")
        counts["answers"]["n_truncated"] = truncated(log)
    keys = [f"{uid}:{game}" for uid in answers for game in (1, 2)]
    await _judge(config, prompts, baseline, answers, judge, rows, tell)
    counts["verdicts"] = check_failures(rows, keys, config.max_failed, "verdicts")
    battles = _battles(str(identity["name"]), config.strong, categories, answers, rows)
    metrics = score_record(battles, config.resamples, config.seed) | {
        "by_category": {
            name: score_record([b for b in battles if b.category == name], config.resamples, config.seed)
            for name in dict.fromkeys(categories.values())
        },
        "counts": counts,
        "warnings": own_judge(config.judge, config.model),
        "usage": {"judge": usage_record(judge.usage)} | ({"model": usage_record(model.usage)} if model else {}),
    }
    units = {b.prompt: [100 * sum(b.entries), float(len(b.entries))] for b in battles if not b.failed}
    write_results(folder, {"benchmark": "arena-hard", **metrics}, {"score": units})
    return metrics


def _asked(prompt: str, first: str, second: str, explain: bool) -> Question:
    shown = {"first": fenced(first), "second": fenced(second)}
    content, version = render("arena_hard", conversation=conversation((user(prompt),)), explain=explain, **shown)
    return Question((user(content.rstrip()),), version, labels=() if explain else tuple(VERDICTS))


async def _judge(
    config: ArenaHardConfig,
    prompts: Mapping[str, str],
    baseline: Mapping[str, str],
    answers: Mapping[str, str],
    judge: Judge,
    rows: ResultRows,
    tell: Tell,
) -> None:
    """Two games a prompt: the baseline is A in the first, the model in the second."""
    places = {f"{uid}:{game}": (uid, game) for uid in answers for game in (1, 2)}

    async def work(key: str) -> None:
        uid, game = places[key]
        sides = (baseline[uid], answers[uid])
        asked = _asked(prompts[uid], *(sides if game == 1 else sides[::-1]), config.explain)
        try:
            answer = await judge.ask(asked)
        except JudgeFailure as failure:
            rows.add(key, {}, "failed", f"judge {judge.config.model}: {failure}")
            return
        text = after_thought(answer.text)
        verdict = read_verdict_text(text) if config.explain else read_verdict(answer, asked.labels).label
        if verdict:
            rows.add(key, {"verdict": verdict, "judgment": answer.text})
        else:
            rows.add(key, {"judgment": answer.text}, "unparsed", f"no verdict in {' '.join(text[-80:].split())!r}")

    await each("verdicts", rows.pending(list(places)), work, tell)


def _battles(
    name: str, strong: int, categories: Mapping[str, str], answers: Mapping[str, str], rows: ResultRows
) -> list[Battle]:
    battles: list[Battle] = []
    for uid in answers:
        first, second = (rows.get(f"{uid}:{game}") for game in (1, 2))
        if first is None or second is None:
            battles.append(Battle(name, uid, categories[uid], (), failed=True))
            continue
        games = (entries_of(first.data["verdict"], False, strong), entries_of(second.data["verdict"], True, strong))
        battles.append(Battle(name, uid, categories[uid], games[0] + games[1], games[0][0] != games[1][0]))
    return battles


def _questions(config: ArenaHardConfig) -> tuple[dict[str, str], dict[str, str]]:
    prompts: dict[str, str] = {}
    categories: dict[str, str] = {}
    for where, row in asked_for(config.questions, HUB, "train", "`questions`")[: config.limit]:
        need(row, ("uid", "prompt"), where)
        uid = str(row["uid"])
        refuse_again(uid, prompts, where, "uid")
        prompts[uid], categories[uid] = str(row["prompt"]), str(row.get("category", ""))
    if not prompts:
        raise DataError(f"{config.questions}: no questions")
    return prompts, categories


def _answers(path: str, prompts: Mapping[str, str]) -> dict[str, str]:
    """Answers {uid, answer} to every prompt."""
    found: dict[str, str] = {}
    for where, row in located(Path(path)):
        need(row, ("uid", "answer"), where)
        if not isinstance(row["answer"], str):
            raise DataError(f"{where}: `answer`: expected text, got {type(row['answer']).__name__}")
        refuse_again(str(row["uid"]), found, where, "uid")
        found[str(row["uid"])] = row["answer"]
    missing: Sequence[str] = [uid for uid in prompts if uid not in found]
    if missing:
        raise DataError(f"{path}: {len(missing)} prompts have no answer: {listed(missing)}")
    return {uid: found[uid] for uid in prompts}
