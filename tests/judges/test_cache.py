import json
import logging
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import JudgeError
from rlrules.judges import Answer
from rlrules.judges import cache as cache_module
from rlrules.judges.cache import AnswerCache, answer_key
from tests.judges.asking import ready

WHOLE = Answer("Yes\x00\ud800…", "thought", "length", {"Yes": -0.1, " No": -9999.0}, 3, 1, 0.25)


def test_an_answer_comes_back_whole_and_the_first_one_stays(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "new" / "answers.sqlite")
    assert cache.get("key") is None
    cache.put("key", WHOLE)
    cache.put("key", Answer("another"))
    assert cache.get("key") == replace(WHOLE, cached=True)
    assert AnswerCache(cache.path).get("key") == replace(WHOLE, cached=True)
    assert len(cache) == 1


CHANGES: list[dict[str, Any]] = [
    {"messages": ({"role": "user", "content": "Is it? "},)},
    {"messages": ({"role": "system", "content": "Is it?"},)},
    {"messages": ({"role": "user", "content": "Is it"}, {"role": "user", "content": "?"})},
    {"template": "test@2"},
    {"labels": ("No", "Yes")},
    {"labels": ()},
    {"schema": {"type": "object"}},
    {"temperature": 0.1},
    {"max_tokens": 2},
    {"draw": 1},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_whatever_can_change_the_answer_changes_the_key(change: dict[str, Any]) -> None:
    asked = ready("Is it?")
    assert answer_key(("m", ""), replace(asked, **change)) != answer_key(("m", ""), asked)
    assert answer_key(("m", "r"), asked) != answer_key(("m", ""), asked) == answer_key(("m", ""), ready("Is it?"))


def test_the_order_of_a_schemas_keys_does_not_matter() -> None:
    one, other = {"type": "object", "title": "x"}, {"title": "x", "type": "object"}
    assert answer_key(("m",), ready("?", schema=one)) == answer_key(("m",), ready("?", schema=other))


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_an_error_that_names_the_remedy(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "answers.sqlite"
    file.write_bytes(content)
    with pytest.raises(
        JudgeError, match=r"answers\.sqlite: .*; move the file away, or set the judge's `cache`"
    ) as error:
        AnswerCache(file)
    assert "\n" not in str(error.value)
    assert file.read_bytes() == content


def test_a_folder_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="move the file away"):
        AnswerCache(tmp_path)


def test_damage_in_mid_run_costs_the_cache_but_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.put("key", WHOLE)
    with sqlite3.connect(cache.path) as other:
        other.execute("DROP TABLE answers")
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            assert cache.get("key") is None
            cache.put(str(number), WHOLE)
    assert len(caplog.records) == 1 and str(cache.path) in caplog.text


def test_a_file_that_another_process_keeps_locked_holds_nothing_up_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "BUSY_S", 0.1)
    cache = AnswerCache(tmp_path / "answers.sqlite")
    other = sqlite3.connect(cache.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    cache.put("key", WHOLE)
    assert 0.05 < time.monotonic() - started < 1.0
    other.execute("ROLLBACK")
    cache.put("key", WHOLE)
    assert cache.get("key") is not None
    other.close()


@pytest.mark.parametrize("row", ["{", '"text"', '{"text": "Yes", "confidence": 1}', "{}"])
def test_a_row_of_another_version_counts_as_unknown(tmp_path: Path, row: str) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    with sqlite3.connect(cache.path) as other:
        other.execute("INSERT INTO answers VALUES ('key', ?)", (row,))
    assert cache.get("key") is None


def write_many(path: Path, start: Any, own: int, done: Any) -> None:
    start.wait()
    try:
        cache = AnswerCache(path)
        for number in range(200):
            cache.put(f"own {own} {number}", Answer(f"{own} {number}"))
            cache.put(f"shared {number}", Answer(str(own)))
        shared = [cache.get(f"shared {number}") for number in range(200)]
        done.put([answer.text if answer else None for answer in shared])
    except Exception as error:
        done.put(repr(error))


@pytest.mark.parametrize("attempt", range(3))
def test_four_processes_make_and_fill_one_file_at_once(tmp_path: Path, attempt: int) -> None:
    context = multiprocessing.get_context("fork")
    start, done = context.Barrier(4), context.Queue()
    path = tmp_path / "answers.sqlite"
    workers = [context.Process(target=write_many, args=(path, start, own, done)) for own in range(4)]
    for worker in workers:
        worker.start()
    seen = [done.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join(10)
    assert len(AnswerCache(path)) == 5 * 200
    # All read the same answer, whoever was first, and it is none of a mixture.
    assert seen[0] == seen[1] == seen[2] == seen[3] and set(seen[0]) <= {"0", "1", "2", "3"}


def test_many_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(10):
        start, failed = context.Barrier(6), context.Value("i", 0)

        def work(start: Any = start, failed: Any = failed, attempt: int = attempt) -> None:
            start.wait()
            try:
                AnswerCache(tmp_path / f"{attempt}.sqlite").put("key", WHOLE)
            except JudgeError:
                with failed.get_lock():
                    failed.value += 1

        workers = [context.Process(target=work) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
        assert failed.value == 0


def test_a_fork_uses_a_connection_of_its_own(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.put("before", WHOLE)

    def work() -> None:
        good = cache.get("before") is not None
        cache.put("child", WHOLE)
        os._exit(0 if good else 1)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    cache.put("parent", WHOLE)
    child.join(10)
    assert child.exitcode == 0
    assert cache.get("child") is not None and cache.get("parent") is not None


WRITER = """
import sys
from pathlib import Path
from rlrules.judges import Answer
from rlrules.judges.cache import AnswerCache
cache = AnswerCache(Path(sys.argv[1]))
for number in range(1_000_000):
    cache.put(f"{sys.argv[2]} {number}", Answer(f"answer {number} " + "x" * (number * 37 % 5000)))
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_a_readable_file_with_all_that_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    draw = random.Random(0)
    acknowledged: dict[str, int] = {}
    for run in range(2):
        command = [sys.executable, "-c", WRITER, str(path), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == "0\n"
            time.sleep(0.1 + 0.2 * draw.random())
            writer.send_signal(signal.SIGKILL)
            lines = writer.stdout.read().split("\n")
        acknowledged[str(run)] = int(lines[-2]) if len(lines) > 1 else 0
    assert min(acknowledged.values()) > 10
    cache = AnswerCache(path)
    for earlier, last in acknowledged.items():
        for number in range(last + 1):
            answer = cache.get(f"{earlier} {number}")
            assert answer is not None and answer.text.startswith(f"answer {number} ")
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert all(json.loads(row)["text"] for (row,) in database.execute("SELECT answer FROM answers"))
