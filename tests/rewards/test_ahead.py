"""Scoring beside generation: the same scores, begun earlier; nothing wrong is kept, nothing is left running."""

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import TrainingError
from rlrules.judges import Question
from rlrules.recipe.build import build_rewards
from rlrules.recipe.load import load_recipe
from rlrules.rewards import engine as engine_module
from rlrules.rewards.ahead import Ahead
from rlrules.rewards.base import Context, PointwiseScorer, Resources
from rlrules.rewards.engine import RewardEngine, ScoredGroup
from rlrules.rewards.objective import WeightedSumConfig
from rlrules.rewards.objective_trust import TrustConfig
from rlrules.rewards.reward_model import RewardModelConfig
from rlrules.rewards.rules import RulesConfig
from rlrules.types import Completion, Group, Progress, Score, Scored
from tests.fakes.judge import scripted_judge
from tests.fakes.watched import Watched, tasks_left, wait_for


class Best:
    """A group scorer; tells which groups it was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def score(self, group: Group) -> Scored:
        self.asked.append(str(group.row["name"]))
        most = max(completion.tokens for completion in group.completions)
        return Scored(tuple(Score(float(one.tokens == most)) for one in group.completions), metrics={"most": most})


class Uneven(PointwiseScorer):
    """Fails, hangs, finds no form or scores, by the completion's number."""

    async def score_one(self, context: Context, completion: Completion) -> Score:
        if completion.tokens % 4 == 1:
            raise ValueError(f"no {completion.text}")
        if completion.tokens % 4 == 2:
            return Score(-1.0, "malformed", "no form")
        await asyncio.sleep(0.001 * (completion.tokens % 7))
        return Score(float(completion.tokens) * context.progress.step, metrics={"tokens": completion.tokens})


class Hanging(PointwiseScorer):
    async def score_one(self, context: Context, completion: Completion) -> Score:
        if completion.tokens == 5:
            await asyncio.sleep(60)
        return Score(1.0)


class Miscounting:
    async def score(self, group: Group) -> Scored:
        if group.row["name"] == "0":
            raise RuntimeError("broken")
        return Scored((Score(1.0),) * (len(group.completions) + 1))


def groups(count: int = 4, size: int = 4) -> list[Group]:
    return [
        Group(
            ({"role": "user", "content": f"question {number}"},),
            tuple(Completion(f"text {number * size + n}", number * size + n) for n in range(size)),
            {"name": str(number)},
            Progress(3, 10),
        )
        for number in range(count)
    ]


def engine(scorers: dict[str, Any], deadline: float = 10.0, **changes: Any) -> RewardEngine:
    objective = WeightedSumConfig(weights=dict.fromkeys(scorers, 1.0)).build()
    return RewardEngine(scorers, changes.pop("objective", objective), changes.pop("required", []), deadline, **changes)


def ahead_of(made: RewardEngine, all_groups: list[Group]) -> Ahead:
    return Ahead(made, [(Context.of(group), len(group.completions)) for group in all_groups])


def feed(ahead: Ahead, all_groups: list[Group], seed: int = 0) -> None:
    completions = list(enumerate(completion for group in all_groups for completion in group.completions))
    random.Random(seed).shuffle(completions)
    for row, completion in completions:
        ahead.finished(row, completion)


def told(scored: list[ScoredGroup]) -> list[Any]:
    return [(one.group, dict(one.scored), one.outcome, one.blanked) for one in scored]


@pytest.mark.parametrize(("seed", "required"), [(0, []), (1, ["uneven"]), (2, ["hanging", "miscounting"])])
def test_fed_one_by_one_it_is_what_all_at_once_is(seed: int, required: list[str]) -> None:
    scorers = {"uneven": Uneven(), "best": Best(), "hanging": Hanging(), "miscounting": Miscounting()}
    made = engine(scorers, 0.3, required=required)
    expected = told(made.score(groups()))
    ahead = ahead_of(made, groups())
    feed(ahead, groups(), seed)
    ahead.generated(groups())
    assert told(ahead.collect(groups())) == expected
    assert ahead.rescored == 0
    reasons = {score.reason for _, scored, *_ in expected for one in scored.values() for score in one.scores}
    assert reasons >= {
        "",
        "ValueError: no text 5",
        "no form",
        "RuntimeError: broken",
        "reward miscounting: 5 scores for 4 completions",
        "reward hanging: no score within 0.3 s",
    }


def test_a_completion_is_scored_while_others_are_still_to_come_and_a_group_when_it_is_complete() -> None:
    watched, best = Watched(), Best()
    all_groups = groups(2)
    ahead = ahead_of(engine({"watched": watched, "best": best}), all_groups)
    ahead.finished(6, all_groups[1].completions[2])
    wait_for(lambda: watched.asked == ["text 6"])
    for row in (4, 7, 5):
        ahead.finished(row, all_groups[1].completions[row - 4])
    wait_for(lambda: len(watched.asked) == 4 and best.asked == ["1"])
    watched.go.set()
    ahead.generated(all_groups)
    # Before anybody waits for the scores.
    wait_for(lambda: best.asked == ["1", "0"])
    assert len(ahead.collect(all_groups)) == 2 and len(watched.asked) == 8
    assert ahead.overlapped_s > 0


def arriving(made: RewardEngine, all_groups: list[Group], questions: list[Question]) -> list[ScoredGroup]:
    """Scores of completions of which each comes once the one before it has been judged by two rules."""
    ahead = ahead_of(made, all_groups)
    for number, group in enumerate(all_groups):
        for index, completion in enumerate(group.completions):
            ahead.finished(5 * number + index, completion)
            known = 2 * (4 * number + min(index + 1, 4))
            wait_for(lambda known=known: len(questions) == known)
    return ahead.collect(all_groups)


def test_a_judge_is_asked_the_same_questions(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(
        '{"rules": [{"id": "a", "text": "is good"}, {"id": "b", "text": "is not bad"}]}'
    )
    # Equals come twice, and late: without a cache they must not be asked about again.
    all_groups = [Group(one.prompt, (*one.completions, one.completions[0]), one.row, one.progress) for one in groups()]
    questions: list[list[str]] = []
    for early in (False, True):
        judge, backend = scripted_judge(lambda question: "Yes" if "text 3" in str(question.messages) else "No")
        config = RulesConfig(judge="verifier", rules=str(tmp_path / "rules.json"))
        made = engine({"rules": config.build(Resources({"verifier": judge}))})
        scored = arriving(made, all_groups, backend.questions) if early else made.score(all_groups)
        assert [one.outcome.rewards for one in scored] == [(0, 0, 0, 1, 0), *[(0,) * 5] * 3]
        questions.append(sorted(str(question) for question in backend.questions))
    assert questions[0] == questions[1] and len(questions[0]) == 32


@pytest.mark.parametrize("outcomes", [(1.0, 1.0), (1.0, 0.0)])
def test_what_an_objective_spares_is_not_asked_ahead_either(outcomes: tuple[float, float]) -> None:
    thinking = Watched()
    thinking.go.set()
    objective = TrustConfig(outcome="right", thinking="thought").build()
    made = engine({"thought": thinking, "right": ByText(outcomes)}, objective=objective, required=["right"])
    [group] = groups(1, 2)
    expected = told(made.score([group]))
    asked_before, thinking.asked = sorted(thinking.asked), []
    ahead = ahead_of(made, [group])
    feed(ahead, [group])
    ahead.generated([group])
    assert told(ahead.collect([group])) == expected
    assert sorted(thinking.asked) == asked_before == ([] if outcomes == (1.0, 1.0) else ["text 0", "text 1"])


def test_what_was_told_wrongly_is_scored_afresh() -> None:
    watched, best = Watched(), Best()
    watched.go.set()
    made = engine({"watched": watched, "best": best})
    ahead = ahead_of(made, groups())
    all_groups = groups()
    for row in range(4):
        ahead.finished(row, Completion("cut", 1))
    ahead.finished(4, Completion("text 4", 4, truncated=True))
    ahead.finished(8, all_groups[2].completions[0])
    wait_for(lambda: len(watched.asked) == 3)  # Of four equals one is scored.
    ahead.generated(all_groups)
    # Told too late.
    ahead.finished(15, Completion("late", 1))
    # Another row than was announced, in the end.
    all_groups[3] = Group(all_groups[3].prompt, all_groups[3].completions, {"name": "other"}, all_groups[3].progress)
    scored = ahead.collect(all_groups)
    assert ahead.rescored == 3
    assert told(scored) == told(made.score(all_groups))
    assert [one.details["said"] for group in scored for one in group.scored["watched"].scores] == [
        f"text {number}" for number in range(16)
    ]
    assert "other" in best.asked and "late" not in watched.asked


@pytest.mark.parametrize("complete", [False, True])
def test_giving_up_ends_what_was_begun(complete: bool) -> None:
    watched = Watched()
    all_groups = groups(2)
    ahead = ahead_of(engine({"watched": watched, "best": Best()}), all_groups)
    for row in range(8 if complete else 3):
        ahead.finished(row, all_groups[row // 4].completions[row % 4])
    count = 8 if complete else 3
    wait_for(lambda: len(watched.asked) == count)
    ahead.cancel()
    wait_for(lambda: len(watched.cancelled) == count)
    # A generator that notices late.
    ahead.finished(5, all_groups[1].completions[1])
    assert tasks_left() == 0 and len(watched.asked) == count


def test_the_deadline_begins_when_all_completions_are_there() -> None:
    watched = Watched()
    all_groups = groups(1)
    ahead = ahead_of(engine({"watched": watched}, 0.3), all_groups)
    ahead.finished(0, all_groups[0].completions[0])
    wait_for(lambda: len(watched.asked) == 1)
    time.sleep(0.5)
    assert not watched.cancelled
    ahead.generated(all_groups)
    [scored] = ahead.collect(all_groups)
    assert scored.reasons(0) == {"watched": "reward watched: no score within 0.3 s"}
    assert len(watched.cancelled) == 4


def test_a_scorer_that_blocks_the_loop_stops_the_run_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "GRACE_S", 0.1)
    ahead = ahead_of(engine({"blocking": Blocking()}, 0.1), groups(1))
    feed(ahead, groups(1))
    ahead.generated(groups(1))
    with pytest.raises(TrainingError, match=r"0.1 s after its deadline of 0.1 s: a scorer blocks the event loop"):
        ahead.collect(groups(1))
    assert tasks_left() == 0


def test_what_computes_in_this_process_waits_until_it_is_waited_for() -> None:
    here, elsewhere, best = Watched(), Watched(), Best()
    elsewhere.go.set()
    scorers = {"here": here, "elsewhere": elsewhere, "best": best}
    made = engine(scorers, in_process=["here", "best"])
    ahead = ahead_of(made, groups(1))
    feed(ahead, groups(1))
    ahead.generated(groups(1))
    wait_for(lambda: len(elsewhere.asked) == 4)
    time.sleep(0.05)
    assert not here.asked and not best.asked
    here.go.set()
    assert told(ahead.collect(groups(1))) == told(made.score(groups(1)))


def test_which_rewards_compute_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"rules": [{"id": "a", "text": "is good"}]}')
    server = {"type": "openai", "urls": ["http://127.0.0.1:9/v1"], "model": "m"}
    rules = {"type": "rules", "rules": str(tmp_path / "rules.json")}
    sections = {
        "judges": {"near": {"type": "local", "model": "m"}, "far": server},
        "rewards": {
            "near": {**rules, "judge": "near"},
            "far": {**rules, "judge": "far"},
            "length": {"type": "length"},
        },
        "objective": {"type": "weighted_sum", "weights": {"near": 1, "far": 1, "length": 1}},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(sections))
    assert build_rewards(load_recipe(tmp_path / "r.yaml")).engine._in_process == {"near"}
    assert RewardModelConfig(model="m").in_process
    assert not RewardModelConfig(model="m", urls=["http://127.0.0.1:9/v1"]).in_process


class ByText(PointwiseScorer):
    def __init__(self, values: tuple[float, ...]) -> None:
        self.values = values

    async def score_one(self, context: Context, completion: Completion) -> Score:
        return Score(self.values[int(completion.text.split()[1])])


class Blocking(PointwiseScorer):
    async def score_one(self, context: Context, completion: Completion) -> Score:
        time.sleep(0.3)
        return Score(1.0)
