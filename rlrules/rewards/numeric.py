"""Whether two answers are the same number or expression, decided within a deadline whatever a policy writes."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import IO

from rlrules.errors import DataError, RlrulesError

DEADLINE_S = 2.0
"""CPU seconds for one comparison, from when it begins: how busy the machine is decides nothing."""
WALL_S = 60.0
LONGEST = 4096
"""Characters of an answer past which it is no number or expression, unless the right one is as long."""
WORKERS = 2
_WORKER = Path(__file__).with_name("math_worker.py")

_PLAIN = re.compile(
    r"(?P<sign>[+-]?)(?:\\?\$\s*)?"
    r"(?P<whole>\d{1,3}(?:,\d{3})+|\d{1,60})?(?P<part>\.\d{1,60})?(?:/(?P<below>\d{1,60}))?"
    r"(?:[eE](?P<power>[+-]?\d{1,2}))?\s*(?P<percent>\\?%)?\.?"
)
# Below this two decimals may be one rounded number; that is left to math-verify.
_NEAR = Fraction(1, 10**4)


@dataclass(frozen=True, slots=True)
class Same:
    """What a comparison came to.

    Attributes:
        equal: Whether both are the same.
        problem: Why the answer could not be compared, in words.
        hung: Whether it could not be compared within the deadline.
    """

    equal: bool
    problem: str = ""
    hung: bool = False


async def same_number(truth: str, answer: str) -> Same:
    """Compare an answer of the policy with the right one, by math-verify unless both are plain numbers.

    A percentage is equal to its number with the sign and to its hundredth, as in math-verify.

    Raises:
        DataError: The right answer cannot be read.
        RlrulesError: The worker process cannot be started.
    """
    if (plain := same_plain(truth, answer)) is not None:
        return Same(plain)
    if len(answer) > max(LONGEST, 2 * len(truth)):
        return Same(False, f"is too long to be a number or an expression: {len(answer)} characters")
    return await asyncio.get_running_loop().run_in_executor(_threads(os.getpid()), _compared, truth, answer)


def same_plain(truth: str, answer: str) -> bool | None:
    """The same for two plain numbers; None where one of them is none, or rounding may decide."""
    one, two = plain_number(truth), plain_number(answer)
    if one is None or two is None:
        return None
    shares = (Fraction(1), Fraction(1, 100))
    differences = [
        abs(one[0] * a - two[0] * b)
        for a in (shares if one[1] else shares[:1])
        for b in (shares if two[1] else shares[:1])
    ]
    if min(differences) == 0:
        return True
    return None if min(differences) <= _NEAR * max(Fraction(1), abs(one[0])) else False


def plain_number(text: str) -> tuple[Fraction, bool] | None:
    """The value of a decimal or a fraction of whole numbers, and whether a percent sign follows it."""
    text = text.strip().replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
    found = _PLAIN.fullmatch(text.strip("$").strip()) if text.isascii() else None
    if found is None or not (found["whole"] or found["part"]):
        return None
    below = Fraction(found["below"] or 1)
    if not below:
        return None
    value = Fraction((found["whole"] or "0").replace(",", "") + (found["part"] or "")) / below
    value *= Fraction(10) ** int(found["power"] or 0)
    return (-value if found["sign"] == "-" else value), bool(found["percent"])


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    # By process: a fork takes neither threads nor their workers along. Each thread keeps a worker of its own.
    return ThreadPoolExecutor(WORKERS, thread_name_prefix="rlrules-math")


@lru_cache(maxsize=8192)
def _compared(truth: str, answer: str) -> Same:
    """Ask this thread's worker; one that died of anything but its deadline is asked once more."""
    for _ in range(2):
        worker = _worker()
        said = worker.ask(truth, answer)
        if len(said) < 2 and not worker.hung():
            continue
        if not said or not said[0]["truth"]:
            why = "is neither a number nor an expression" if said else f"cannot be read within {DEADLINE_S:g} s"
            raise DataError(f"the right answer {truth[:60]!r} {why}")
        if len(said) < 2:
            return Same(False, f"could not be compared within {DEADLINE_S:g} s", hung=True)
        return Same(said[1]["equal"], "" if said[1]["read"] else "is neither a number nor one expression")
    return Same(False, "ended the process that was to compare it", hung=True)


_own = threading.local()


def _worker() -> "_Worker":
    known: _Worker | None = getattr(_own, "worker", None)
    if known is None or not known.lives():
        known = _own.worker = _Worker()
    return known


class _Worker:
    """A running math_worker.py.

    Raises:
        RlrulesError: It does not start.
    """

    def __init__(self) -> None:
        # -P: the worker's folder has modules of this package in it, whose names are not to be found first.
        command = [sys.executable, "-P", str(_WORKER), str(DEADLINE_S)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )
        if self._line(self._process.stdout) is None:
            told = (self._process.stderr.read() if self._process.stderr else "").strip().splitlines()
            raise RlrulesError(f"math-verify cannot be used: {told[-1] if told else 'its process ended'}")

    def ask(self, truth: str, answer: str) -> list[dict[str, bool]]:
        """What the worker says of a pair: on the truth, on the answer; less where it ended before."""
        assert self._process.stdin is not None
        backup = threading.Timer(WALL_S, self._process.kill)
        backup.start()
        try:
            self._process.stdin.write(json.dumps([truth, answer]) + "\n")
            self._process.stdin.flush()
            said = [self._line(self._process.stdout) for _ in range(2)]
        except BrokenPipeError:
            said = []
        finally:
            backup.cancel()
        return [line for line in said if line is not None]

    def lives(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def hung(self) -> bool:
        """Whether its deadline ended it."""
        return self._process.wait() in (-signal.SIGPROF, -signal.SIGKILL)

    @staticmethod
    def _line(stream: IO[str] | None) -> dict[str, bool] | None:
        line = stream.readline() if stream is not None else ""
        try:
            said: dict[str, bool] = json.loads(line)
        except ValueError:
            return None
        return said
