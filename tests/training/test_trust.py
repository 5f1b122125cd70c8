"""The running trust of a kind of question moves with what is trained on, and with nothing else."""

from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState

from rlrules.rewards.base import Context, PointwiseScorer
from rlrules.rewards.engine import RewardEngine
from rlrules.rewards.objective_trust import Trust, TrustConfig
from rlrules.training.scoring import Batch, BatchScorer
from rlrules.training.state import Stateful, read_states, restore_states, write_states
from rlrules.types import Completion, Progress, Score


class Told(PointwiseScorer):
    """The number in a completion's text, at a place."""

    def __init__(self, place: int) -> None:
        self.place = place

    async def score_one(self, context: Context, completion: Completion) -> Score:
        return Score(float(completion.text.split()[self.place]), details={"kind": "ocr"})


def scorer() -> tuple[BatchScorer, Trust]:
    objective = TrustConfig(outcome="outcome", thinking="thinking").build()
    engine = RewardEngine({"outcome": Told(0), "thinking": Told(1)}, objective, ["outcome"], 10)
    return BatchScorer(engine, {}, None, 0.0, "group"), objective


def score(scorer: BatchScorer, mode: str, logged: dict[str, list[float]] | None = None) -> None:
    PartialState()
    texts = ["1.0 0.2", "0.0 0.7", "1.0 0.9", "1.0 0.1"]
    batch = Batch([{"prompt": "?"}] * 4, texts, [[0]] * 4, 2, Progress(1, 10), mode, frozenset({0}))
    metrics = logged if logged is not None else {}
    scorer.score(batch, lambda name, value: metrics.setdefault(name, []).append(value))


def test_training_moves_it_and_evaluation_does_not() -> None:
    made, objective = scorer()
    fresh = objective.state()
    logged: dict[str, list[float]] = {}
    score(made, "eval", logged)
    assert objective.state() == fresh
    # One group of two is saturated: its number is there, and of gamma there is one.
    assert logged["objective/saturated"] == [0, 1] and len(logged["objective/gamma"]) == 1
    score(made, "train")
    moved: Any = objective.state()["gamma"]
    assert moved["ocr"] < 1 and all(value == 1 for kind, value in moved.items() if kind != "ocr")


def test_a_checkpoint_gives_it_back(tmp_path: Path) -> None:
    made, objective = scorer()
    score(made, "train")
    assert isinstance(objective, Stateful)
    write_states(tmp_path, {"objective": objective})
    _, other = scorer()
    restore_states(tmp_path, read_states(tmp_path), {"objective": other})
    assert other.state() == objective.state()
    score(made, "train")
    assert other.state() != objective.state()
    with pytest.raises(Exception, match="no running trust"):
        other.restore({})
