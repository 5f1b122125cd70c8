"""Which of an item's answers a judge or a reward model prefers: the rows behind every reward benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrules.data.stage_log import Tell, each
from rlrules.errors import RlrulesError
from rlrules.evaluation.config import ScoringConfig
from rlrules.evaluation.mt_bench_judge import grade_question, read_judgment
from rlrules.evaluation.results import Outcome, ResultRows, judge_identity
from rlrules.judges import Judge, JudgeFailure, Question
from rlrules.judges.comparison import LABELS, comparison_messages, read_comparison, strength
from rlrules.judges.templates import conversation
from rlrules.judges.verdict import read_verdict
from rlrules.rewards.base import Resources, Scorer
from rlrules.types import Completion, Group, Message

Floats = NDArray[np.float64]

# Where and how fast a reward model runs does not change what it says.
_NO_PART = {"urls", "api_key_env", "max_in_flight", "timeout_s", "retries", "batch_size", "device", "required"}


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt and its answers; pairs name two of them, the one that should win first.

    Attributes:
        key: Unique in the benchmark.
        prompt: Chat messages.
        answers: Two or more texts.
        pairs: Places of (better, worse) answers.
    """

    key: str
    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...] = ((0, 1),)


def scorer_identity(config: ScoringConfig) -> dict[str, Any]:
    """Who decides, for the manifest."""
    if config.judge is not None:
        return {"judge": judge_identity(config.judge), "think": config.think, "verdict": config.verdict}
    assert config.reward_model is not None
    return {"reward_model": config.reward_model.model_dump(mode="json", exclude=_NO_PART)}


def template_of(config: ScoringConfig) -> str:
    """Version of the judge's templates; empty for a reward model."""
    return comparison_messages((), "", "", config.verdict, config.think)[1] if config.judge is not None else ""


def row_keys(config: ScoringConfig, items: Sequence[Item]) -> list[str]:
    """Keys of all rows: one per item for a reward model, two orders of every pair for a judge."""
    if config.judge is None:
        return [item.key for item in items]
    return [_key(item, pair, order) for item in items for pair in item.pairs for order in (0, 1)]


async def outcomes(
    config: ScoringConfig, items: Sequence[Item], judge: Judge | None, rows: ResultRows, tell: Tell
) -> list[Floats]:
    """Decide every pair that is not decided yet.

    Returns:
        For each item an array over its pairs: 1 the better answer wins, 0 it loses, 0.5 a tie, NaN unknown. Of a
        judge, both orders together decide.
    """
    if judge is not None:
        await _compare(config, items, judge, rows, tell)
        return [np.array([_both_orders(item, pair, rows) for pair in item.pairs]) for item in items]
    scores = await score_items(config, items, rows, tell)
    return [
        np.array([(1 + np.sign(found[better] - found[worse])) / 2 for better, worse in item.pairs])
        for item, found in zip(items, scores, strict=True)
    ]


async def score_items(config: ScoringConfig, items: Sequence[Item], rows: ResultRows, tell: Tell) -> list[Floats]:
    """A reward model's score of every answer; NaN where there is none. One forward pass serves all pairs.

    Raises:
        ModelError: The reward model cannot be found.
    """
    assert config.reward_model is not None
    scorer = config.reward_model.build(Resources())
    by_key = {item.key: item for item in items}

    async def work(key: str) -> None:
        rows.add(key, *await _scored(scorer, by_key[key]))

    await each("scores", rows.pending([item.key for item in items]), work, tell)
    found: list[Floats] = []
    for item in items:
        scores = rows.latest[item.key].data.get("scores", [None] * len(item.answers))
        found.append(np.array([np.nan if score is None else score for score in scores], float))
    return found


async def rate_items(items: Sequence[Item], judge: Judge, rows: ResultRows, tell: Tell) -> list[Floats]:
    """A judge's grade from 1 to 10 of every answer, each on its own; NaN where there is none."""
    jobs = {rating_key(item, place): (item, place) for item in items for place in range(len(item.answers))}

    async def work(key: str) -> None:
        item, place = jobs[key]
        asked = grade_question(conversation(item.prompt), item.answers[place], None, explain=False)
        try:
            answer = await judge.ask(asked)
        except JudgeFailure as failure:
            rows.add(key, {}, "failed", f"judge {judge.config.model}: {failure}")
            return
        judged = read_judgment(answer, asked, graded=True)
        rows.add(key, {"grade": judged.value}, judged.outcome, judged.reason)

    await each("grades", rows.pending(list(jobs)), work, tell)
    return [np.array([_grade(rows, rating_key(item, place)) for place in range(len(item.answers))]) for item in items]


def rating_key(item: Item, place: int) -> str:
    """Key of one answer's grade."""
    return f"{item.key}/{place}"


def order_metrics(items: Sequence[Item], rows: ResultRows) -> dict[str, float]:
    """How much the order decides: how often what stands first wins, and how often the winner changes with it."""
    first: list[float] = []
    flips: list[bool] = []
    for item in items:
        for pair in item.pairs:
            lines = [rows.get(_key(item, pair, order)) for order in (0, 1)]
            strengths = [line.data["strength"] for line in lines if line is not None]
            first += [float(value < 0) for value in strengths]
            if len(strengths) == 2:
                flips.append((strengths[0] < 0) == (strengths[1] < 0))
    return {
        "p_first": float(np.mean(first)) if first else float("nan"),
        "flip_rate": float(np.mean(flips)) if flips else float("nan"),
    }


async def _compare(config: ScoringConfig, items: Sequence[Item], judge: Judge, rows: ResultRows, tell: Tell) -> None:
    jobs = {_key(item, pair, order): (item, pair, order) for item in items for pair in item.pairs for order in (0, 1)}

    async def work(key: str) -> None:
        item, (better, worse), order = jobs[key]
        first, second = (better, worse) if order == 0 else (worse, better)
        messages, version = comparison_messages(
            item.prompt, item.answers[first], item.answers[second], config.verdict, config.think
        )
        labels = () if config.think else LABELS[config.verdict]
        meta = {"item": item.key, "better_first": order == 0}
        try:
            answer = await judge.ask(Question(messages, version, labels=labels))
        except JudgeFailure as failure:
            rows.add(key, meta, "failed", f"judge {judge.config.model}: {failure}")
            return
        verdict = read_comparison(answer, config.verdict) if config.think else read_verdict(answer, labels)
        if verdict.outcome != "value":
            rows.add(key, meta | {"raw": verdict.raw}, "unparsed", verdict.reason)
            return
        said = {"label": verdict.label, "strength": strength(verdict.label)}
        rows.add(key, meta | said | ({"raw": verdict.raw} if config.think else {}))

    await each("verdicts", rows.pending(list(jobs)), work, tell)


def _both_orders(item: Item, pair: tuple[int, int], rows: ResultRows) -> float:
    lines = [rows.get(_key(item, pair, order)) for order in (0, 1)]
    if lines[0] is None or lines[1] is None:
        return float("nan")
    # A strength is positive where what stands second is better.
    total = lines[1].data["strength"] - lines[0].data["strength"]
    return float((1 + np.sign(total)) / 2)


def _grade(rows: ResultRows, key: str) -> float:
    line = rows.get(key)
    return float(line.data["grade"]) if line is not None else float("nan")


async def _scored(scorer: Scorer, item: Item) -> tuple[dict[str, Any], Outcome, str]:
    group = Group(item.prompt, tuple(Completion(text, 0) for text in item.answers))
    try:
        scored = await scorer.score(group)
    except (RlrulesError, OSError, RuntimeError, ValueError) as error:
        return {}, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    values = [score.value for score in scored.scores]
    reasons = [score.reason for score in scored.scores if score.value is None]
    # A reward model that has no score for a text has none the next time either.
    return {"scores": values}, "unparsed" if reasons else "ok", reasons[0] if reasons else ""


def _key(item: Item, pair: tuple[int, int], order: int) -> str:
    return f"{item.key}/{pair[0]}-{pair[1]}/{order}"
