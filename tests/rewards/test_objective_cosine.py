"""Light-IF's cosine length reward: its published values, and completions without a score."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlrules.rewards.objective_cosine import CosineLengthConfig
from rlrules.types import Completion, Group, Score, Scored

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "light_if.json").read_text())


def test_published_values() -> None:
    golden = GOLDEN["cosine_length"]
    lengths, scores, expected = zip(*golden["values"], strict=True)
    objective = CosineLengthConfig(of="constraints", max_tokens=golden["max_tokens"]).build()
    group = Group((), tuple(Completion("", tokens) for tokens in lengths))
    outcome = objective.combine(group, {"constraints": Scored(tuple(map(Score, scores)))}, [False] * len(lengths))
    assert outcome.rewards == pytest.approx(expected, abs=1e-4)
    assert outcome.metrics == {"good": 6 / 9, "too_long": 2 / 9}
    assert objective.settle(outcome, ()) is outcome


def test_a_completion_without_a_score_has_no_reward() -> None:
    objective = CosineLengthConfig(of="constraints", max_tokens=10, threshold=0.5).build()
    group = Group((), (Completion("", 5), Completion("", 5), Completion("", 20)))
    scored = {"constraints": Scored((Score.unscored("no data"), Score(0.5), Score.unscored("no data")))}
    # Half way c = 1/2, so that 2 * 0.5 * c = 1/2.
    assert objective.combine(group, scored, [True, False, True]).rewards == (None, pytest.approx(0.5), None)
