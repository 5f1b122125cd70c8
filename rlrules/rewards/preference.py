"""Comparisons of a group's completions by a judge (Think-RM, section 4), for the objective `pairwise`.

As a score of its own, a completion's value is its place in the group's ranking.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from rlrules.errors import RecipeError
from rlrules.judges.compare import Compared, Comparer
from rlrules.judges.comparison import Kind, strength
from rlrules.judges.templates import plain_text
from rlrules.judges.verdict import after_thought
from rlrules.rewards.base import Resources, ScorerConfig, judge_of
from rlrules.rewards.pairs import DESIGN, Order, Pair, designed, shown
from rlrules.rewards.pairwise import Ranking, rank
from rlrules.rewards.preference_metrics import AskedPair, group_metrics
from rlrules.types import Comparisons, Group, Score, Scored

Strength = Literal["hard", "probability", "inverse_length"]
Aggregate = Literal["mean", "majority"]


class PreferenceConfig(ScorerConfig):
    """Strengths d_ij of a judge's verdicts; in both orders d_ij = (s_ji - s_ij) / 2, s negative where A is better."""

    compares: ClassVar[bool] = True

    type: Literal["preference"] = "preference"
    judge: str = Field(description="The recipe's judge that compares.")
    verdict: Kind = Field("binary", description="Which is better, or also by how much.")
    strength: Strength = Field(
        "hard",
        description="hard: -1 and 1, or -3 to 3. probability: its expectation. inverse_length: over the characters "
        "that the judge wrote (Think-RM, section 4.1).",
    )
    order: Order = Field("both", description="Each pair in both orders, in one drawn by balanced lot, or as it comes.")
    design: str = Field("all", pattern=DESIGN, description="all, anchor, or circulant-K: K opponents each.")
    votes: int = Field(1, ge=1, description="Independent verdicts on each comparison.")
    aggregate: Aggregate = Field("mean", description="What counts of several verdicts: their mean, or the majority.")
    think: bool = Field(True, description="Reason first; false: one constrained label and nothing else.")
    seeded: bool = Field(False, description="The judge's served chat template opens the thought, as is then checked.")
    second_order_below: float | None = Field(
        None, gt=0, description="With order: both, the second order only where the first is weaker than this."
    )
    seed: int = Field(0, description="Of the lot that draws orders.")

    @model_validator(mode="after")
    def _fields_fit(self) -> "PreferenceConfig":
        graded = self.verdict == "multiclass" or self.strength == "probability"
        if self.strength == "inverse_length" and (self.verdict != "binary" or not self.think):
            raise ValueError("strength: inverse_length needs verdict: binary and think: true, whose thoughts have one")
        if self.seeded and not self.think:
            raise ValueError("seeded: true needs think: true, or the label would stand inside the thought")
        if self.aggregate == "majority" and self.strength != "hard":
            raise ValueError("aggregate: majority counts sides, so it needs strength: hard")
        if self.second_order_below is not None and (self.order != "both" or not graded):
            raise ValueError(
                "second_order_below needs order: both, and verdict: multiclass or strength: probability, which have "
                "weak preferences"
            )
        return self

    def judge_names(self) -> tuple[str, ...]:
        """The judge."""
        return (self.judge,)

    def seeded_judges(self) -> tuple[str, ...]:
        """The judge, where its template is to open the thought."""
        return (self.judge,) if self.seeded else ()

    def calls_per_group(self, size: int) -> float:
        """Calls for all comparisons of a group at most, verdicts that must be forced not counted."""
        behind = int(self.verdict == "multiclass") + (2 if self.think else 0) if self.strength == "probability" else 0
        orders = 2 if self.order == "both" else 1
        return len(designed(self.design, size)) * orders * self.votes * (1 + behind)

    def group_problem(self, size: int) -> str:
        """Groups of one have nothing to compare, and not every design exists for every size."""
        if size < 2:
            return "comparisons need groups of 2 or more"
        try:
            designed(self.design, size)
        except ValueError as error:
            return str(error)
        return ""

    def build(self, resources: Resources) -> "PreferenceScorer":
        """Make the scorer."""
        judge = judge_of(resources, self.judge)
        if self.votes > 1 and not judge.config.temperature:
            raise RecipeError(
                [f"votes: {self.votes} at temperature 0 are {self.votes} times the same; raise judges.{self.judge}'s"]
            )
        return PreferenceScorer(self, Comparer(judge, self.verdict, self.think, self.strength == "probability"))


class PreferenceScorer:
    """Asks for a group's comparisons, all at once.

    A missing verdict is a missing edge: the others rank the group without it, and a completion that none of them
    reaches is unscored.

    Args:
        config: The recipe's section.
        comparer: Who is asked, and how.
    """

    def __init__(self, config: PreferenceConfig, comparer: Comparer) -> None:
        self._config = config
        self._comparer = comparer

    async def score(self, group: Group) -> Scored:
        """Compare and rank; identical completions are equals that nobody is asked about."""
        texts = [after_thought(completion.text) for completion in group.completions]
        pairs = designed(self._config.design, len(texts))
        differing = [(i, j) for i, j in pairs if texts[i] != texts[j]]
        asked = await self._ask(group, texts, differing)
        strengths = np.full((len(texts), len(texts)), np.nan)
        np.fill_diagonal(strengths, 0.0)
        for i, j in pairs:
            strengths[i, j] = 0.0 if texts[i] == texts[j] else edge(asked.get((i, j)), asked.get((j, i)))
            strengths[j, i] = -strengths[i, j]
        ranking = rank(strengths)
        graded = self._config.strength != "inverse_length"
        metrics = group_metrics(asked, ranking, 3.0 if self._config.verdict == "multiclass" else 1.0, graded)
        return Scored(_scores(ranking, asked), Comparisons(strengths), metrics)

    async def _ask(self, group: Group, texts: Sequence[str], pairs: Sequence[Pair]) -> dict[Pair, AskedPair]:
        """All comparisons, by (shown as A, shown as B)."""
        config = self._config
        # Of the group's own content, so that whatever else is in a batch, and in which order, changes nothing.
        content = json.dumps([config.seed, [plain_text(message) for message in group.prompt], texts])
        generator = random.Random(content)
        if config.second_order_below is None:
            return await self._compare(group, texts, shown(pairs, config.order, generator))
        first = await self._compare(group, texts, shown(pairs, "random", generator))
        weak = [
            (b, a)
            for (a, b), asked in first.items()
            if asked.strength is not None and abs(asked.strength) < config.second_order_below
        ]
        return first | await self._compare(group, texts, sorted(weak))

    async def _compare(self, group: Group, texts: Sequence[str], pairs: Iterable[Pair]) -> dict[Pair, AskedPair]:
        questions = [(a, b, draw) for a, b in pairs for draw in range(self._config.votes)]

        async def ask(a: int, b: int, draw: int) -> Compared:
            return await self._comparer.compare(group.prompt, texts[a], texts[b], draw)

        # Verdicts of one token cost little but their prompt: one goes ahead, and the server has read the conversation
        # when the others come.
        ahead = 0 if self._config.think else 1
        answers = [await ask(*question) for question in questions[:ahead]]
        answers += await asyncio.gather(*(ask(*question) for question in questions[ahead:]))
        votes: dict[Pair, list[Compared]] = {}
        for (a, b, _), answer in zip(questions, answers, strict=True):
            votes.setdefault((a, b), []).append(answer)
        return {pair: self._asked(tuple(given)) for pair, given in votes.items()}

    def _asked(self, votes: tuple[Compared, ...]) -> AskedPair:
        given = [vote_strength(vote, self._config.strength) for vote in votes]
        return AskedPair(votes, aggregated(given, self._config.aggregate)[0])


def vote_strength(vote: Compared, how: Strength) -> float | None:
    """By how much a verdict finds B better; None where there is no verdict."""
    verdict = vote.verdict
    if verdict.outcome != "value":
        return None
    if how == "probability":
        # Over mirrored labels: a judge that leans nowhere then comes to 0, not to what rounding leaves.
        shares = verdict.probabilities
        labels = sorted(shares, key=strength)
        mirrored = zip(labels, reversed(labels), strict=True)
        return sum(strength(label) * (shares[label] - shares[other]) for label, other in mirrored) / 2
    return strength(verdict.label) / (max(1, vote.characters) if how == "inverse_length" else 1)


def aggregated(strengths: Sequence[float | None], how: Aggregate) -> tuple[float | None, int]:
    """One strength of several, of the valid ones only (Think-RM, section 2.3).

    Args:
        strengths: One per vote, None where it has no verdict.
        how: "mean"; or "majority": -1 or 1 for the side that has more votes, 0 where both have as many.

    Returns:
        The strength, None where no vote is valid, and how many are.
    """
    valid = [value for value in strengths if value is not None]
    if not valid:
        return None, 0
    if how == "mean":
        return sum(valid) / len(valid), len(valid)
    sides = Counter(np.sign(valid).tolist())
    return float(np.sign(sides[1.0] - sides[-1.0])), len(valid)


def edge(forth: AskedPair | None, back: AskedPair | None) -> float:
    """By how much i beats j; NaN where a verdict that was asked for is missing.

    Args:
        forth: What was said with i shown as A, None where that was not asked.
        back: The same with j shown as A.
    """
    said = [(asked.strength, sign) for asked, sign in ((forth, -1.0), (back, 1.0)) if asked is not None]
    known = [sign * value for value, sign in said if value is not None]
    return sum(known) / len(known) if known and len(known) == len(said) else float("nan")


def _scores(ranking: Ranking, asked: Mapping[Pair, AskedPair]) -> tuple[Score, ...]:
    missing = [pair for pair in asked.values() if pair.strength is None]
    reasons = [vote.verdict.reason for pair in missing for vote in pair.votes if vote.verdict.reason]
    why = "; ".join([f"out of reach: {len(missing)} of {len(asked)} comparisons missing", *reasons[:1]])
    scores: list[Score] = []
    for index, value in enumerate(ranking.values.tolist()):
        # Each comparison is told once, with the completion that was shown as A.
        told = [_record(pair, one) for pair, one in asked.items() if pair[0] == index]
        details: dict[str, Any] = {"comparisons": told} if told else {}
        if np.isnan(value):
            scores.append(Score.unscored(why, details))
        else:
            scores.append(Score(value, details=details))
    return tuple(scores)


def _record(pair: Pair, asked: AskedPair) -> dict[str, Any]:
    return {"a": pair[0], "b": pair[1], "strength": asked.strength, "votes": [_vote(vote) for vote in asked.votes]}


def _vote(vote: Compared) -> dict[str, Any]:
    verdict = vote.verdict
    told: dict[str, Any] = {"tokens": vote.tokens, "forced": vote.forced}
    if verdict.outcome != "value":
        return {"outcome": verdict.outcome, "reason": verdict.reason, "raw": verdict.raw[-200:], **told}
    return {"label": verdict.label, "p": round(verdict.probabilities[verdict.label], 6), **told}
