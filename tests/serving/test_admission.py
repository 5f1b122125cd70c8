"""Who is let in, in what order, and how long it takes at most."""

import asyncio
import gc
import hmac
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from rlrules.serving import admission as admission_module
from rlrules.serving.admission import Admission, Full
from tests.serving.shared import FORM, application, group, metric, post, raw, rewards_of, running, serving, wait_until

SLOW = """\
rewards: {slow: {type: "tests.serving.scorers:SlowConfig", seconds: 0.3}}
objective: {type: weighted_sum, weights: {slow: 1}}
"""
NUMBER = {"groups": [group("a", "7")]}


async def at_once(url: str, count: int, body: object = NUMBER, headers: dict[str, str] | None = None) -> list[Any]:
    async with httpx2.AsyncClient(timeout=20, limits=httpx2.Limits(max_connections=None)) as client:
        posts: list[Awaitable[Any]] = [client.post(url + "/v1/score", json=body, headers=headers) for _ in range(count)]
        return list(await asyncio.gather(*posts))


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(tmp_path: Path) -> None:
    with serving(tmp_path, SLOW, "server.max_in_flight=2", "server.max_queue=3") as url:
        started = time.monotonic()
        replies = asyncio.run(at_once(url, 12))
        took = time.monotonic() - started
        statuses = [reply.status_code for reply in replies]
        assert statuses.count(200) == 5 and statuses.count(429) == 7
        assert all(rewards_of(reply) == [[7.0]] for reply in replies if reply.status_code == 200)
        refused = [reply for reply in replies if reply.status_code == 429]
        assert all(1 <= int(reply.headers["retry-after"]) <= 60 for reply in refused)
        assert max(reply.elapsed.total_seconds() for reply in refused) < 0.3 <= took
        text = httpx2.get(url + "/metrics").text
    assert metric(text, "rlrules_requests_total", status="429") == 7
    assert metric(text, "rlrules_completions_total") == 5


def test_turns_are_first_come_first_served_under_one_bound() -> None:
    async def drill() -> None:
        admission, order, busiest = Admission(3, 100), [], 0
        until = asyncio.get_running_loop().time() + 10

        async def work(number: int) -> None:
            nonlocal busiest
            async with admission.slot(until):
                busiest = max(busiest, admission.in_flight)
                order.append(number)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(work(number) for number in range(50)))
        assert order == list(range(50)) and busiest == 3
        assert admission.in_flight == admission.queued == 0

    asyncio.run(drill())


def test_giving_up_loses_no_turn() -> None:
    async def drill() -> None:
        admission = Admission(1, 2)
        clock = asyncio.get_running_loop().time
        async with admission.slot(clock() + 1):
            with pytest.raises(TimeoutError):
                async with admission.slot(clock() + 0.02):
                    raise AssertionError("there was no turn")
            waiting = [asyncio.create_task(_hold(admission, clock() + 5)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Full):
                await _hold(admission, clock() + 5)
            waiting[0].cancel()
            await asyncio.sleep(0)
        await asyncio.wait_for(waiting[1], 1)
        await asyncio.wait_for(_hold(admission, clock() + 1), 1)
        assert admission.in_flight == admission.queued == 0

    asyncio.run(drill())


async def _hold(admission: Admission, until: float) -> None:
    async with admission.slot(until):
        pass


def test_a_deadline_leaves_null_and_is_kept(tmp_path: Path) -> None:
    with serving(tmp_path, SLOW, "rewards.slow.seconds=30") as url:
        started = time.monotonic()
        reply = post(url, "/v1/score", NUMBER, {"x-deadline-s": "0.5"})
        assert time.monotonic() - started < 0.8
        assert rewards_of(reply) == [[None]]
        reason = reply.json()["groups"][0]["completions"][0]["scores"]["slow"]["reason"]
        assert reason.startswith("reward slow: no score within 0.4")
        single = post(url, "/score", {"prompt": "a", "response": "7"}, {"x-deadline-s": "0.3"})
        assert single.status_code == 503 and "no score within" in single.json()["detail"]


def test_the_servers_own_deadline_is_the_longest(tmp_path: Path) -> None:
    with serving(tmp_path, SLOW, "rewards.slow.seconds=30", "server.deadline_s=0.4") as url:
        for headers in ({}, {"x-deadline-s": "1000"}):
            started = time.monotonic()
            assert rewards_of(post(url, "/v1/score", NUMBER, headers)) == [[None]]
            assert time.monotonic() - started < 0.8


def test_time_in_the_queue_counts(tmp_path: Path) -> None:
    recipe = SLOW.replace("0.3", "1.2")
    with serving(tmp_path, recipe, "server.max_in_flight=1") as url:
        replies = asyncio.run(at_once(url, 3, headers={"x-deadline-s": "0.5"}))
    told = sorted((reply.status_code, reply.elapsed.total_seconds()) for reply in replies)
    # The first has its turn and no time to end in; the second gets what is left of its own; nothing of it is a number.
    assert all(seconds < 0.9 for _, seconds in told)
    assert {status for status, _ in told} <= {200, 504} and 504 in {status for status, _ in told}
    assert all(rewards_of(reply) == [[None]] for reply in replies if reply.status_code == 200)


def test_a_scorer_that_blocks_the_judges_loop_does_not_hold_up_the_answer(tmp_path: Path) -> None:
    recipe = SLOW.replace("seconds: 0.3", "seconds: 1.5, blocks: true")
    with serving(tmp_path, recipe) as url:
        started = time.monotonic()
        reply = post(url, "/v1/score", NUMBER, {"x-deadline-s": "0.4"})
        assert reply.status_code == 504 and "out of time" in reply.json()["detail"]
        assert time.monotonic() - started < 0.9
        assert httpx2.get(url + "/health").status_code == 200


@pytest.mark.parametrize("header", ["0", "-1", "soon", "nan"])
def test_a_wrong_deadline_is_refused_by_name(tmp_path: Path, header: str) -> None:
    app = TestClient(application(tmp_path, FORM))
    reply = app.post("/v1/score", json=NUMBER, headers={"x-deadline-s": header})
    assert reply.status_code == 422 and reply.json()["detail"][0]["loc"] == ["header", "x-deadline-s"]


def test_a_body_that_is_too_large(tmp_path: Path) -> None:
    with serving(tmp_path, FORM, "server.max_body_mib=0.01") as url:
        large = {"groups": [group("a", "x" * 20_000)]}
        reply = post(url, "/v1/score", large)
        assert reply.status_code == 413 and "10485 bytes" in reply.json()["detail"]
        # No length told, and no end either: it is refused while it still comes.
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        head = b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        head += b"transfer-encoding: chunked\r\n\r\n"
        assert raw(url, head + chunk * 4).startswith(b"HTTP/1.1 413")
        assert rewards_of(post(url, "/v1/score", {"groups": [group("a", "good")]})) == [[2.0]]


def test_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare: Callable[[Any, Any], bool] = hmac.compare_digest

    def noted(first: Any, second: Any) -> bool:
        compared.append((len(first), len(second)))
        return compare(first, second)

    monkeypatch.setattr(admission_module.hmac, "compare_digest", noted)
    app = TestClient(application(tmp_path, FORM, token="s3cret"))
    body = {"groups": [group("a", "good")]}
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret"}, {"authorization": "Bearer "}):
        for route in ("/v1/score", "/get_reward", "/score"):
            reply = app.post(route, json=body, headers=headers)
            assert reply.status_code == 401 and reply.headers["www-authenticate"] == "Bearer"
        assert app.get("/metrics", headers=headers).status_code == 401
        assert app.get("/v1/info", headers=headers).status_code == 401
    assert app.get("/health").status_code == app.get("/ready").status_code == 200
    assert rewards_of(app.post("/v1/score", json=body, headers={"authorization": "Bearer s3cret"})) == [[2.0]]
    assert set(compared) == {(32, 32)}, "hashes of one length, whatever was sent"


def test_clients_that_leave_free_their_place_and_are_not_scored(tmp_path: Path) -> None:
    app = application(tmp_path, SLOW, "server.max_in_flight=1", "rewards.slow.seconds=0.5")
    with running(app) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        body = b'{"groups": [{"prompt": "a", "completions": [{"text": "7", "tokens": 1}]}]}'
        head = b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        admission: Admission = app.state.admission
        connections = [socket.create_connection((host, int(port))) for _ in range(6)]
        for connection in connections:
            connection.sendall(head % len(body) + body)
        wait_until(lambda: admission.queued == 5)
        for connection in connections[1:]:
            connection.close()
        # One more sends half of its body and goes.
        with socket.create_connection((host, int(port))) as half:
            half.sendall(head % len(body) + body[:20])
        wait_until(lambda: admission.queued == admission.in_flight == 0, 5)
        assert connections[0].recv(15) == b"HTTP/1.1 200 OK"
        connections[0].close()
        text = httpx2.get(url + "/metrics").text
        assert metric(text, "rlrules_completions_total") == 1, "only who waited for it was scored"
        assert rewards_of(post(url, "/v1/score", NUMBER)) == [[7.0]]


def test_answers_are_not_held_back(tmp_path: Path) -> None:
    with serving(tmp_path, FORM) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
            accepted = [
                one
                for one in gc.get_objects()
                if isinstance(one, socket.socket) and _is_at(one, connection.getsockname())
            ]
            assert accepted and all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in accepted)


def _is_at(one: socket.socket, peer: object) -> bool:
    try:
        return bool(one.getpeername() == peer)
    except OSError:
        return False
