import asyncio
import gc
import logging
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlrules.judges import (
    Answer,
    Judge,
    JudgeFailure,
    LocalJudgeConfig,
    OpenAIJudgeConfig,
    Question,
    Usage,
    build_judge,
    build_judges,
)
from rlrules.judges import loop as loop_module
from rlrules.judges.cache import AnswerCache
from rlrules.judges.loop import on_judge_loop, submit
from rlrules.judges.verdict import ask_verdict
from tests.fakes.openai_server import FakeServer, Faults, Request, label_of
from tests.judges.asking import YES_NO, config, question, served_judge, together, verdicts


class GatedBackend:
    """Answers, or fails, once it is let."""

    def __init__(self, failure: JudgeFailure | None = None) -> None:
        self.failure = failure
        self.gate = threading.Event()
        self.asked: list[Question] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def complete(self, question: Question) -> Answer:
        self.asked.append(question)
        self.loops.add(asyncio.get_running_loop())
        while not self.gate.is_set():
            await asyncio.sleep(0.005)
        if self.failure:
            raise self.failure
        return Answer("Yes", prompt_tokens=10, completion_tokens=1, seconds=0.5)

    async def close(self) -> None: ...


def gated_judge(backend: GatedBackend, cache: Path | None = None) -> Judge:
    return Judge("gated", config("http://x/v1"), backend, AnswerCache(cache) if cache else None, Usage())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_identical_questions_on_the_way_are_one_request() -> None:
    with FakeServer(faults=Faults(latency_s=0.1)) as server:
        judge = served_judge(server.url)
        found = verdicts(judge, [question("Same?")] * 50 + [question("Same?", draw=1), question("Other?")])
    assert server.counts["requests"] == 3
    assert [verdict.label for verdict in found] == [label_of("Same?", YES_NO)] * 51 + [label_of("Other?", YES_NO)]
    assert (judge.usage.asked, judge.usage.cached, judge.usage.failed) == (52, 49, 0)


def test_what_was_answered_once_is_never_asked_again(tmp_path: Path) -> None:
    with FakeServer() as server:
        first = served_judge(server.url, cache=tmp_path / "answers.sqlite")
        before = verdicts(first, [question(str(number)) for number in range(30)])
        again = served_judge(server.url, cache=tmp_path / "answers.sqlite")
        after = verdicts(again, [question(str(number)) for number in range(30)])
        assert server.counts["requests"] == 30
    assert after == before
    assert again.usage == Usage(asked=30, cached=30)
    assert (first.usage.cached, first.usage.completion_tokens) == (0, 30)


def test_usage_counts_what_was_paid_and_what_failed() -> None:
    backend = GatedBackend()
    backend.gate.set()
    judge = gated_judge(backend)
    earlier = replace(judge.usage)
    asyncio.run(together([judge.ask(question("a")), judge.ask(question("b"))]))
    assert judge.usage.since(earlier) == Usage(asked=2, prompt_tokens=20, completion_tokens=2, seconds=1.0)
    backend.failure = JudgeFailure("timeout", "late")
    backend.gate.clear()
    threading.Timer(0.05, backend.gate.set).start()
    found = verdicts(judge, [question("c")] * 3)
    assert [verdict.outcome for verdict in found] == ["failed"] * 3
    assert (judge.usage.asked, judge.usage.cached, judge.usage.failed) == (5, 0, 3)


def test_a_failure_is_not_kept() -> None:
    backend = GatedBackend(JudgeFailure("timeout", "late"))
    backend.gate.set()
    judge = gated_judge(backend)
    assert verdicts(judge, [question("?")])[0].outcome == "failed"
    backend.failure = None
    assert verdicts(judge, [question("?")])[0].label == "Yes"


def test_whoever_gives_up_leaves_the_answer_to_the_others_and_to_the_cache(tmp_path: Path) -> None:
    backend = GatedBackend()
    judge = gated_judge(backend, tmp_path / "answers.sqlite")

    async def ask() -> Answer:
        impatient, patient = (asyncio.create_task(judge.ask(question("?"))) for _ in range(2))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(impatient, 0.05)
        backend.gate.set()
        return await asyncio.wait_for(patient, 5)

    assert asyncio.run(ask()).text == "Yes"
    backend.gate.clear()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(judge.ask(question("alone")), 0.05)

    asyncio.run(give_up())
    backend.gate.set()
    until(lambda: len(AnswerCache(tmp_path / "answers.sqlite")) == 2)
    assert len(backend.asked) == 2


def test_a_failure_that_nobody_waits_for_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    backend = GatedBackend(JudgeFailure("timeout", "late"))
    judge = gated_judge(backend)

    async def give_up() -> None:
        await asyncio.wait_for(together([judge.ask(question(str(n))) for n in range(3)]), 0.05)

    with caplog.at_level(logging.ERROR, "asyncio"):
        with pytest.raises(TimeoutError):
            asyncio.run(give_up())
        backend.gate.set()
        until(lambda: not judge._on_the_way)
        gc.collect()
        submit(asyncio.sleep(0)).result(5)
    assert caplog.records == []


def test_one_judge_serves_many_threads_and_loops_that_come_and_go() -> None:
    backend = GatedBackend()
    backend.gate.set()
    judge = gated_judge(backend)

    def ask(number: int) -> str:
        async def twice() -> str:
            answers = await together([judge.ask(question(f"{number} {part}")) for part in range(5)])
            inner = await on_judge_loop(judge.ask(question(f"{number} inner")))
            return "".join(answer.text for answer in [*answers, inner])

        return asyncio.run(twice())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(40))) == ["Yes" * 6] * 40
    assert len(backend.loops) == 1 and len(backend.asked) == 240


def test_threads_that_are_first_at_the_same_time_get_the_same_loop() -> None:
    async def own() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    for _ in range(20):
        loop_module._loop_of.cache_clear()
        start = threading.Barrier(8)

        def first(start: threading.Barrier = start) -> asyncio.AbstractEventLoop:
            start.wait()
            return submit(own()).result(5)

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(lambda _, first=first: first(), range(8)))) == 1


def test_a_forked_process_can_go_on_asking(tmp_path: Path) -> None:
    with FakeServer(faults=Faults(latency_s=0.2)) as server:
        judge = served_judge(server.url, cache=tmp_path / "answers.sqlite")
        verdicts(judge, [question("before")])
        context = multiprocessing.get_context("fork")
        result = context.Queue()

        def child() -> None:
            found = verdicts(judge, [question("before"), question("on its way"), question("child")])
            result.put([verdict.label for verdict in found])

        under_way = submit(judge.ask(question("on its way")))
        until(lambda: server.counts["requests"] == 2)
        process = context.Process(target=child)
        process.start()
        assert result.get(timeout=20) == [label_of(text, YES_NO) for text in ("before", "on its way", "child")]
        process.join(10)
        assert under_way.result(5).text == label_of("on its way", YES_NO)
        assert verdicts(judge, [question("after")])[0].label == label_of("after", YES_NO)


def test_an_answer_outside_the_labels_is_asked_for_again(tmp_path: Path) -> None:
    said = iter(["Maybe", "Yes"])
    with FakeServer(lambda _: next(said)) as server:
        judge = served_judge(server.url, cache=tmp_path / "answers.sqlite")
        outcomes = [verdicts(judge, [question("?")])[0].outcome for _ in range(3)]
    assert outcomes == ["unparsed", "value", "value"]


def test_another_way_of_asking_is_another_question(tmp_path: Path) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return "Yes"

    with FakeServer(answer) as server:
        for fields in ({}, {"constrained": False}, {"model": "other"}, {"revision": "r2"}, {"temperature": 1.0}, {}):
            judge = served_judge(server.url, cache=tmp_path / "answers.sqlite", **fields)
            assert verdicts(judge, [question("?")])[0].label == "Yes"
    assert [(one["max_tokens"], one["model"], one["temperature"]) for one in asked] == [
        (1, "fake", 0.0),
        (1024, "fake", 0.0),
        (1, "other", 0.0),
        (1, "fake", 0.0),
        (1, "fake", 1.0),
    ]


def test_the_questions_own_fields_go_before_the_judges() -> None:
    backend = GatedBackend()
    backend.gate.set()
    judge = gated_judge(backend)
    asyncio.run(judge.ask(question("?", (), max_tokens=7, temperature=0.5)))
    asyncio.run(judge.ask(question("?", ())))
    assert [(one.max_tokens, one.temperature) for one in backend.asked] == [(7, 0.5), (1024, 0.0)]


def test_judges_are_built_by_name_with_the_cache_where_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLRULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    judges = build_judges(
        {
            "default": OpenAIJudgeConfig(urls=["http://x/v1"], model="m"),
            "file": LocalJudgeConfig(model="m", cache="~/here/a.sqlite"),
            "none": LocalJudgeConfig(model="m", cache=False),
        }
    )
    assert list(judges) == ["default", "file", "none"] and judges["file"].name == "file"
    assert sorted(file.name for file in tmp_path.rglob("*.sqlite")) == ["a.sqlite", "answers.sqlite"]
    assert (tmp_path / "home" / "here" / "a.sqlite").exists()


def test_a_judge_that_is_down_at_the_start_says_so_after_about_one_deadline() -> None:
    judge = served_judge("http://127.0.0.1:9/v1", timeout_s=1.0)
    started = time.monotonic()
    found = verdicts(judge, [question(str(number)) for number in range(100)])
    assert 0.9 < time.monotonic() - started < 10.0
    assert {verdict.outcome for verdict in found} == {"failed"}
    assert "judge verifier: no endpoint answers (http://127.0.0.1:9/v1:" in found[0].reason


def test_cached_answers_are_far_quicker_than_a_judge(tmp_path: Path) -> None:
    # A server on two cores gives 14 verdicts a second; 50 times as fast is the least that a cache is for.
    many = [question(f"{'word ' * 400}{number}") for number in range(1000)]
    with FakeServer() as server:
        judge = build_judge("verifier", config(server.url, cache=str(tmp_path / "answers.sqlite")))
        verdicts(judge, many)
        assert judge.usage.cached == 0
        rates = []
        for _ in range(3):
            started = time.monotonic()
            on_the_loop(together([ask_verdict(judge, one) for one in many]))
            rates.append(len(many) / (time.monotonic() - started))
    assert judge.usage.cached == 3000
    assert max(rates) > 50 * 14


def on_the_loop(work: Coroutine[Any, Any, Any]) -> Any:
    return submit(work).result(60)


ASKER = """
import asyncio, sys
from rlrules.judges import OpenAIJudgeConfig, Question, build_judge
from rlrules.judges.loop import submit
judge = build_judge("j", OpenAIJudgeConfig(urls=[sys.argv[1]], model="fake", cache=sys.argv[2]))
async def ask(number):
    one = Question(({"role": "user", "content": f"question {number}"},), "test@1", labels=("Yes", "No"))
    print(f"{number} {(await judge.ask(one)).text}", flush=True)
async def main():
    await asyncio.gather(*(ask(number) for number in range(3000)))
submit(main()).result()
"""


def test_a_killed_run_keeps_every_answer_that_it_had(tmp_path: Path) -> None:
    cache = tmp_path / "answers.sqlite"
    with FakeServer() as server:
        with subprocess.Popen(
            [sys.executable, "-c", ASKER, server.url, str(cache)], stdout=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None
            lines = [run.stdout.readline() for _ in range(300)]
            run.send_signal(signal.SIGKILL)
            lines += run.stdout.read().split("\n")[:-1]  # The last may be cut.
        had = dict(line.split() for line in lines if len(line.split()) == 2)
        assert 300 <= len(had) < 3000
        asked = server.counts["requests"]
        judge = served_judge(server.url, cache=cache)
        found = verdicts(judge, [question(f"question {number}") for number in had])
        assert [verdict.label for verdict in found] == list(had.values())
        assert server.counts["requests"] == asked


def test_what_nobody_waits_for_any_more_is_not_asked(tmp_path: Path) -> None:
    """A judge that is slower than those who ask it: questions that have given up do not keep it from the others'."""

    async def drill(judge: Judge) -> str:
        async def impatient(number: int) -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(judge.ask(question(f"early {number}?")), 0.15)

        await together(impatient(number) for number in range(20))
        # One that is asked again before its turn is wanted again.
        answers = await together(judge.ask(question(text)) for text in ("early 19?", "late?"))
        return "".join(answer.text for answer in answers)

    with FakeServer(faults=Faults(latency_s=0.4), keep_bodies=True) as server:
        judge = served_judge(server.url, max_in_flight=1, cache=tmp_path / "answers.sqlite")
        assert asyncio.run(drill(judge))
        asked = [body["messages"][0]["content"] for body in server.bodies]
    # The one on its way is paid for, and kept.
    assert asked == ["early 0?", "early 19?", "late?"]
    assert len(AnswerCache(tmp_path / "answers.sqlite")) == 3
