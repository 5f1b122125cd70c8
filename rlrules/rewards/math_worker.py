"""Compares two answers as mathematics, one pair a line of JSON: a process of its own, because nothing else ends it.

Sympy evaluates what it is given, and a power tower holds the interpreter's lock for ever. The kernel's clock of CPU
seconds, which only runs while there is work, ends the whole process then.

    python math_worker.py SECONDS

Says {"ready": true} once; of each pair {"truth": whether it can be read} and {"read": …, "equal": …}. It is run as a
file and imports nothing of this package, so that it starts fast whatever the trainer has loaded.
"""

import contextlib
import json
import logging
import os
import re
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

MEMORY = 4 * 2**30
NAMED = re.compile(r"^\s*\\?[A-Za-z]\w*\s*=\s*")
WRITTEN = (("\N{MINUS SIGN}", "-"), ("\N{EN DASH}", "-"), ("\N{DEGREE SIGN}", r"^\circ"), ("**", "^"))


def main() -> None:
    """Answer until the input ends."""
    # Its way of saying that it was given no deadline of its own, each time.
    logging.disable(logging.WARNING)
    from math_verify import LatexExtractionConfig, parse, verify

    whole = (LatexExtractionConfig(boxed_match_priority=0),)

    @lru_cache(maxsize=1024)
    def read(text: str) -> list[Any]:
        # In a box, the whole text is one expression: left to itself the library looks for the last number in it, and
        # a list of guesses would be right.
        boxed = rf"\boxed{{{text}}}"
        found: list[Any] = parse(
            boxed, whole, fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=None
        )
        return found

    def equal(truth: str, answer: str) -> tuple[bool, bool]:
        if not _balanced(answer) or ("=" in answer and "=" not in truth):
            return False, False
        found = read(answer)
        return bool(found), bool(found) and bool(verify(read(truth), found, timeout_seconds=None))

    equal("1", r"\frac{2}{2}")
    _bound_memory()
    seconds = float(sys.argv[1])
    _say({"ready": True})
    # Nobody reads what is complained of from here on, and a pipe that is full would stop the work.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    for line in sys.stdin:
        truth, answer = map(_plain, json.loads(line))
        # The default action of this signal is the kernel's: it needs no interpreter to come round.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        _say({"truth": bool(_tried(lambda text=truth: read(text), []))})
        found, same = _tried(lambda one=truth, two=answer: equal(one, two), (False, False))
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say({"read": found, "equal": same})


def _tried(work: Any, otherwise: Any) -> Any:
    try:
        return work()
    except (Exception, RecursionError, MemoryError):  # Whatever a parser makes of what a policy wrote.
        return otherwise


def _plain(text: str) -> str:
    for written, meant in WRITTEN:
        text = text.replace(written, meant)
    text = NAMED.sub("", text.strip())
    return text if not (len(text) > 1 and text[0] == text[-1] == "$") else text[1:-1]


def _balanced(text: str) -> bool:
    depth = 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if depth < 0:
            return False
    return depth == 0


def _bound_memory() -> None:
    # There are systems without that bound, or with a lower one.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _say(told: dict[str, bool]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
