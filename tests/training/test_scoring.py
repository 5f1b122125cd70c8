"""A rank's batch: folded, scored, logged; failures that stop the run."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlrules.errors import TrainingError
from rlrules.recipe.sampling import DomainAwareConfig
from rlrules.rewards.base import Resources
from rlrules.rewards.engine import RewardEngine
from rlrules.rewards.length import LengthScorer
from rlrules.rewards.objective import WeightedSumConfig
from rlrules.rewards.objective_pairwise import PairwiseConfig
from rlrules.rewards.rules import RulesConfig
from rlrules.training.callbacks import complete_checkpoints
from rlrules.training.log import RunLog
from rlrules.training.sampling import DomainSampler
from rlrules.training.scoring import Batch, BatchScorer
from rlrules.types import Comparisons, Group, Progress, Score, Scored
from tests.fakes.judge import Reply, scripted_judge

END = 2


def batch(texts: list[str], size: int = 2) -> Batch:
    inputs = [{"prompt": [{"role": "user", "content": f"q{n // size}"}], "note": n // size} for n in range(len(texts))]
    ids = [[5] * len(text) + ([END] if not text.endswith("…") else []) for text in texts]
    return Batch(inputs, texts, ids, size, Progress(3, 10), "train", frozenset((END,)))


def scorer(tmp_path: Path, engine: RewardEngine, judges: dict | None = None, allowed: float = 0.05) -> BatchScorer:  # type: ignore[type-arg]
    return BatchScorer(engine, judges or {}, RunLog(tmp_path), allowed, "group")


def length_engine() -> RewardEngine:
    return RewardEngine({"length": LengthScorer(0, 1)}, WeightedSumConfig(weights={"length": 1}).build(), ["length"], 9)


def test_rows_become_groups_with_their_columns() -> None:
    groups = batch(["ab", "abc…", "a", "abcd"]).groups()
    assert [group.row for group in groups] == [{"note": 0}, {"note": 1}]
    assert [group.prompt[0]["content"] for group in groups] == ["q0", "q1"]
    assert [[c.tokens for c in group.completions] for group in groups] == [[3, 4], [2, 5]]
    assert [c.truncated for c in groups[0].completions] == [False, True]
    assert groups[0].progress == Progress(3, 10)


def test_everything_is_logged(tmp_path: Path) -> None:
    metrics: dict[str, list[float]] = {}
    made = scorer(tmp_path, length_engine()).score(
        batch(["ab", "abc", "a", "a"]), lambda name, value: metrics.setdefault(name, []).append(value)
    )
    assert made == [-3.0, -4.0, -2.0, -2.0]
    logged = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    assert [line["reward"] for line in logged] == made
    assert [line["group"] for line in logged] == ["train-3-0-0", "train-3-0-0", "train-3-0-1", "train-3-0-1"]
    assert logged[0]["advantage"] == pytest.approx(0.70709, abs=1e-4)
    assert logged[0]["note"] == 0 and logged[0]["scores"] == {"length": -3.0}
    assert metrics["rewards/length/value"] == made
    assert metrics["unscored"] == [0.0] * 4
    assert len(metrics["time/scoring_s"]) == 1


def test_only_training_teaches_the_sampler(tmp_path: Path) -> None:
    sampler = DomainSampler(DomainAwareConfig(column="note", signal="length"), [{"note": 0}, {"note": 1}], 2, 0)
    scoring = BatchScorer(length_engine(), {}, RunLog(tmp_path), 0.05, "group", sampler)
    training = batch(["ab", "abc", "a", "a"])
    metrics: dict[str, float] = {}
    scoring.score(replace(training, mode="eval"), metrics.__setitem__)
    assert sampler.state()["rule"] == {"smoothed": [0.0, 0.0]}
    # TRL puts eval_ before what is logged of held-out prompts.
    assert {name: metrics.pop(name) for name in list(metrics) if name.startswith("domains/")} == {
        "domains/0/reward": -4.0,
        "domains/0/malformed": 0.0,
        "domains/1/reward": -2.0,
        "domains/1/malformed": 0.0,
    }
    scoring.score(training, metrics.__setitem__)
    assert sampler.state()["rule"] == {"smoothed": [-1.75, -1.0]}
    assert (metrics["domains/0/reward"], metrics["domains/1/reward"]) == (-3.5, -2.0)


def rules_scorer(tmp_path: Path, reply: object, allowed: float) -> tuple[BatchScorer, object]:
    (tmp_path / "rules.json").write_text('{"rules": [{"id": "a", "text": "is good"}]}')
    judge, backend = scripted_judge(reply)  # type: ignore[arg-type]
    rules = RulesConfig(judge="verifier", rules=str(tmp_path / "rules.json")).build(Resources({"verifier": judge}))
    objective = WeightedSumConfig(weights={"rules": 1}).build()
    engine = RewardEngine({"rules": rules}, objective, ["rules"], 9)
    return scorer(tmp_path, engine, {"verifier": judge}, allowed), backend


def test_a_judge_that_dies_stops_the_run_and_is_named(tmp_path: Path) -> None:
    from rlrules.judges import JudgeFailure

    def reply(question: object) -> Reply:
        return JudgeFailure("connection", "http://judge:8000/v1: connection refused")

    failing, _ = rules_scorer(tmp_path, reply, 0.05)
    with pytest.raises(TrainingError) as error:
        failing.score(batch(["ab", "abc"]), lambda name, value: None)
    message = str(error.value)
    assert message.startswith("100.0% of this batch has no required score, objective.max_unscored is 5.0%")
    assert "judge verifier" in message and "http://judge:8000/v1: connection refused" in message
    assert message.count("connection refused") <= 3


def test_what_is_allowed_to_be_unscored_is_blank_not_zero(tmp_path: Path) -> None:
    def reply(question: object) -> Reply:
        return "maybe" if "abcdef" in str(question) else "Yes"

    metrics: dict[str, list[float]] = {}
    allowing, _ = rules_scorer(tmp_path, reply, 0.5)
    made = allowing.score(
        batch(["ab", "abcdef", "x", "y"]), lambda name, value: metrics.setdefault(name, []).append(value)
    )
    assert made == [1.0, None, 1.0, 1.0]
    assert sum(metrics["unscored"]) == 1
    assert metrics["judge/verifier/calls"] == [4]
    assert sum(metrics["rewards/rules/verdicts_unparsed"]) == 1


def test_an_engine_that_fails_stops_all_ranks(tmp_path: Path) -> None:
    class Broken(RewardEngine):
        def score(self, groups: object) -> list:  # type: ignore[type-arg]
            raise MemoryError("no room")

    broken = Broken({}, WeightedSumConfig(weights={"a": 1}).build(), [], 9)
    with pytest.raises(TrainingError, match="scoring failed: MemoryError: no room"):
        scorer(tmp_path, broken).score(batch(["ab", "abc"]), lambda name, value: None)


def test_a_resumed_log_forgets_steps_that_will_happen_again(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "loss": 0.1}) for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "lo')
    for result in ("step-2", "step-3", "own"):
        (tmp_path / "eval/alpaca" / result).mkdir(parents=True)
    log = RunLog(tmp_path, resumed_at=2)
    log.metrics(3, {"loss": 0.2})
    assert sorted(path.name for path in (tmp_path / "eval/alpaca").iterdir()) == ["own", "step-2"]
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert kept == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.1}, {"step": 3, "loss": 0.2}]


def test_complete_checkpoints(tmp_path: Path) -> None:
    for step, complete in ((2, True), (10, True), (12, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if complete:
            (tmp_path / f"checkpoint-{step}" / "complete").touch()
    complete, broken = complete_checkpoints(tmp_path)
    assert [path.name for path in complete] == ["checkpoint-2", "checkpoint-10"]
    assert [path.name for path in broken] == ["checkpoint-12"]


def test_scoring_works_from_inside_another_event_loop() -> None:
    async def inside() -> list:  # type: ignore[type-arg]
        return await length_engine().score_async(batch(["ab", "abc"]).groups())

    [scored] = asyncio.run(inside())
    assert scored.outcome.rewards == (-3.0, -4.0)
    assert isinstance(scored.group, Group) and isinstance(scored.scored["length"], Scored)


def test_numbers_about_a_group_and_of_a_whole_batch(tmp_path: Path) -> None:
    objective = PairwiseConfig(weights={"pref": 1}, normalize="batch").build()
    engine = RewardEngine({"pref": ByLength()}, objective, ["pref"], 9)
    metrics: dict[str, list[float]] = {}
    scoring = BatchScorer(engine, {}, RunLog(tmp_path), 0.05, "none")
    made = scoring.score(
        batch(["a", "abcd", "a", "ab"]), lambda name, value: metrics.setdefault(name, []).append(value)
    )
    # Strengths of 3 and 1, so that half their mean square is 2.5.
    expected = [1.5 / 2.5**0.5, -1.5 / 2.5**0.5, 0.5 / 2.5**0.5, -0.5 / 2.5**0.5]
    assert made == pytest.approx(expected)
    assert metrics["rewards/pref/pairs"] == [1.0, 1.0]
    assert metrics["objective/den"] == pytest.approx([2.5**0.5] * 2)
    logged = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    assert [line["advantage"] for line in logged] == pytest.approx(expected)


class ByLength:
    """Prefers the shorter one, by as much as it is shorter."""

    async def score(self, group: Group) -> Scored:
        lengths = np.array([float(completion.tokens) for completion in group.completions])
        strengths = lengths[None, :] - lengths[:, None]
        return Scored(tuple(Score(-length) for length in lengths.tolist()), Comparisons(strengths), {"pairs": 1.0})
