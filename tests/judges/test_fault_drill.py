"""Everything goes wrong at once, and every question still ends as its own verdict or as a typed failure."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rlrules.judges import Judge
from rlrules.judges.verdict import Verdict, ask_verdict
from tests.fakes.openai_server import label_of
from tests.judges.asking import YES_NO, question, served_judge, together

SERVER = Path(__file__).parents[1] / "fakes" / "openai_server.py"
FAULTS = ["--error-share", "0.05", "--hang-share", "0.02", "--malformed-share", "0.01"]
QUESTIONS = 3000


@contextmanager
def endpoint(seed: int) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A server process with faults, and its URL."""
    command = [sys.executable, str(SERVER), "--seed", str(seed), *FAULTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def counts(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/counts", timeout=5) as reply:
        found: dict[str, int] = json.load(reply)
    return found


async def drill(judge: Judge, victim: "subprocess.Popen[str]") -> list[Verdict]:
    """All questions at once; the victim is killed when half of them are answered."""
    answered = 0

    async def ask(number: int) -> Verdict:
        nonlocal answered
        verdict = await ask_verdict(judge, question(f"Question {number}?"))
        answered += 1
        if answered == QUESTIONS // 2:
            victim.kill()
        return verdict

    return await together(ask(number) for number in range(QUESTIONS))


def test_no_fault_makes_a_label_up(tmp_path: Path) -> None:
    with ExitStack() as stack:
        (first, victim), (second, _) = (stack.enter_context(endpoint(seed)) for seed in (1, 2))
        judge = served_judge(first, second, cache=tmp_path / "answers.sqlite", timeout_s=1.5, max_in_flight=32)
        started = time.monotonic()
        found = asyncio.run(asyncio.wait_for(drill(judge, victim), 100))
        seconds = time.monotonic() - started
        survivor = counts(second)

        outcomes = Counter(verdict.outcome for verdict in found)
        failed = outcomes["failed"] / QUESTIONS
        for number, verdict in enumerate(found):
            if verdict.outcome == "value":
                assert verdict.label == label_of(f"Question {number}?", YES_NO)
            else:
                assert verdict.outcome == "failed" and "http://127.0.0.1" in verdict.reason
        assert victim.wait(5) == -9
        assert survivor["answered"] > QUESTIONS * 0.5 and min(survivor[x] for x in ("error", "hang", "malformed")) > 0
        assert judge.usage.asked == QUESTIONS and judge.usage.failed == outcomes["failed"]
        # Four attempts of which one in twelve fails: some 5 in 100,000 questions.
        assert failed <= 0.003
        assert seconds < 60

        # What was answered is kept, under its own question: asked again of the survivor alone, nothing else is sent.
        again = served_judge(second, cache=tmp_path / "answers.sqlite", timeout_s=1.0)
        repeated = asyncio.run(together([ask_verdict(again, question(f"Question {n}?")) for n in range(QUESTIONS)]))
        assert again.usage.cached == outcomes["value"]
        assert all(one == other for one, other in zip(found, repeated, strict=True) if one.outcome == "value")
    print(f"{QUESTIONS} questions in {seconds:.1f} s: {dict(outcomes)}, {judge.usage.retried} retried; {survivor}")
