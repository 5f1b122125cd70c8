"""A process ends with its status, and with all that was to be done, but for the interpreter's own end."""

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys, threading, time
from rlrules.ending import without_finalization


class Finalized:
    def __del__(self):
        print("taken down")


kept = Finalized()
with without_finalization():
    atexit.register(print, "exit handler")
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    {end}
"""


@pytest.mark.parametrize(
    ("end", "status", "told"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(143)", 143, ""),
        ("sys.exit('no room')", 1, "no room"),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_a_process_ends(end: str, status: int, told: str) -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT.format(end=end)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == status
    assert ended.stdout.splitlines() == ["thread", "exit handler"]
    assert told in ended.stderr if told else not ended.stderr


def test_without_it_the_interpreter_is_taken_down() -> None:
    script = SCRIPT.format(end="pass").replace("without_finalization()", "open('/dev/null')")
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stdout.splitlines()[-1] == "taken down"
