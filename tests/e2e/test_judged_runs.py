"""Runs whose rules a judge verifies over HTTP: what is learned, what is paid for, what happens when it dies."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from tests.e2e.training import kill, lines, run, start, tiny_policy, wait_for, write_recipe
from tests.fakes.openai_server import FakeServer

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("policy"))


def letter_judge(request: dict[str, Any]) -> str:
    """Says Yes where the answer has at least as many of a letter as the rule asks for."""
    prompt = request["messages"][0]["content"]
    if "The rule:" not in prompt:
        return "Yes"  # The canary question at a run's start.
    answer = prompt.partition("to be checked:\n")[2].partition("The rule:")[0]
    letter, count = prompt.partition("The rule:\n")[2].split()[:2]
    return "Yes" if answer.count(letter) >= int(count) else "No"


def judged_recipe(folder: Path, policy: Path, url: str, **training: Any) -> Path:
    rules = [{"id": f"e{count}", "text": f"e {count} times or more"} for count in (2, 4, 6, 8)]
    (folder / "rules.json").write_text(json.dumps({"rules": rules}))
    judge = {"type": "openai", "urls": [url], "model": "fake", "cache": str(folder / "answers.sqlite"), "timeout_s": 5}
    return write_recipe(
        folder,
        policy,
        judges={"verifier": judge},
        rewards={"rules": {"type": "rules", "judge": "verifier", "rules": str(folder / "rules.json")}},
        objective={"type": "weighted_sum", "weights": {"rules": 1}},
        training={"max_completion_length": 16, "save_strategy": "no", **training},
    )


def test_a_policy_learns_what_the_judge_rewards(tmp_path: Path, policy: Path) -> None:
    with FakeServer(letter_judge) as server:
        recipe = judged_recipe(
            tmp_path, policy, server.url, max_steps=100, per_device_train_batch_size=16, learning_rate=5e-3, beta=0.001
        )
        code, output = run(tmp_path, recipe)
    assert code == 0, output
    logged = [line for line in lines(tmp_path / "runs/run/metrics.jsonl") if "loss" in line]
    rewards = [line["reward"] for line in logged]
    assert mean(rewards[-15:]) > mean(rewards[:15]) + 0.2, rewards
    for key in ("reward", "rewards/rules/value", "rewards/rules/rule/e2", "completions/mean_length", "kl", "unscored"):
        assert key in logged[-1]
    assert logged[0]["kl"] == pytest.approx(0, abs=1e-6) and logged[-1]["kl"] > 0


def test_a_resumed_run_pays_for_no_verdict_twice(tmp_path: Path, policy: Path) -> None:
    with FakeServer(letter_judge) as server:
        recipe = judged_recipe(tmp_path, policy, server.url, max_steps=40, save_strategy="steps", save_steps=10)
        process = start(tmp_path, recipe)
        wait_for(tmp_path / "runs/run/checkpoints/checkpoint-10/complete", process)
        kill(process)
        paid = server.counts["answered"]
        done = len(lines(tmp_path / "runs/run/completions.jsonl"))
        code, output = run(tmp_path, recipe, "--resume", "auto")
        assert code == 0, output
        logged = lines(tmp_path / "runs/run/completions.jsonl")
        distinct = {(json.dumps(line["prompt"]), line["completion"]) for line in logged}
        assert len(logged) == 160 > done
        # Four rules a distinct completion, one canary question at each of the two starts.
        assert server.counts["answered"] == 4 * len(distinct) + 2
        assert server.counts["answered"] > paid


def test_a_judge_that_is_down_at_the_start_is_named_with_its_url(tmp_path: Path, policy: Path) -> None:
    recipe = judged_recipe(tmp_path, policy, "http://127.0.0.1:9/v1")
    code, output = run(tmp_path, recipe)
    assert code == 1
    assert "judges.verifier: the judge does not answer" in output and "http://127.0.0.1:9/v1" in output
    assert not (tmp_path / "runs").exists()


def test_a_judge_that_dies_in_mid_run_stops_it(tmp_path: Path, policy: Path) -> None:
    with FakeServer(letter_judge) as server:
        recipe = judged_recipe(tmp_path, policy, server.url, max_steps=10_000)
        process = start(tmp_path, recipe)
        wait_for(tmp_path / "runs/run/completions.jsonl", process)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "has no required score" in output and "judge verifier" in output and server.url in output
    assert all(line["reward"] is not None for line in lines(tmp_path / "runs/run/completions.jsonl"))
