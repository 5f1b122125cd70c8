"""kill -9 at any time: nothing that was finished is lost or asked again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IN_FLIGHT = 4
KILLS = 3


def start(folder: Path, calls: Path, cached: bool) -> subprocess.Popen[bytes]:
    mode = "cached" if cached else "uncached"
    command = [sys.executable, "-m", "tests.rules.killable", str(folder), str(calls), mode]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "RLRULES_CACHE": str(folder.parent / "cache")})


def lines(path: Path) -> list[str]:
    text = path.read_text() if path.exists() else ""
    return [line.rstrip() for line in text.splitlines(keepends=True) if line.endswith("\n")]


def finished(folder: Path) -> set[str]:
    """Questions whose outcome is on the disk."""
    found: set[str] = set()
    for stage, name in (("reason", "reasons"), ("extract", "candidates")):
        ids = [json.loads(line)["pair_id"] for line in lines(folder / f"{name}.jsonl")]
        found |= {f"{stage} {id_[1:].partition(':')[0]}" for id_ in ids}
    return found


@pytest.mark.parametrize(("seed", "cached"), [(0, False), (1, False), (2, True), (3, True)])
def test_killed_at_random_and_run_again(tmp_path: Path, seed: int, cached: bool) -> None:
    draw = random.Random(seed)
    folder, calls = tmp_path / "out", tmp_path / "calls"
    for kill in range(KILLS):
        asked, done = lines(calls), finished(folder)
        process = start(folder, calls, cached)
        stop_after = len(asked) + draw.randrange(5, 110)
        while process.poll() is None and (
            len(lines(calls)) < stop_after
            # Early kills may come before anything is finished; without the last there would be nothing to lose.
            or (kill == KILLS - 1 and not finished(folder))
        ):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not done & set(lines(calls)[len(asked) :]), "a finished item was asked again"
    asked, done = lines(calls), finished(folder)
    assert done
    assert start(folder, calls, cached).wait() == 0
    assert not done & set(lines(calls)[len(asked) :])
    # Uninterrupted, the same rules come out, and every call is made once.
    assert start(tmp_path / "whole", tmp_path / "whole_calls", False).wait() == 0
    whole, made = Counter(lines(tmp_path / "whole_calls")), Counter(lines(calls))
    assert set(whole.values()) == {1}
    assert set(made) == set(whole)
    if cached:
        # The cache knows what was answered and not yet written: only what was under way is asked once more.
        assert made.total() - whole.total() <= IN_FLIGHT * KILLS
    assert (folder / "rules.json").read_bytes() == (tmp_path / "whole/rules.json").read_bytes()
