"""Completions from fake servers that are slow, fail, or are started again: all, in order, of the current policy."""

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlrules.judges.base import JudgeFailure
from rlrules.judges.loop import submit
from rlrules.recipe.rollouts import RolloutsSection
from rlrules.training.rollout_servers import RolloutServers, Sampled, Version
from tests.fakes.policy_server import FakePolicyServer, completion

SYNCS = pytest.mark.parametrize("sync", ["lora", "full"])


def version(folder: Path, number: int, run: str = "run-") -> Version:
    """A version whose weights are `number`."""
    made = Version(f"{run}{number}", folder / f"{run}{number}")
    made.folder.mkdir(exist_ok=True)
    (made.folder / "weights").write_text(str(number))
    return made


def servers(*fakes: FakePolicyServer, run: str = "run-", **fields: Any) -> RolloutServers:
    section = {"urls": [fake.url for fake in fakes], "sync": fakes[0].sync, "timeout_s": 5.0, **fields}
    return RolloutServers(RolloutsSection.model_validate(section), run)


def completed(asked: RolloutServers, current: Version, rows: Sequence[int], finished: Any = None) -> list[Sampled]:
    """What comes for prompts of two tokens each."""

    return submit(asked.complete_all(current, [{"prompt": [row, 7]} for row in rows], finished)).result()


@SYNCS
def test_completions_come_in_the_order_of_their_prompts_and_are_told_as_they_come(sync: str, tmp_path: Path) -> None:
    told: list[tuple[int, list[int]]] = []
    others = threading.Event()

    def hear(row: int, ids: list[int]) -> None:
        told.append((row, ids))
        if len(told) == 39:
            others.set()

    def last(body: dict[str, Any]) -> float:
        # The first row is not computed before all others were told.
        return 0.0 if body["prompt"][0] or others.wait(5) else 5.0

    with FakePolicyServer(sync, last) as fake:
        sampled = completed(servers(fake), version(tmp_path, 1), range(40), hear)
    assert [one.ids for one in sampled] == [[1, row, 7] for row in range(40)]
    assert all(one.logprobs == [0.0, -0.5, -1.0] for one in sampled)
    assert sorted(told) == [(row, [1, row, 7]) for row in range(40)] and told[-1][0] == 0


@SYNCS
def test_every_version_answers_for_itself_and_leaves_nothing_of_the_last(sync: str, tmp_path: Path) -> None:
    with FakePolicyServer(sync) as fake:
        asked = servers(fake)
        for number in (1, 2, 3):
            sampled = completed(asked, version(tmp_path, number), range(6))
            assert [one.ids[0] for one in sampled] == [number] * 6
            assert fake.salts[-6:] == [f"run-{number}"] * 6
            assert set(fake.adapters) == ({f"run-{number}"} if sync == "lora" else set())
        assert (asked.loads, asked.usage.retried) == (3, 0)


@SYNCS
def test_work_is_shared_among_servers(sync: str, tmp_path: Path) -> None:
    with FakePolicyServer(sync, lambda _: 0.05) as one, FakePolicyServer(sync, lambda _: 0.05) as other:
        sampled = completed(servers(one, other, max_in_flight=4), version(tmp_path, 1), range(32))
        assert [value.ids for value in sampled] == [[1, row, 7] for row in range(32)]
        assert one.counts["answered"] + other.counts["answered"] == 32
        assert min(one.counts["answered"], other.counts["answered"]) >= 8


@SYNCS
def test_another_rank_finds_the_version_there(sync: str, tmp_path: Path) -> None:
    current = version(tmp_path, 1)
    with FakePolicyServer(sync) as fake:
        first, second = servers(fake), servers(fake)
        for asked in (first, second):
            assert [one.ids[0] for one in completed(asked, current, range(3))] == [1] * 3
        assert (first.loads, second.loads) == (1, 0)


@pytest.mark.parametrize(
    "fault",
    [
        (500, {"error": {"message": "out of luck"}}),
        "drop",
        (200, b'{"choices": [{"token_ids": [1'),
        (200, {"choices": []}),
        (200, completion([], [])),
        (200, completion([1, 2], [-0.1])),
        (200, completion([1], [float("nan")])),
        (200, completion([1], [-0.1], "abort")),
    ],
    ids=["status", "lost", "cut", "none", "empty", "unequal", "nan", "aborted"],
)
def test_what_is_no_completion_is_asked_for_again(fault: Any, tmp_path: Path) -> None:
    # Every third request fails: none of 9 more than thrice in a row.
    with FakePolicyServer("full", meddle=lambda _, number: fault if number % 3 == 0 else None) as fake:
        asked = servers(fake, retries=5)
        sampled = completed(asked, version(tmp_path, 1), range(9))
        assert [one.ids for one in sampled] == [[1, row, 7] for row in range(9)]
        # 9 that are answered, among which every third is not: 9 = n - n // 3 has n = 13.
        assert fake.counts["/v1/completions"] == 13 and asked.usage.retried == 4


@SYNCS
def test_a_server_that_hangs_is_not_waited_for_past_the_deadline(sync: str, tmp_path: Path) -> None:
    with FakePolicyServer(sync, meddle=lambda *_: "hang") as fake:
        started = time.monotonic()
        with pytest.raises(JudgeFailure, match=r"no answer within 0.3 s"):
            completed(servers(fake, timeout_s=0.3, retries=1), version(tmp_path, 1), range(4))
        assert time.monotonic() - started < 4


@SYNCS
def test_an_outage_of_all_is_waited_out_no_longer_than_said(sync: str, tmp_path: Path) -> None:
    with FakePolicyServer(sync) as fake:
        pass
    started = time.monotonic()
    with pytest.raises(JudgeFailure, match=r"no endpoint answers"):
        completed(servers(fake, timeout_s=0.5, retries=0), version(tmp_path, 1), range(4))
    assert time.monotonic() - started < 4


@SYNCS
def test_a_server_killed_and_started_again_gets_the_version_first(sync: str, tmp_path: Path) -> None:
    with FakePolicyServer(sync, lambda _: 0.02) as fake:

        def restart(row: int, _: list[int]) -> None:
            if row == 5:
                fake.kill()
                fake.start()

        asked = servers(fake, max_in_flight=2)
        sampled = completed(asked, version(tmp_path, 4), range(20), restart)
        assert [one.ids for one in sampled] == [[4, row, 7] for row in range(20)]
        assert asked.loads == 2


@SYNCS
def test_an_answer_by_a_server_that_lost_the_version_does_not_count(sync: str, tmp_path: Path) -> None:
    """It is asked as one that holds it, and has become another by the time it computes."""

    def lose(_: Any, number: int) -> None:
        if number in (3, 8):
            fake.forget()

    with FakePolicyServer(sync, meddle=lose) as fake:
        asked = servers(fake, max_in_flight=1)
        sampled = completed(asked, version(tmp_path, 4), range(10))
        assert [one.ids for one in sampled] == [[4, row, 7] for row in range(10)]
        assert asked.loads == 3


def test_an_answer_before_another_rank_mended_the_server_does_not_count(tmp_path: Path) -> None:
    """The version is the right one before and after, but not of the same process."""
    current = version(tmp_path, 4)

    def lose_and_mend(_: Any, number: int) -> Any:
        if number != 2:
            return None
        fake.forget()
        base = fake.answer("/v1/completions", {"model": "base", "prompt": [1, 7], "cache_salt": "x"})
        submit(servers(fake).complete(current, {"prompt": [9, 9]})).result()
        return base

    with FakePolicyServer("full", meddle=lose_and_mend) as fake:
        sampled = completed(servers(fake, max_in_flight=1), current, range(4))
        assert [one.ids for one in sampled] == [[4, row, 7] for row in range(4)]


@SYNCS
def test_while_one_server_is_down_the_other_does_the_work_and_it_comes_back_with_the_current_version(
    sync: str, tmp_path: Path
) -> None:
    with FakePolicyServer(sync) as one, FakePolicyServer(sync) as other:
        asked = servers(one, other, max_in_flight=2)

        async def two_rollouts() -> None:
            first = await asked.complete_all(version(tmp_path, 1), [{"prompt": [row]} for row in range(8)])
            one.kill()
            second = await asked.complete_all(version(tmp_path, 2), [{"prompt": [row]} for row in range(8)])
            one.start()
            await asyncio.sleep(1.2)
            third = await asked.complete_all(version(tmp_path, 3), [{"prompt": [row]} for row in range(8)])
            assert [[s.ids for s in part] for part in (first, second, third)] == [
                [[number, row] for row in range(8)] for number in (1, 2, 3)
            ]

        answered = one.counts["answered"]
        submit(two_rollouts()).result()
        assert one.counts["answered"] > answered + 1


@SYNCS
def test_a_folder_that_the_server_does_not_see_is_named(sync: str, tmp_path: Path) -> None:
    with (
        FakePolicyServer(sync) as fake,
        pytest.raises(JudgeFailure, match=f"{tmp_path}/elsewhere.*|.*{tmp_path}/elsewhere"),
    ):
        completed(servers(fake, retries=0), Version("run-1", tmp_path / "elsewhere"), range(2))


@SYNCS
def test_at_the_end_servers_are_what_they_were(sync: str, tmp_path: Path) -> None:
    with FakePolicyServer(sync) as fake:
        asked = servers(fake)
        completed(asked, version(tmp_path, 1), range(2))
        assert submit(asked.leave()).result() == []
        assert (fake.weights, fake.version, fake.adapters) == (0, "", {})


@SYNCS
def test_another_run_s_weights_stay(sync: str, tmp_path: Path) -> None:
    with FakePolicyServer(sync) as fake:
        ours, theirs = servers(fake), servers(fake, run="other-")
        completed(ours, version(tmp_path, 1), range(2))
        completed(theirs, version(tmp_path, 2, "other-"), range(2))
        assert submit(ours.leave()).result() == []
        assert fake.version == "other-2" if sync == "full" else set(fake.adapters) == {"other-2"}
    [line] = submit(_hasty(theirs)).result()
    assert line.startswith(f"{fake.url} may still hold weights of this run")


async def _hasty(asked: RolloutServers) -> list[str]:
    asked._section = asked._section.model_copy(update={"timeout_s": 0.2})
    return await asked.leave()
