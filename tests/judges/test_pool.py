import asyncio
import random
import time
from contextlib import AsyncExitStack, suppress

import pytest

from rlrules.judges import JudgeFailure
from rlrules.judges import pool as pool_module
from rlrules.judges.pool import Endpoint, EndpointPool

A, B = "http://a/v1", "http://b/v1"
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def quick_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "FIRST_REST_S", 0.05)
    monkeypatch.setattr(pool_module, "LONGEST_REST_S", 0.2)


async def take(stack: AsyncExitStack, pool: EndpointPool, avoid: Endpoint | None = None) -> Endpoint:
    """A slot, kept until the stack is closed; a test that waits in vain fails."""
    return await asyncio.wait_for(stack.enter_async_context(pool.endpoint(avoid)), 5.0)


async def use(pool: EndpointPool, avoid: Endpoint | None = None) -> Endpoint:
    async with pool.endpoint(avoid) as endpoint:
        return endpoint


async def test_work_goes_to_the_least_busy_under_one_bound_each() -> None:
    pool = EndpointPool([A, B], 3, 10)
    async with AsyncExitStack() as stack:
        for _ in range(6):
            await take(stack, pool)
            assert abs(pool.endpoints[0].in_flight - pool.endpoints[1].in_flight) <= 1
        assert [endpoint.in_flight for endpoint in pool.endpoints] == [3, 3]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(use(pool), 0.05)
    assert [endpoint.in_flight for endpoint in pool.endpoints] == [0, 0]


async def test_waiters_are_served_in_order() -> None:
    pool = EndpointPool([A], 1, 10)
    order: list[int] = []

    async def work(number: int) -> None:
        async with pool.endpoint():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(50)))
    assert order == list(range(50))


async def test_a_retry_goes_elsewhere_and_back_only_when_nothing_else_is_up(quick_rests: None) -> None:
    pool = EndpointPool([A, B], 1, 10)
    a, b = pool.endpoints
    assert await use(pool, avoid=a) is b
    assert await use(EndpointPool([A], 1, 10)) is not None
    pool.unreachable(b, "gone")
    assert await use(pool, avoid=a) is a


async def test_a_waiter_that_avoids_the_free_endpoint_does_not_hold_up_those_behind_it() -> None:
    pool = EndpointPool([A, B], 1, 10)
    a, b = pool.endpoints
    async with AsyncExitStack() as on_b:
        async with AsyncExitStack() as on_a:
            assert {await take(on_a, pool), await take(on_b, pool)} == {a, b}
            avoiding = asyncio.create_task(use(pool, avoid=a))
            behind = asyncio.create_task(use(pool))
            await asyncio.sleep(0.01)
        assert await asyncio.wait_for(behind, 5.0) is a
        assert not avoiding.done()
    assert await asyncio.wait_for(avoiding, 5.0) is b


async def test_giving_up_while_waiting_or_at_the_moment_of_the_grant_loses_no_slot() -> None:
    pool = EndpointPool([A], 1, 10)
    async with AsyncExitStack() as stack:
        await take(stack, pool)
        waiting = [asyncio.create_task(use(pool)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    waiting[1].cancel()  # Its slot has just been granted; it has not run since.
    assert await asyncio.wait_for(waiting[2], 5.0) is pool.endpoints[0]
    assert pool.endpoints[0].in_flight == 0


async def test_an_outage_met_by_many_is_one_outage() -> None:
    pool = EndpointPool([A, B], 64, 10)
    a = pool.endpoints[0]
    for _ in range(2000):
        pool.unreachable(a, "reset")
    assert a.failures == 1
    assert a.rests_until - time.monotonic() <= pool_module.FIRST_REST_S


async def test_rests_grow_to_a_bound_however_often_probes_fail() -> None:
    pool = EndpointPool([A, B], 1, 10)
    a = pool.endpoints[0]
    rests = []
    for _ in range(2000):
        a.rests_until = 0.0
        pool.unreachable(a, "refused")
        rests.append(a.rests_until - time.monotonic())
    assert rests[:4] == pytest.approx([0.25, 0.5, 1.0, 2.0], abs=0.2)
    assert rests[-1] == pytest.approx(pool_module.LONGEST_REST_S, abs=0.2)


async def test_one_probe_at_a_time_and_its_success_lets_all_in(quick_rests: None) -> None:
    pool = EndpointPool([A], 10, 10)
    a = pool.endpoints[0]
    pool.unreachable(a, "refused")
    active = most = 0

    async def work() -> None:
        nonlocal active, most
        async with pool.endpoint() as endpoint:
            active += 1
            most = max(most, active if endpoint.failures else 1)
            await asyncio.sleep(0.01)
            pool.reached(endpoint)
            active -= 1

    started = time.monotonic()
    await asyncio.wait_for(asyncio.gather(*(work() for _ in range(40))), 10.0)
    assert most == 1
    assert time.monotonic() - started >= 0.045
    assert a.failures == 0


async def test_a_request_that_hangs_on_a_failing_endpoint_does_not_keep_it_from_being_probed(quick_rests: None) -> None:
    pool = EndpointPool([A], 10, 10)
    async with AsyncExitStack() as hanging:
        a = await take(hanging, pool)
        pool.unreachable(a, "reset")
        assert await asyncio.wait_for(use(pool), 5.0) is a


async def test_a_probe_without_a_word_is_followed_by_another(quick_rests: None) -> None:
    pool = EndpointPool([A], 10, 10)
    pool.unreachable(pool.endpoints[0], "refused")
    for _ in range(3):  # Cancelled, or timed out: neither reached nor unreachable is noted.
        assert await asyncio.wait_for(use(pool), 5.0) is pool.endpoints[0]


async def test_when_all_are_down_waiters_fail_after_the_patience_with_every_url(quick_rests: None) -> None:
    pool = EndpointPool([A, B], 10, 0.5)

    async def refused() -> None:
        while True:
            async with pool.endpoint() as endpoint:
                pool.unreachable(endpoint, "refused")

    started = time.monotonic()
    failures = await asyncio.wait_for(asyncio.gather(*(refused() for _ in range(30)), return_exceptions=True), 10.0)
    assert 0.45 <= time.monotonic() - started <= 5.0
    assert {type(failure) for failure in failures} == {JudgeFailure}
    assert f"{A}: refused" in str(failures[0]) and f"{B}: refused" in str(failures[0])
    pool.endpoints[0].rests_until = pool.endpoints[1].rests_until = time.monotonic() + 60
    with pytest.raises(JudgeFailure):
        await asyncio.wait_for(use(pool), 0.05)


async def test_an_endpoint_that_comes_back_long_after_the_patience_is_found(quick_rests: None) -> None:
    pool = EndpointPool([A], 10, 0.1)
    pool.unreachable(pool.endpoints[0], "refused")
    with suppress(JudgeFailure):
        async with pool.endpoint() as endpoint:
            pool.unreachable(endpoint, "refused")
    await asyncio.sleep(0.3)
    async with pool.endpoint() as endpoint:
        pool.reached(endpoint)
    assert pool.endpoints[0].failures == 0


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_nobody_waits_for_ever_and_no_slot_is_lost(quick_rests: None, seed: int) -> None:
    draw = random.Random(seed)
    pool = EndpointPool([A, B, "http://c/v1"], 4, 0.3)
    busiest = 0

    async def work() -> str:
        nonlocal busiest
        avoid: Endpoint | None = None
        for _ in range(3):
            async with pool.endpoint(avoid) as endpoint:
                busiest = max(busiest, *(one.in_flight for one in pool.endpoints if not one.failures), 0)
                await asyncio.sleep(draw.random() * 0.01)
                fate = draw.random()
                if fate < 0.3:
                    pool.unreachable(endpoint, "reset")
                    avoid = endpoint
                    continue
                if fate < 0.9:
                    pool.reached(endpoint)
                return "done"
        return "tired"

    async def impatient(task: "asyncio.Task[str]") -> None:
        await asyncio.sleep(draw.random() * 0.1)
        task.cancel()

    tasks = [asyncio.create_task(work()) for _ in range(200)]
    given_up = [asyncio.create_task(impatient(task)) for task in tasks[::5]]
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10.0)
    await asyncio.gather(*given_up)
    kinds = {end if isinstance(end, str) else type(end).__name__ for end in ends}
    assert "done" in kinds and kinds <= {"done", "tired", "CancelledError", "JudgeFailure"}
    assert [endpoint.in_flight for endpoint in pool.endpoints] == [0, 0, 0]
    assert busiest <= 4
