"""MT-Bench's tables from judgments: single grades by turn and category, and pairwise wins (Zheng et al. 2023)."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlrules.data.preferences_mt_bench import EXTRACTION_QUESTIONS, HELDOUT_QUESTIONS, QUESTIONS
from rlrules.errors import DataError
from rlrules.evaluation.files import listed, need
from rlrules.evaluation.stats import RESAMPLES, Interval, bootstrap

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
FAILED = -1.0
Winner = Literal["model_1", "model_2", "tie", "error"]
_WINNERS = ("model_1", "model_2", "tie", "error")


def category_of(question: int) -> str:
    """Ten questions each, in this order."""
    return CATEGORIES[(question - QUESTIONS.start) // 10]


@dataclass(frozen=True, slots=True)
class Grade:
    """One judgment of one answer; a failed one has no score."""

    model: str
    question: int
    turn: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Grades:
    """A model's judgments, and what of the file they left out.

    Attributes:
        model: The model.
        grades: All judgments, those that stand twice included.
        copies: Judgments left out because another source holds the very same.
    """

    model: str
    grades: tuple[Grade, ...]
    copies: int


def read_grades(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Grades]:
    """Read single-answer judgments in FastChat's columns, by model in the order in which they come.

    Raises:
        DataError: A column is missing, a value is of no such kind, sources hold different judgments of a model,
            or judges are mixed.
    """
    sources: dict[str, dict[str, list[tuple[Grade, str]]]] = defaultdict(lambda: defaultdict(list))
    judges: dict[str, dict[str, None]] = {}
    for where, row in rows:
        need(row, ("question_id", "model", "turn", "score"), where)
        judges.setdefault(str(row["model"]), {})[_judge(row)] = None
        grade = Grade(str(row["model"]), _question(row, where), _turn(row, where), _score(row, where))
        sources[grade.model][str(row.get("source", ""))].append((grade, str(row.get("judgment", ""))))
    _refuse_mixed_judges(judges, "grades")
    found: dict[str, Grades] = {}
    for model, runs in sources.items():
        first, *others = runs.values()
        if any(Counter(other) != Counter(first) for other in others):
            raise DataError(
                f"{model}: {len(runs)} sources hold different judgments ({listed(runs)}); keep one source in the file"
            )
        found[model] = Grades(model, tuple(grade for grade, _ in first), sum(len(other) for other in others))
    if not found:
        raise DataError("no judgments")
    return found


def single_metrics(graded: Grades, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """A model's means; failed judgments are left out, those that stand twice all count, as in the reference.

    `average` is the mean over all judgments, not of the two turns' means. Intervals resample questions with all
    their judgments.
    """
    used = [grade for grade in graded.grades if grade.score is not None]
    keys = Counter((grade.question, grade.turn) for grade in graded.grades)
    slices: dict[str, list[Grade]] = {
        "turn1": [grade for grade in used if grade.turn == 1],
        "turn2": [grade for grade in used if grade.turn == 2],
        "average": used,
        "heldout": [grade for grade in used if grade.question in HELDOUT_QUESTIONS],
        "extraction_split": [grade for grade in used if grade.question in EXTRACTION_QUESTIONS],
    }
    found = {name: _mean(part, resamples, seed) for name, part in slices.items()}
    return {
        "model": graded.model,
        **{name: part.value for name, part in found.items()},
        "n_used": len(used),
        "n_failed": len(graded.grades) - len(used),
        "n_duplicates": sum(count - 1 for count in keys.values()),
        "n_copies": graded.copies,
        "n_questions": len({grade.question for grade in used}),
        "by_category": _by_category(used),
        "intervals": {name: part.record() for name, part in found.items()} if resamples else {},
    }


@dataclass(frozen=True, slots=True)
class Game:
    """One pair of answers judged in both orders.

    Attributes:
        models: The two models.
        question: The question.
        turn: 1 or 2.
        winners: Of the game with `models[0]` first, and of the one with it second.
    """

    models: tuple[str, str]
    question: int
    turn: int
    winners: tuple[Winner, Winner]

    @property
    def outcome(self) -> Winner:
        """A win only where both orders agree; an error in either leaves the pair out."""
        if "error" in self.winners:
            return "error"
        return self.winners[0] if self.winners[0] == self.winners[1] else "tie"


def read_games(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Game]:
    """Read pairwise judgments in FastChat's columns.

    Raises:
        DataError: A column is missing, a value is of no such kind, a model is paired with itself, or judges are
            mixed.
    """
    games: list[Game] = []
    judges: dict[str, dict[str, None]] = {}
    for where, row in rows:
        need(row, ("question_id", "model_1", "model_2", "g1_winner", "g2_winner", "turn"), where)
        winners = (row["g1_winner"], row["g2_winner"])
        if any(winner not in _WINNERS for winner in winners):
            raise DataError(f"{where}: `g1_winner`, `g2_winner`: expected {', '.join(_WINNERS)}, got {winners}")
        models = (str(row["model_1"]), str(row["model_2"]))
        if models[0] == models[1]:
            raise DataError(f"{where}: `model_1`, `model_2`: {models[0]} is paired with itself")
        for model in models:
            judges.setdefault(model, {})[_judge(row)] = None
        games.append(Game(models, _question(row, where), _turn(row, where), winners))
    _refuse_mixed_judges(judges, "verdicts")
    return games


def pairwise_metrics(games: Sequence[Game], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Wins, losses and ties of every model over all its pairs, and how often the two orders disagree."""
    valid = [game for game in games if game.outcome != "error"]
    models = list(dict.fromkeys(model for game in games for model in game.models))
    flips = [float(game.winners[0] != game.winners[1]) for game in valid]
    return {
        "models": {model: _record(model, valid, resamples, seed) for model in models},
        "n_pairs": len(valid),
        "n_failed": len(games) - len(valid),
        # Both sides are played in each game, so that a pair named the other way round is the same pair.
        "n_duplicates": len(games) - len({(frozenset(game.models), game.question, game.turn) for game in games}),
        "flip_rate": float(np.mean(flips)) if flips else float("nan"),
        "n_flips": int(sum(flips)),
    }


def _record(model: str, games: Sequence[Game], resamples: int, seed: int) -> dict[str, Any]:
    points: dict[int, list[float]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for game in games:
        if model not in game.models:
            continue
        own = "model_1" if model == game.models[0] else "model_2"
        result = "tie" if game.outcome == "tie" else "win" if game.outcome == own else "loss"
        counts[result] += 1
        points[game.question].append({"win": 1.0, "tie": 0.5, "loss": 0.0}[result])
    total = counts.total()
    rate = _questions_mean(points, resamples, seed)
    return {
        "win": counts["win"],
        "loss": counts["loss"],
        "tie": counts["tie"],
        "win_rate": counts["win"] / total if total else float("nan"),
        "loss_rate": counts["loss"] / total if total else float("nan"),
        "win_rate_adjusted": rate.value,
        "intervals": {"win_rate_adjusted": rate.record()} if resamples else {},
    }


def _by_category(used: Sequence[Grade]) -> dict[str, dict[str, float | None]]:
    table: dict[str, dict[str, float | None]] = {}
    for category in CATEGORIES:
        scores = {
            name: [
                g.score for g in used if category_of(g.question) == category and g.turn in turns and g.score is not None
            ]
            for name, turns in (("turn1", {1}), ("turn2", {2}), ("average", {1, 2}))
        }
        if scores["average"]:
            table[category] = {name: float(np.mean(part)) if part else None for name, part in scores.items()}
    return table


def _mean(grades: Sequence[Grade], resamples: int, seed: int) -> Interval:
    scores: dict[int, list[float]] = defaultdict(list)
    for grade in grades:
        if grade.score is not None:
            scores[grade.question].append(grade.score)
    return _questions_mean(scores, resamples, seed)


def _questions_mean(values: Mapping[int, Sequence[float]], resamples: int, seed: int) -> Interval:
    if not values:
        return Interval(float("nan"), float("nan"), float("nan"))
    ordered = [values[question] for question in sorted(values)]
    return bootstrap([sum(part) for part in ordered], [len(part) for part in ordered], resamples, seed)


def _refuse_mixed_judges(judges: Mapping[str, Iterable[str]], what: str) -> None:
    for model, seen in judges.items():
        names = list(seen)
        if len(names) > 1:
            raise DataError(f"{model}: mixes the {what} of {len(names)} judges ({listed(names)}); keep one's")


def _judge(row: Mapping[str, Any]) -> str:
    # FastChat writes the judge's name and its template's.
    judge = row.get("judge_model") or row.get("judge") or ""
    return str(judge[0] if isinstance(judge, list) and judge else judge)


def _question(row: Mapping[str, Any], where: str) -> int:
    value = row["question_id"]
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in QUESTIONS:
        raise DataError(f"{where}: `question_id`: expected MT-Bench's 81 to 160, got {value!r}")
    return int(value)


def _turn(row: Mapping[str, Any], where: str) -> int:
    if row["turn"] not in (1, 2):
        raise DataError(f"{where}: `turn`: expected 1 or 2, got {row['turn']!r}")
    return int(row["turn"])


def _score(row: Mapping[str, Any], where: str) -> float | None:
    value = row["score"]
    if value is None or value == FAILED or value != value:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: `score`: expected a number, got {value!r}")
    return float(value)
