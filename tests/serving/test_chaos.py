"""What servers meet: nothing is scored wrongly, nothing hangs, and counts in are counts out."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from rlrules.cli import app as cli
from tests.fakes.openai_server import FakeServer, Faults, by_marker
from tests.serving.shared import ROOT, application, group, judged, metric, process, rewards_of, running, serving

GROUPS, SIZE = 24, 4


def texts(number: int) -> list[str]:
    """Of SIZE answers every second one is good, all of them different."""
    return [f"{'good' if index % 2 else 'bad'} answer {number}-{index}" for index in range(SIZE)]


RIGHT = [0.0, 1.0] * (SIZE // 2)


async def load(
    url: str, groups: int = GROUPS, at: dict[int, Callable[[], object]] | None = None, concurrency: int = 16
) -> list[Any]:
    """Post groups, so many at a time; when so many answers are in, something happens. A result per group, in order."""
    done, bound = 0, asyncio.Semaphore(concurrency)
    async with httpx2.AsyncClient(timeout=30, limits=httpx2.Limits(max_connections=None)) as client:

        async def send(number: int) -> Any:
            nonlocal done
            async with bound:
                body = {"groups": [group(f"prompt {number}", *texts(number))]}
                try:
                    return await client.post(url + "/v1/score", json=body, headers={"x-deadline-s": "20"})
                except httpx2.HTTPError as error:
                    return error
                finally:
                    done += 1
                    if at and done in at:
                        await asyncio.to_thread(at[done])

        return list(await asyncio.gather(*(send(number) for number in range(groups))))


def settle(replies: list[Any]) -> Counter[str]:
    """Hold every answer to what is right; counts completions by what came of them."""
    counts: Counter[str] = Counter()
    for reply in replies:
        if not isinstance(reply, httpx2.Response) or reply.status_code != 200:
            counts["refused"] += SIZE
            continue
        [rewards] = rewards_of(reply)
        assert len(rewards) == SIZE
        for reward, right, made in zip(rewards, RIGHT, reply.json()["groups"][0]["completions"], strict=True):
            assert reward in (right, None)
            assert reward is not None or made["scores"]["rules"]["reason"]
            counts["unscored" if reward is None else "scored"] += 1
    assert counts.total() == SIZE * len(replies)
    return counts


@contextmanager
def judge(port: int = 0) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    command = [sys.executable, str(ROOT / "tests/fakes/openai_server.py"), "--port", str(port), "--yes-if", "good"]
    with subprocess.Popen([*command, "--latency-s", "0.01"], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        try:
            yield started.stdout.readline().strip(), started
        finally:
            started.kill()


def test_a_judge_that_is_killed_and_comes_back_under_load(tmp_path: Path) -> None:
    with ExitStack() as stack:
        url, victim = stack.enter_context(judge())
        port = int(url.rpartition(":")[2].partition("/")[0])

        def outage() -> None:
            victim.kill()
            victim.wait()
            time.sleep(0.7)
            assert stack.enter_context(judge(port))[0] == url

        with serving(tmp_path, judged(tmp_path, url), "judges.v.timeout_s=10") as server:
            counts = settle(asyncio.run(load(server, at={GROUPS // 4: outage})))
            text = httpx2.get(server + "/metrics").text
        assert httpx2.get(url.removesuffix("/v1") + "/counts").json()["answered"] > 0
    assert counts["refused"] == 0 and counts["scored"] == GROUPS * SIZE, "an outage costs time, not scores"
    assert metric(text, "rlrules_completions_total") == GROUPS * SIZE


def test_a_judge_that_does_not_come_back(tmp_path: Path) -> None:
    with judge() as (url, victim):
        recipe = judged(tmp_path, url)
        with serving(tmp_path, recipe, "judges.v.timeout_s=1", "judges.v.retries=1") as server:
            started = time.monotonic()
            counts = settle(asyncio.run(load(server, at={GROUPS // 2: victim.kill})))
            assert time.monotonic() - started < 20
    assert counts["refused"] == 0 and counts["scored"] >= GROUPS // 2 * SIZE and counts["unscored"] > 0


def test_everything_that_a_judge_can_do_wrong_at_once(tmp_path: Path) -> None:
    faults = Faults(seed=3, error_share=0.05, hang_share=0.02, malformed_share=0.03, drop_share=0.02)
    with (
        FakeServer(by_marker("good"), faults) as first,
        FakeServer(by_marker("good"), Faults(seed=4, error_share=0.1)) as second,
        serving(tmp_path, judged(tmp_path, first.url, second.url), "judges.v.timeout_s=1") as server,
    ):
        counts = settle(asyncio.run(load(server)))
    assert counts["refused"] == 0 and counts["scored"] > 0.9 * GROUPS * SIZE


def test_a_slow_judge_costs_the_deadline_and_no_more(tmp_path: Path) -> None:
    with (
        FakeServer(by_marker("good"), Faults(latency_s=5.0)) as slow,
        serving(tmp_path, judged(tmp_path, slow.url), "server.deadline_s=1") as server,
    ):
        replies = asyncio.run(load(server, 8))
        assert max(reply.elapsed.total_seconds() for reply in replies) < 1.5
        assert settle(replies) == {"unscored": 8 * SIZE}


def test_a_cache_that_is_damaged_while_it_is_used(tmp_path: Path) -> None:
    cache = tmp_path / "answers.sqlite"

    def damage() -> None:
        for file in (cache, cache.with_name(f"{cache.name}-wal")):
            file.write_bytes(b"\xff" * file.stat().st_size)

    with (
        FakeServer(by_marker("good")) as fake,
        serving(tmp_path, judged(tmp_path, fake.url, cache=str(cache))) as server,
    ):
        counts = settle(asyncio.run(load(server, at={GROUPS // 2: damage})))
        again = settle(asyncio.run(load(server)))
    assert counts == again == {"scored": GROUPS * SIZE}


def test_a_cache_that_is_no_database_is_told_before_anything_is_served(tmp_path: Path) -> None:
    cache = tmp_path / "answers.sqlite"
    cache.write_bytes(b"\xff" * 8192)
    (tmp_path / "r.yaml").write_text(judged(tmp_path, "http://127.0.0.1:9/v1", cache=str(cache)))
    result = CliRunner().invoke(cli, ["serve", str(tmp_path / "r.yaml")])
    assert result.exit_code == 2 and "move the file away" in result.output + (result.stderr or "")


def test_a_full_disk_costs_the_cache_and_no_score(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = None
    with FakeServer(by_marker("good")) as fake:
        app = application(tmp_path, judged(tmp_path, fake.url, cache=str(tmp_path / "answers.sqlite")))
        [verifier] = app.state.service.rewards.judges.values()
        verifier._cache._connection.execute("PRAGMA max_page_count = 8")  # As SQLite sees a full disk.
        with running(app) as server:
            counts = settle(asyncio.run(load(server)))
        assert "disk is full; going on without it" in caplog.text
        assert 0 < len(verifier._cache) < GROUPS * SIZE * 2
    assert counts == {"scored": GROUPS * SIZE}


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    real = time.time
    with (
        FakeServer(by_marker("good"), Faults(latency_s=0.02)) as fake,
        serving(tmp_path, judged(tmp_path, fake.url)) as url,
    ):
        jump = {10: lambda: monkeypatch.setattr(time, "time", lambda: real() + jump_s)}
        replies = asyncio.run(load(url, 30, at=jump))
        monkeypatch.setattr(time, "time", real)
    assert settle(replies) == {"scored": 30 * SIZE}
    assert max(reply.elapsed.total_seconds() for reply in replies) < 10


@pytest.mark.e2e
def test_sigterm_under_load_answers_whom_it_let_in(tmp_path: Path) -> None:
    with judge() as (url, _), process(tmp_path, judged(tmp_path, url)) as (server, started):
        replies = asyncio.run(load(server, 120, at={30: started.terminate}, concurrency=16))
        assert started.wait(15) == 0
    counts = settle(replies)
    assert counts["unscored"] == 0 and counts["scored"] >= 30 * SIZE and counts["refused"] > 0
    # Refused, and never cut off: a connection that is not made, or the word that the server is about to end.
    for reply in replies:
        if isinstance(reply, httpx2.Response):
            assert reply.status_code in (200, 503)
            assert reply.status_code == 200 or "about to end" in reply.json()["detail"]
        else:
            assert isinstance(reply, (httpx2.ConnectError, httpx2.RemoteProtocolError, httpx2.ReadError)), repr(reply)
