"""AlpacaEval and MT-Bench with a real vLLM server of the embedded model: killed in the middle, and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PROMPTS, QUESTIONS = 6, 3


def lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a file that may be being written."""
    text = path.read_text("utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def start(folder: Path, server: Any, name: str, *arguments: str) -> subprocess.Popen[str]:
    parts = [f"{part}.{key}={value}" for part in ("model", "judge") for key, value in (
        ("urls", f"[{server.url}]"), ("model", server.served_model_name), ("cache", folder / "cache"),
    )]  # fmt: skip
    command = [sys.executable, "scripts/evaluate.py", name, f"recipes/eval/{name.replace('-', '_')}_cpu.yaml", *parts]
    command += ["model.max_tokens=24", "resamples=50", *arguments, "-o", str(folder / name), "--json"]
    # One request at a time, so that there is a middle to be killed in.
    command += ["model.max_in_flight=1", "judge.max_in_flight=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def killed_and_run_again(folder: Path, server: Any, name: str, *arguments: str) -> tuple[dict[str, Any], set[str]]:
    """The result of a run that was killed once some answers and a verdict were there, and the keys kept from before."""
    process = start(folder, server, name, *arguments)
    deadline = time.monotonic() + 90
    while len(lines(folder / name / "rows.jsonl")) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = lines(folder / name / "rows.jsonl")
    assert before
    process = start(folder, server, name, *arguments)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(output), {line["key"] for line in before}


def test_alpaca(tmp_path: Path, vllm_server: Any) -> None:
    rows = [
        {"instruction": f"Name a thing that is {colour}.", "output": f"A {colour} door is {colour}.", "dataset": "own"}
        for colour in ("red", "blue", "green", "white", "black", "yellow")
    ]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, before = killed_and_run_again(
        tmp_path, vllm_server, "alpaca", "--eval-set", str(tmp_path / "set.jsonl"), f"limit={PROMPTS}"
    )
    assert found["n_total"] == PROMPTS and found["counts"]["verdicts"]["n_parsed"] == 2 * PROMPTS
    assert 0 <= found["win_rate"] <= 100 and found["orders"]["n_both"] == PROMPTS
    answers, verdicts = (lines(tmp_path / "alpaca" / name) for name in ("answers.jsonl", "rows.jsonl"))
    assert len(answers) == PROMPTS and len(verdicts) == 2 * PROMPTS
    # The answers were whole when it was killed; of the verdicts only what was missing was asked for, beside the probe.
    assert found["usage"]["model"]["asked"] == 0
    assert found["usage"]["judge"]["asked"] == 2 * PROMPTS - len(before) + 2
    assert all(0 < line["data"]["mass"] <= 1.0001 for line in verdicts)
    assert (tmp_path / "alpaca/page.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_mt_bench(tmp_path: Path, vllm_server: Any) -> None:
    rows = [
        {"question_id": number, "category": category, "turns": [f"Write a line about {category}.", "Shorter, please."]}
        for number, category in ((81, "writing"), (111, "math"), (141, "stem"))
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, before = killed_and_run_again(
        tmp_path, vllm_server, "mt-bench", "--questions", str(tmp_path / "questions.jsonl"), f"limit={QUESTIONS}"
    )
    assert found["n_used"] == 2 * QUESTIONS and found["n_failed"] == 0
    assert 1 <= found["turn1"] <= 10 and 1 <= found["turn2"] <= 10
    judgments = lines(tmp_path / "mt-bench/rows.jsonl")
    assert {line["key"] for line in judgments} == {f"{row['question_id']}:0:{turn}" for row in rows for turn in (1, 2)}
    assert len(judgments) == 2 * QUESTIONS
    assert found["usage"]["model"]["asked"] == 0
    assert found["usage"]["judge"]["asked"] == 2 * QUESTIONS - len(before)
