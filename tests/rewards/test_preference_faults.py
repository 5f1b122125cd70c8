"""Comparisons asked of a server that fails in every way (Think-RM's acceptance T19)."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from rlrules.judges import Judge
from rlrules.rewards.base import Resources
from rlrules.rewards.engine import RewardEngine, ScoredGroup
from rlrules.rewards.objective_pairwise import PairwiseConfig
from rlrules.rewards.preference import PreferenceConfig
from rlrules.types import Completion, Group
from tests.fakes.openai_server import FakeServer, Faults, Reply, Request, by_shorter, compared
from tests.judges.asking import served_judge

LENGTHS = (10, 40, 20, 30)


def groups(count: int, lengths: tuple[int, ...] = LENGTHS) -> list[Group]:
    """Groups whose completions differ in length, in an order that differs from group to group."""
    made: list[Group] = []
    for number in range(count):
        turned = lengths[number % len(lengths) :] + lengths[: number % len(lengths)]
        texts = [f"{number} " + "x" * length for length in turned]
        prompt = ({"role": "user", "content": f"Question {number}?"},)
        made.append(Group(prompt, tuple(Completion(text, 5) for text in texts)))  # type: ignore[arg-type]
    return made


def run(judge: Judge, batch: list[Group], **fields: object) -> list[ScoredGroup]:
    scorer = PreferenceConfig.model_validate({"judge": "verifier", **fields}).build(Resources({"verifier": judge}))
    engine = RewardEngine({"pref": scorer}, PairwiseConfig(weights={"pref": 1}).build(), ["pref"], 120)
    return engine.score(batch)


def expected(group: Group) -> list[float]:
    """Advantages where the shorter one always wins: places 1.5 to -1.5, over 4 and the root of a half."""
    lengths = [len(one.text) for one in group.completions]
    place = np.argsort(np.argsort(lengths))
    return [float(value) for value in (1.5 - place) / 2 / np.sqrt(0.5)]


def test_3072_comparisons_keep_their_identity_out_of_order() -> None:
    seen: Counter[tuple[str, str]] = Counter()
    lock = threading.Lock()

    def answer(request: Request) -> Reply:
        with lock:
            seen[compared(request)] += 1
        return by_shorter(request)

    # Answers that take turns at random lengths of time come back in another order than asked.
    with FakeServer(answer, Faults(per_second=3000, latency_s=0.05)) as server:
        judge = served_judge(server.url, max_in_flight=128, timeout_s=60)
        batch = groups(512)
        made = run(judge, batch, order="fixed")
    assert server.counts["answered"] == 3072 and set(seen.values()) == {1} and len(seen) == 3072
    assert 64 <= server.busiest <= 128
    for group in made:
        assert group.outcome.rewards == pytest.approx(expected(group.group), abs=1e-12)


class Failing:
    """Answers as `by_shorter`, but fails on the comparisons and attempts that it is told to fail on."""

    def __init__(self, fails: Callable[[tuple[str, str], int], Reply | None]) -> None:
        self.fails = fails
        self.attempts: Counter[tuple[str, str]] = Counter()

    def __call__(self, request: Request) -> Reply:
        shown = compared(request)
        self.attempts[shown] += 1
        failure = self.fails(shown, self.attempts[shown])
        return by_shorter(request) if failure is None else failure


def hang_or_break(numbers: dict[int, str]) -> Callable[[tuple[str, str], int], Reply | None]:
    """Garbled answers for one comparison of each group named, for its first attempt, or for "ever"."""

    def fails(shown: tuple[str, str], attempt: int) -> Reply | None:
        how = numbers.get(int(shown[0].split()[0]))
        named = len(shown[0]) < 15 and len(shown[1]) < 25  # The shortest as A, the second shortest as B.
        return b"{" if named and how and (attempt == 1 or how == "ever") else None

    return fails


def test_one_error_and_one_deadline_are_retried_alone() -> None:
    # Of this seed's first 50 draws one is a status 500, and one hangs until the client's deadline.
    faults = Faults(seed=3, error_share=0.02, hang_share=0.02)
    with FakeServer(by_shorter, faults) as server:
        judge = served_judge(server.url, timeout_s=3)  # Long enough for a loaded machine's own delays.
        made = run(judge, groups(4))
    assert (server.counts["error"], server.counts["hang"], server.counts["requests"]) == (1, 1, 50)
    assert judge.usage.retried == 2 and judge.usage.failed == 0
    for group in made:
        assert group.outcome.rewards == pytest.approx(expected(group.group), abs=1e-12)


def test_a_comparison_that_always_fails_is_a_missing_edge() -> None:
    failing = Failing(hang_or_break({0: "ever", 1: "once"}))
    with FakeServer(failing) as server:
        judge = served_judge(server.url, retries=2, timeout_s=5)
        made = run(judge, groups(3), order="both")
    # Nothing but the failing one is asked again.
    assert Counter(failing.attempts.values()) == {1: 34, 2: 1, 3: 1}
    assert judge.usage.failed == 1
    first, *others = made
    scored = first.scored["pref"]
    assert scored.comparisons is not None
    missing = np.isnan(scored.comparisons.strengths)
    assert missing.sum() == 2 and missing[0, 2] and missing[2, 0]
    # By hand: 4 b_1 = -3 and 4 b_3 = -1, who are compared with all, and the two others stand alike.
    assert [one.value for one in scored.scores] == pytest.approx([0.5, -0.75, 0.5, -0.25], abs=1e-12)
    assert sum(reward for reward in first.outcome.rewards if reward is not None) == pytest.approx(0, abs=1e-12)
    assert not any(first.blanked)
    for group in others:
        assert group.outcome.rewards == pytest.approx(expected(group.group), abs=1e-12)


def test_a_judge_that_dies_in_the_middle_of_a_group() -> None:
    answered = threading.Semaphore(5)

    def answer(request: Request) -> Reply:
        # After five answers nothing but cut-off bodies comes any more.
        return by_shorter(request) if answered.acquire(blocking=False) else b"{"

    with FakeServer(answer) as server:
        judge = served_judge(server.url, retries=1, timeout_s=5, max_in_flight=1)
        [made] = run(judge, groups(1), order="fixed")
    scored = made.scored["pref"]
    assert scored.metrics["failed"] == pytest.approx(1 / 6)
    assert all(score.status == "ok" for score in scored.scores)

    with FakeServer(by_shorter) as server:
        url = server.url
    judge = served_judge(url, retries=0, timeout_s=0.5)
    [made] = run(judge, groups(1))
    assert made.outcome.rewards == (None,) * 4 and all(made.blanked)
    assert "12 of 12 comparisons missing; judge verifier: no endpoint answers" in made.reasons(0)["pref"]


def test_a_judge_killed_in_the_middle_leaves_what_it_said() -> None:
    server = FakeServer(by_shorter, Faults(per_second=40))
    server.__enter__()
    judge = served_judge(server.url, retries=0, timeout_s=3, max_in_flight=2)
    batch = groups(8)

    async def kill_half_way() -> list[ScoredGroup]:
        scorer = PreferenceConfig(judge="verifier").build(Resources({"verifier": judge}))
        engine = RewardEngine({"pref": scorer}, PairwiseConfig(weights={"pref": 1}).build(), ["pref"], 60)
        work = asyncio.create_task(engine.score_async(batch))
        while server.counts["answered"] < 30:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.__exit__)
        return await work

    made = asyncio.run(kill_half_way())
    # The groups that it had judged are as good as ever, those it never saw have nothing, and none has a made-up number.
    whole, partly, none = 0, 0, 0
    for group in made:
        known = [reward for reward in group.outcome.rewards if reward is not None]
        if group.scored["pref"].metrics["failed"] == 0:
            whole += 1
            assert group.outcome.rewards == pytest.approx(expected(group.group), abs=1e-12)
        elif known:
            partly += 1
            assert sum(known) == pytest.approx(0, abs=1e-12)
        else:
            none += 1
            assert all(group.blanked)
    assert whole >= 2 and none >= 4 and whole + partly + none == 8
