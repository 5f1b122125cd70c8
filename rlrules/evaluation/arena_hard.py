"""Arena-Hard (Li et al. 2024): a model's share of verdicts against a baseline, two games a prompt."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrules.errors import DataError
from rlrules.evaluation.files import need
from rlrules.evaluation.stats import RESAMPLES, bootstrap

VERDICTS = {"A>>B": 2, "A>B": 1, "A=B": 0, "B>A": -1, "B>>A": -2}
"""By how much the answer shown first is better."""

STRONG_WEIGHT = 3
"""How often the reference counts a strong verdict."""

_DOUBLE = re.compile(r"\[\[([AB<>=]+)\]\]")
_SINGLE = re.compile(r"\[([AB<>=]+)\]")
_MIRRORED = {"A<<B": "B>>A", "A<B": "B>A", "B<<A": "A>>B", "B<A": "A>B", "B=A": "A=B"}


@dataclass(frozen=True, slots=True)
class Battle:
    """All that was said of one model's answer to one prompt.

    Attributes:
        model: The model.
        prompt: The prompt's id.
        category: Its category.
        entries: One number for each counted verdict: 1 the model is better, 0 the baseline, 0.5 a tie.
        flipped: Whether the two games have different winners; None where there are no two.
        failed: A game had no verdict, so that the prompt is left out.
    """

    model: str
    prompt: str
    category: str
    entries: tuple[float, ...]
    flipped: bool | None = None
    failed: bool = False


def read_verdict_text(text: str) -> str | None:
    """The last verdict in double brackets, else in single ones; None where it is none of the five."""
    found = _DOUBLE.findall(text.upper()) or _SINGLE.findall(text.upper())
    verdict = _MIRRORED.get(found[-1], found[-1]) if found else None
    return verdict if verdict in VERDICTS else None


def entries_of(verdict: str, model_first: bool, strong: int = STRONG_WEIGHT) -> tuple[float, ...]:
    """What a verdict counts for: once, or `strong` times where one answer is much better."""
    margin = VERDICTS[verdict] if model_first else -VERDICTS[verdict]
    return (0.5 + 0.5 * float(np.sign(margin)),) * (strong if abs(margin) == 2 else 1)


def read_battles(
    rows: Iterable[tuple[str, Mapping[str, Any]]], baseline: str | None = None, strong: int = STRONG_WEIGHT
) -> list[Battle]:
    """Read judgments {uid, model, games: [{score}, {score}]}, or battles {question_id, model_a, model_b, winner}.

    In a judgment's first game the baseline is A, in its second the model. Of battles, all lines of one model and
    question are one prompt.

    Args:
        rows: With their places.
        baseline: Of battles: the model that all are against; by default the one that stands in every line.
        strong: How often a strong verdict of a judgment counts; battles hold their copies already.

    Raises:
        DataError: A column is missing or malformed, or there is no one baseline.
    """
    lines = list(rows)
    if not lines:
        raise DataError("no battles")
    return _judgments(lines, strong) if "games" in lines[0][1] else _weighted(lines, baseline)


def arena_hard_metrics(battles: Sequence[Battle], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Each model's score in percent by category, intervals over prompts; a prompt's games and copies move together.

    Against one baseline the win share equals the Bradley-Terry win rate, so that nothing is fitted.
    """
    parts: dict[str, dict[str, list[Battle]]] = defaultdict(lambda: defaultdict(list))
    for battle in battles:
        parts[battle.model][battle.category].append(battle)
    return {
        "models": {
            model: {category: score_record(own, resamples, seed) for category, own in categories.items()}
            for model, categories in parts.items()
        }
    }


def score_record(battles: Sequence[Battle], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """One model's score in percent over some prompts, with what it was computed from."""
    valid = [battle for battle in battles if not battle.failed]
    flips = [battle.flipped for battle in valid if battle.flipped is not None]
    found = bootstrap(
        [100 * sum(battle.entries) for battle in valid], [len(battle.entries) for battle in valid], resamples, seed
    )
    return {
        "score": found.value,
        "n_prompts": len(valid),
        "n_entries": sum(len(battle.entries) for battle in valid),
        "n_failed": len(battles) - len(valid),
        "flip_rate": float(np.mean(flips)) if flips else float("nan"),
        "intervals": {"score": found.record()} if resamples else {},
    }


def _judgments(lines: Sequence[tuple[str, Mapping[str, Any]]], strong: int) -> list[Battle]:
    battles: dict[tuple[str, str], Battle] = {}
    for where, row in lines:
        need(row, ("uid", "model", "games"), where)
        games = row["games"]
        if not isinstance(games, list) or len(games) != 2:
            raise DataError(f"{where}: `games`: expected two")
        verdicts = [game.get("score") if isinstance(game, Mapping) else None for game in games]
        # A list, for it takes what cannot be hashed.
        strange = [verdict for verdict in verdicts if verdict is not None and verdict not in list(VERDICTS)]
        if strange:
            raise DataError(f"{where}: `games`: expected a score of {', '.join(VERDICTS)} or null, got {strange[0]!r}")
        key = (str(row["model"]), str(row["uid"]))
        if key in battles:
            raise DataError(f"{where}: {key[0]} is judged on {key[1]} more than once")
        category = str(row.get("category", ""))
        if verdicts[0] is None or verdicts[1] is None:
            battles[key] = Battle(*key, category, (), failed=True)
            continue
        entries = [entries_of(verdicts[0], False, strong), entries_of(verdicts[1], True, strong)]
        battles[key] = Battle(*key, category, entries[0] + entries[1], flipped=entries[0][0] != entries[1][0])
    return list(battles.values())


def _weighted(lines: Sequence[tuple[str, Mapping[str, Any]]], baseline: str | None) -> list[Battle]:
    for where, row in lines:
        need(row, ("question_id", "model_a", "model_b", "winner"), where)
        if row["winner"] not in ("model_a", "model_b", "tie", "tie (bothbad)"):
            raise DataError(f"{where}: `winner`: expected model_a, model_b or tie, got {row['winner']!r}")
    pairs = [{row["model_a"], row["model_b"]} for _, row in lines]
    common = {baseline} if baseline else set.intersection(*pairs)
    if len(common) != 1 or any(not common < pair for pair in pairs):
        raise DataError(
            f"no one model stands in every battle (candidates: {sorted(common) or 'none'}); give --baseline"
        )
    [against] = common
    entries: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _, row in lines:
        side = "model_b" if row["model_a"] == against else "model_a"
        result = 0.5 if row["winner"].startswith("tie") else float(row["winner"] == side)
        entries[str(row[side]), str(row["question_id"])].append(result)
    return [Battle(model, prompt, "", tuple(found)) for (model, prompt), found in entries.items()]
