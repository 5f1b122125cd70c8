"""Runs whose rules a judge verifies over HTTP: what is learned, what is paid for, what happens when it dies."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from tests.e2e.training import kill, lines, run, start, tiny_policy, wait_for, write_recipe
from tests.fakes.openai_server import FakeServer

pytestmark = pytest.mark.e2e

COUNTS = (12, 16, 20, 24)
"""The letters that the rules ask for; an untrained policy's answer has about fourteen."""


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


def judged_recipe(folder: Path, policy: Path, url: str, further: dict[str, Any] | None = None, **training: Any) -> Path:
    rules = [{"id": f"e{count}", "text": f"e {count} times or more"} for count in COUNTS]
    further = further or {}
    (folder / "rules.json").write_text(json.dumps({"rules": rules}))
    judge = {"type": "openai", "urls": [url], "model": "fake", "cache": str(folder / "answers.sqlite"), "timeout_s": 5}
    return write_recipe(
        folder,
        policy,
        judges={"verifier": judge},
        rewards={"rules": {"type": "rules", "judge": "verifier", "rules": str(folder / "rules.json")}, **further},
        objective={"type": "weighted_sum", "weights": dict.fromkeys(("rules", *further), 1)},
        training={"max_completion_length": 16, "save_strategy": "no", **training},
    )


def indifferent_model(folder: Path, policy: Path) -> Path:
    """A reward model that gives every conversation the same logit."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(policy, num_labels=1)
    torch.nn.init.zeros_(model.score.weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(policy).save_pretrained(folder)
    return folder


def test_a_policy_learns_what_the_judge_rewards(tmp_path: Path, policy: Path) -> None:
    preference = {"type": "reward_model", "model": str(indifferent_model(tmp_path / "indifferent", policy))}
    # Among all 49,152 tokens a random policy would look for a letter far longer than among the likeliest twenty.
    training = {"max_steps": 20, "per_device_train_batch_size": 16, "num_generations": 8, "top_k": 20}
    training |= {"learning_rate": 5e-3, "beta": 0.001}
    with FakeServer(letter_judge) as server:
        recipe = judged_recipe(tmp_path, policy, server.url, {"preference": preference}, **training)
        code, output = run(tmp_path, recipe)
    assert code == 0, output
    logged = [line for line in lines(tmp_path / "runs/run/metrics.jsonl") if "loss" in line]
    rewards = [line["reward"] for line in logged]
    assert mean(rewards[:2]) < 0.6 and mean(rewards[-5:]) > mean(rewards[:2]) + 0.3, rewards
    for line in logged:
        assert line["rewards/preference/value"] == 0
        assert line["reward"] == pytest.approx(line["rewards/rules/value"], abs=1e-6)
        for key in (
            "rewards/rules/verdicts_failed",
            "completions/mean_length",
            "completions/clipped_ratio",
            "unscored",
        ):
            assert key in line
        shares = [line[f"rewards/rules/rule/e{count}"] for count in COUNTS]
        assert mean(shares) == pytest.approx(line["rewards/rules/satisfied"], abs=1e-6)
    assert logged[0]["kl"] == pytest.approx(0, abs=1e-6) and logged[-1]["kl"] > 0


def test_two_ranks_are_judged_beside_a_rollout_as_after_it(tmp_path: Path, policy: Path) -> None:
    asked, logged = [], []
    for overlap in (True, False):
        folder = tmp_path / str(overlap)
        folder.mkdir()
        with FakeServer(letter_judge, keep_bodies=True) as server:
            training = {"max_steps": 3, "gradient_accumulation_steps": 2, "beta": 0.1, "learning_rate": 5e-3}
            recipe = judged_recipe(folder, policy, server.url, **training)
            code, output = run(folder, recipe, f"overlap={overlap}", ranks=2)
        assert code == 0, output
        asked.append({json.dumps(body["messages"]) for body in server.bodies})
        logged.append(lines(folder / "runs/run/completions.jsonl"))
        told = [line for line in lines(folder / "runs/run/metrics.jsonl") if "loss" in line]
        assert all(line.get("time/overlapped_s", 0) > 0 for line in told) == overlap
        assert all(line.get("overlap/rescored", 0) == 0 for line in told)
    assert logged[0] == logged[1] and len(logged[0]) == 3 * 2 * 2 * 4
    assert asked[0] == asked[1] and len(asked[0]) > 3 * 16


def test_a_resumed_run_pays_for_no_verdict_twice(tmp_path: Path, policy: Path) -> None:
    with FakeServer(letter_judge) as server:
        recipe = judged_recipe(tmp_path, policy, server.url, max_steps=20, save_strategy="steps", save_steps=5)
        process = start(tmp_path, recipe)
        wait_for(tmp_path / "runs/run/checkpoints/checkpoint-5/complete", process)
        kill(process)
        paid = server.counts["answered"]
        done = len(lines(tmp_path / "runs/run/completions.jsonl"))
        code, output = run(tmp_path, recipe, "--resume", "auto")
        assert code == 0, output
        logged = lines(tmp_path / "runs/run/completions.jsonl")
        distinct = {(json.dumps(line["prompt"]), line["completion"]) for line in logged}
        assert len(logged) == 80 > done
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
