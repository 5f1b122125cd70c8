"""MT-Bench from a model to its tables: two turns answered, each judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrules.data.preferences_mt_bench import EXTRACTION_QUESTIONS, HELDOUT_QUESTIONS, QUESTIONS
from rlrules.data.stage_log import Tell, content_sha, each
from rlrules.errors import DataError
from rlrules.evaluation.config import MTBenchEvalConfig
from rlrules.evaluation.files import asked_for, listed, located, refuse_again
from rlrules.evaluation.generation import Chat, answer_all, truncated
from rlrules.evaluation.mt_bench_data import (
    NEED_REFERENCE,
    WRONG_REFERENCES,
    Question,
    read_answers,
    read_questions,
    read_templates,
)
from rlrules.evaluation.mt_bench_judge import MTBenchTemplates, read_judgment
from rlrules.evaluation.mt_bench_scores import Game, Grade, Grades, Winner, pairwise_metrics, single_metrics
from rlrules.evaluation.results import (
    ResultRows,
    check_failures,
    judge_identity,
    open_manifest,
    own_judge,
    usage_record,
    write_results,
)
from rlrules.judges import Judge, JudgeFailure
from rlrules.judges import Question as Asked

HUB = "HuggingFaceH4/mt_bench_prompts"
TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "stem": 0.1,
    "humanities": 0.1,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
}
_SPLITS = {"all": frozenset(QUESTIONS), "heldout": HELDOUT_QUESTIONS, "extraction": EXTRACTION_QUESTIONS}
Answers = dict[tuple[int, int], Sequence[str]]
"""By question and sample."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What an MT-Bench run is made of, read and checked."""

    questions: tuple[Question, ...]
    templates: MTBenchTemplates
    answers: Answers | None
    baseline: dict[int, Sequence[str]]
    baseline_name: str
    name: str
    references: dict[int, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Job:
    """One judgment: its key, what is asked, and what its row holds."""

    key: str
    asked: Asked
    meta: dict[str, Any]


def read_parts(config: MTBenchEvalConfig) -> Parts:
    """Read every file of a run; nothing is asked yet.

    Raises:
        DataError: A file is missing or malformed, or lacks a question's answer.
    """
    rows = asked_for(config.questions, HUB, "train", "--questions")
    questions = [question for question in read_questions(rows) if question.id in _SPLITS[config.split]][: config.limit]
    if not questions:
        raise DataError(f"{config.questions or HUB}: no question of split {config.split!r}")
    references: dict[int, Sequence[str]] = {}
    if config.references is not None:
        for (model, number), turns in read_answers(located(Path(config.references))).items():
            refuse_again(number, references, f"{config.references}: {model}", "question_id")
            references[number] = turns
        lacking = [q.id for q in questions if q.category in NEED_REFERENCE and q.id not in references]
        if lacking:
            raise DataError(f"{config.references}: no reference for question {listed(lacking)}")
    template = Path(config.template) if config.template else None
    given = read_templates(template, located(template)) if template else None
    answers, name = _existing(config.answers, questions, config.name) if config.answers else (None, config.name)
    baseline, against = _existing(config.baseline, questions, None) if config.baseline else ({}, "")
    return Parts(
        questions=tuple(questions),
        templates=MTBenchTemplates(given, config.explain, references),
        answers=answers,
        baseline={question: turns for (question, _), turns in baseline.items()},
        baseline_name=against,
        name=name or (config.model.model if config.model else ""),
        references=references,
    )


async def run_mt_bench(
    config: MTBenchEvalConfig, judge: Judge, model: Judge | None, folder: Path, tell: Tell
) -> dict[str, Any]:
    """Do what is missing of a run in `folder`, and compute its tables.

    Raises:
        DataError: A file cannot be used, or the folder holds another result.
        JudgeError: Too many answers or judgments failed.
    """
    parts = read_parts(config)
    sha = open_manifest(folder, _identity(config, parts))
    rows, counts = ResultRows(folder / "rows.jsonl", sha), dict[str, Any]()
    answers = parts.answers
    if answers is None:
        assert model is not None
        log = ResultRows(folder / "answers.jsonl", sha)
        chats = _chats(config, parts.questions)
        made = await answer_all(chats, model, log, tell)
        counts["answers"] = check_failures(log, [chat.key for chat in chats], config.max_failed, "answers")
        counts["answers"]["n_truncated"] = truncated(log)
        answers = {_place(key): turns for key, turns in made.items()}
    jobs = _grading(parts, answers) if config.mode == "single" else _comparing(parts, answers)
    await _judge(jobs, judge, config.mode == "single", rows, tell)
    keys = [job.key for job in jobs]
    counts["judgments"] = check_failures(rows, keys, config.max_failed, "judgments")
    metrics, units = _metrics(config, parts, rows, keys)
    used = {question.id for question in parts.questions if parts.templates.reference(question)}
    metrics["published_reference_wrong"] = [number for number in WRONG_REFERENCES if number in used]
    metrics["warnings"] = own_judge(config.judge, config.model)
    metrics["counts"] = counts
    metrics["usage"] = {"judge": usage_record(judge.usage)} | ({"model": usage_record(model.usage)} if model else {})
    write_results(folder, {"benchmark": "mt-bench", **metrics}, units)
    return metrics


def planned(config: MTBenchEvalConfig) -> dict[str, int]:
    """Requests that a run will make at most."""
    parts = read_parts(config)
    n = len(parts.questions) * config.samples
    judged = 2 * n * (2 if config.mode == "pair" else 1)
    return {"answers": 0 if parts.answers is not None else 2 * n, "judgments": judged}


def _identity(config: MTBenchEvalConfig, parts: Parts) -> dict[str, Any]:
    question = parts.questions[0]
    blank = (
        parts.templates.grade(question, ("", ""), 1)
        if config.mode == "single"
        else parts.templates.compare(question, ("", ""), ("", ""), 1)
    )
    return {
        "benchmark": "mt-bench",
        "name": parts.name,
        "model": judge_identity(config.model) if config.model else {"answers": _sha(parts.answers)},
        "judge": judge_identity(config.judge),
        "template": blank.template,
        "mode": config.mode,
        "explain": config.explain,
        "samples": config.samples,
        "seed": config.seed,
        "questions": content_sha([[question.id, question.turns] for question in parts.questions]),
        "references": content_sha(sorted(parts.references.items())),
        "baseline": {"name": parts.baseline_name, "answers": content_sha(sorted(parts.baseline.items()))},
    }


def _sha(answers: Answers | None) -> str:
    return content_sha(sorted((answers or {}).items()))


def _chats(config: MTBenchEvalConfig, questions: Sequence[Question]) -> list[Chat]:
    return [
        Chat(
            f"{question.id}:{sample}",
            question.turns,
            temperature=TEMPERATURES.get(question.category),
            draw=config.seed * config.samples + sample,
        )
        for question in questions
        for sample in range(config.samples)
    ]


def _place(key: str) -> tuple[int, int]:
    question, _, sample = key.partition(":")
    return int(question), int(sample)


def _grading(parts: Parts, answers: Answers) -> list[Job]:
    jobs: list[Job] = []
    for question in parts.questions:
        for (number, sample), turns in answers.items():
            for turn in (1, 2) if number == question.id else ():
                asked = parts.templates.grade(question, turns, turn)
                meta = {"question_id": question.id, "category": question.category, "sample": sample, "turn": turn}
                jobs.append(Job(f"{question.id}:{sample}:{turn}", asked, meta))
    return jobs


def _comparing(parts: Parts, answers: Answers) -> list[Job]:
    jobs: list[Job] = []
    for question in parts.questions:
        for (number, sample), turns in answers.items():
            for turn in (1, 2) if number == question.id else ():
                for game, (first, second) in enumerate(
                    ((turns, parts.baseline[number]), (parts.baseline[number], turns)), 1
                ):
                    asked = parts.templates.compare(question, first, second, turn)
                    meta = {"question_id": number, "sample": sample, "turn": turn, "game": game}
                    jobs.append(Job(f"{number}:{sample}:{turn}:{game}", asked, meta))
    return jobs


async def _judge(jobs: Sequence[Job], judge: Judge, graded: bool, rows: ResultRows, tell: Tell) -> None:
    by_key = {job.key: job for job in jobs}

    async def work(key: str) -> None:
        job = by_key[key]
        try:
            answer = await judge.ask(job.asked)
        except JudgeFailure as failure:
            rows.add(key, job.meta, "failed", f"judge {judge.config.model}: {failure}")
            return
        judged = read_judgment(answer, job.asked, graded)
        said = {"template": job.asked.template, "value": judged.value, "judgment": answer.text}
        rows.add(key, job.meta | said, judged.outcome, judged.reason)

    await each("judgments", rows.pending(list(by_key)), work, tell)


def _metrics(
    config: MTBenchEvalConfig, parts: Parts, rows: ResultRows, keys: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    if config.mode == "single":
        grades = [_grade(parts.name, rows, key) for key in keys]
        metrics = single_metrics(Grades(parts.name, tuple(grades), 0), config.resamples, config.seed)
        for name in ("n_duplicates", "n_copies"):
            del metrics[name]
        return metrics, {"average": _units([(g.question, g.score) for g in grades if g.score is not None])}
    games = _games(parts, rows, keys)
    metrics = pairwise_metrics(games, config.resamples, config.seed)
    models = metrics.pop("models")
    metrics.pop("n_duplicates")
    points = {"model_1": 1.0, "tie": 0.5, "model_2": 0.0}
    units = _units([(game.question, points[game.outcome]) for game in games if game.outcome != "error"])
    return {"model": parts.name, "baseline": parts.baseline_name, **models[parts.name], **metrics}, {
        "win_rate_adjusted": units
    }


def _grade(name: str, rows: ResultRows, key: str) -> Grade:
    data = rows.latest[key].data
    line = rows.get(key)
    return Grade(name, data["question_id"], data["turn"], float(line.data["value"]) if line else None)


def _games(parts: Parts, rows: ResultRows, keys: Sequence[str]) -> list[Game]:
    games: list[Game] = []
    for key in keys:
        if not key.endswith(":1"):
            continue
        data = rows.latest[key].data
        winners = (_winner(rows, key, ("model_1", "model_2")), _winner(rows, f"{key[:-1]}2", ("model_2", "model_1")))
        games.append(Game((parts.name, parts.baseline_name), data["question_id"], data["turn"], winners))
    return games


def _winner(rows: ResultRows, key: str, order: tuple[Winner, Winner]) -> Winner:
    line = rows.get(key)
    if line is None:
        return "error"
    sides: dict[str, Winner] = {"A": order[0], "B": order[1]}
    return sides.get(str(line.data["value"]), "tie")


def _units(scores: Sequence[tuple[int, float]]) -> dict[str, list[float]]:
    units: dict[str, list[float]] = {}
    for question, score in scores:
        total = units.setdefault(str(question), [0.0, 0.0])
        total[0] += score
        total[1] += 1
    return units


def _existing(path: str, questions: Sequence[Question], name: str | None) -> tuple[Answers, str]:
    """Both turns' answers of the one model in a file, or of the model `name`."""
    rows = read_answers(located(Path(path)))
    models = list(dict.fromkeys(model for model, _ in rows))
    chosen = name if name in models else models[0] if len(models) == 1 else None
    if chosen is None:
        raise DataError(f"{path}: holds the models {listed(models)}; choose one with `name`")
    missing = [q.id for q in questions if len(rows.get((chosen, q.id), ())) < 2]
    if missing:
        raise DataError(f"{path}: {chosen} has no two answers to question {listed(missing)}")
    return {(question.id, 0): rows[chosen, question.id] for question in questions}, name or chosen
