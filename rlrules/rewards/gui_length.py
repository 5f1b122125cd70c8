"""The difficulty-adaptive length reward (DAST; UI-R1-E, equations 5 to 7)."""

from collections.abc import Sequence
from dataclasses import replace

from rlrules.rewards.base import Scorer
from rlrules.types import Group, Score, Scored

# Of a right answer: the reward at the budget, its slope, and where it ends.
_RIGHT = (0.5, -0.5, 0.1)
_WRONG = (-0.1, 0.9, -0.1)


def length_budget(lengths: Sequence[int], right: Sequence[bool], longest: int) -> float:
    """Tokens that an answer may take: the right ones' mean length, drawn towards `longest` by the share of wrong ones.

    Args:
        lengths: The group's, in tokens, shape (G,).
        right: Which of them are right, shape (G,).
        longest: Most tokens of an answer.
    """
    short = [length for length, good in zip(lengths, right, strict=True) if good]
    share = len(short) / len(lengths)
    return share * (sum(short) / len(short) if short else 0.0) + (1 - share) * longest


def length_rewards(lengths: Sequence[int], right: Sequence[bool], longest: int) -> list[float]:
    """What the lengths of a group's answers add: 0.1 to 1 to right ones, -1 to -0.1 to wrong ones.

    A right answer gains the more the shorter it is; a wrong one loses the less the longer it is, up to the budget:
    where all are wrong, thinking longer pays.

    Args:
        lengths: In tokens, the end token included, shape (G,).
        right: Which answers are right, shape (G,).
        longest: Most tokens of an answer.

    Returns:
        Shape (G,).
    """
    budget = length_budget(lengths, right, longest)
    rewards: list[float] = []
    for length, good in zip(lengths, right, strict=True):
        over = (length - budget) / budget if budget > 0 else 0.0
        level, slope, bound = _RIGHT if good else _WRONG
        rewards.append((max if good else min)(level + slope * over, bound))
    return rewards


class LengthAdapted:
    """Adds the length reward to the scores of a scorer whose full reward is known.

    Args:
        scorer: Scores completions.
        full: The reward of a right answer; all below is wrong.
        limit: Most tokens of an answer; None: those of the group's longest.
    """

    def __init__(self, scorer: Scorer, full: float, limit: int | None) -> None:
        self._scorer = scorer
        self._full = full
        self._limit = limit

    async def score(self, group: Group) -> Scored:
        """Score a group; what the inner scorer leaves unscored counts neither as right nor as wrong."""
        scored = await self._scorer.score(group)
        lengths = [completion.tokens for completion in group.completions]
        known = [index for index, score in enumerate(scored.scores) if score.value is not None]
        if not known:
            return scored
        counted = [lengths[index] for index in known]
        right = [scored.scores[index].value == self._full for index in known]
        longest = max(counted) if self._limit is None else self._limit
        scores = list(scored.scores)
        for index, reward in zip(known, length_rewards(counted, right, longest), strict=True):
            scores[index] = _with_length(scores[index], reward, lengths[index])
        budget = length_budget(counted, right, longest)
        return replace(scored, scores=tuple(scores), metrics={**scored.metrics, "length_budget": budget})


def _with_length(score: Score, reward: float, tokens: int) -> Score:
    assert score.value is not None
    return replace(
        score,
        value=score.value + reward,
        metrics={**score.metrics, "length": reward, "tokens": float(tokens)},
        details={**score.details, "length": reward},
    )
