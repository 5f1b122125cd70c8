"""Servers that are kept running: started again when they end, ended for good when they are to."""

import json
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from rlrules.engines import watch
from rlrules.engines.vllm import VllmConfig, VllmServer
from rlrules.engines.watch import WatchedServers
from rlrules.errors import RlrulesError
from tests.engines.test_vllm import TREE, ended, fake, recorded, wait_until

__all__ = ["fake"]


def watched(interpreter: Path, names: tuple[str, ...] = ("judge",), **fields: object) -> WatchedServers:
    servers: dict[str, VllmServer] = {}
    for name in names:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = VllmConfig(model="m", python=interpreter, port=port, start_timeout_s=20, **fields)
        servers[name] = VllmServer(config, interpreter.with_name(f"{name}.log"))
    return WatchedServers(servers)


def pid(folder: Path) -> int:
    return int(json.loads((folder / "root.json").read_text())["pid"])


def unexpected(error: RlrulesError) -> None:
    raise AssertionError(str(error))


def test_a_server_that_ends_is_started_again_on_its_port(
    fake: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(watch, "FIRST_PAUSE_S", 0.1)
    up = threading.Event()
    engines = watched(fake)
    engines.start(up.set, unexpected)
    assert "starting" in engines.problems()["judge"]
    try:
        assert up.wait(20) and engines.problems() == {}
        pauses = []
        for number in range(1, 3):
            victim = pid(fake.parent)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: "has ended" in engines.problems().get("judge", ""))
            died = time.monotonic()
            wait_until(lambda: engines.problems() == {})
            pauses.append(time.monotonic() - died)
            assert pid(fake.parent) != victim and engines.restarts == {"judge": number}
        last = [recorded(fake.parent, name)["pid"] for name in TREE]
    finally:
        engines.stop()
    assert all(ended(one) for one in last)
    assert "started again in 0.1 s" in caplog.text and "started again in 0.2 s" in caplog.text


def test_all_are_up_before_it_is_said_and_all_end(fake: Path) -> None:
    told: list[str] = []
    up = threading.Event()
    engines = watched(fake, ("one", "two"))
    engines.start(lambda: (told.append(str(engines.problems())), up.set()), unexpected)
    try:
        assert up.wait(30) and told == ["{}"]
    finally:
        engines.stop()
    wait_until(lambda: ended(pid(fake.parent)))


def test_one_that_never_answered_is_told_and_not_tried_again(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "crash")
    failures: list[RlrulesError] = []
    engines = watched(fake)
    engines.start(lambda: failures.append(RlrulesError("it did not start")), failures.append)
    wait_until(lambda: bool(failures))
    engines.stop()
    assert len(failures) == 1 and "ended with status 3" in str(failures[0])
    assert engines.restarts == {"judge": 0}


def test_stopping_while_a_server_starts(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "silent")
    engines = watched(fake)
    engines.start(lambda: None, unexpected)
    wait_until((fake.parent / "root.json").exists)
    started = time.monotonic()
    engines.stop()
    assert time.monotonic() - started < 10
    assert ended(pid(fake.parent))


def test_a_server_that_answers_nothing_is_taken_for_dead(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "alone")
    for name, seconds in (("HUNG_S", 0.3), ("_ASK_S", 0.05), ("_LOOK_S", 0.05), ("FIRST_PAUSE_S", 0.1)):
        monkeypatch.setattr(watch, name, seconds)
    up = threading.Event()
    engines = watched(fake)
    engines.start(up.set, unexpected)
    try:
        assert up.wait(20)
        monkeypatch.setattr(VllmServer, "healthy", property(lambda self: False))
        wait_until(lambda: "has not answered" in engines.problems().get("judge", ""))
        monkeypatch.undo()
        wait_until(lambda: engines.restarts["judge"] >= 1)
    finally:
        engines.stop()
