"""Sampling by domain in real runs: the closed form, no lag, a killed run resumed, two ranks."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlrules.training.domain_weights import apportion
from tests.e2e.training import kill, lines, run, start, tiny_policy, wait_for, write_recipe

pytestmark = pytest.mark.e2e

# Domain: how many of its rows are solved, out of five.
PLANTED = {"easy": 5, "hard": 1, "middle": 3}
SAMPLING = {"type": "domain_aware", "signal": "planted", "alpha": 0.5, "temperature": 0.5, "epsilon": 0.1}
TRAINING = {
    "per_device_train_batch_size": 8,
    "steps_per_generation": 2,
    "num_generations": 2,
    "max_completion_length": 4,
    "max_steps": 8,
    "save_steps": 4,
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("policy"))


def recipe(folder: Path, policy: Path, **training: Any) -> Path:
    """A mixture of three domains whose rows are solved or not, with a reward beside that moves the policy."""
    folder.mkdir(exist_ok=True)
    rows = [
        {"prompt": f"Question {number} of {domain}?", "domain": domain, "solved": int(number < solved)}
        for domain, solved in PLANTED.items()
        for number in range(5)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return write_recipe(
        folder,
        policy,
        data={"train": {"type": "prompts", "path": str(folder / "rows.jsonl")}},
        rewards={
            "planted": {"type": "tests.e2e.scorers:Planted"},
            "letters": {"type": "tests.e2e.scorers:Letters"},
        },
        objective={"type": "weighted_sum", "weights": {"letters": 1}},
        sampling=SAMPLING,
        training=TRAINING | training,
    )


def rollouts(folder: Path) -> list[dict[str, Any]]:
    """Of each rollout: what was logged by domain, and the prompts of its completions, in order."""
    logged = {line["step"]: line for line in lines(folder / "runs/run/metrics.jsonl") if "loss" in line}
    made: dict[int, list[dict[str, Any]]] = {}
    for line in lines(folder / "runs/run/completions.jsonl"):
        made.setdefault(line["step"], []).append(line)
    found: list[dict[str, Any]] = []
    for step, rows in made.items():
        domains = {key[8:]: value for key, value in logged[step].items() if key.startswith("domains/")}
        found.append({"step": step, "rows": rows, "prompts": [json.dumps(row["prompt"]) for row in rows], **domains})
    return found


def assert_closed_form(found: list[dict[str, Any]], prompts: int) -> None:
    """Each rollout's weights follow from the one before, and its completions from its weights."""
    smoothed, drawn = dict.fromkeys(PLANTED, 0.0), [0] * len(PLANTED)
    for rollout in found:
        raw = {domain: math.exp((1 - mean) / 0.5) + 0.1 for domain, mean in smoothed.items()}
        weights = {domain: share / sum(raw.values()) for domain, share in raw.items()}
        assert {domain: rollout[f"{domain}/weight"] for domain in PLANTED} == pytest.approx(weights, abs=1e-6)
        counts = apportion(list(weights.values()), prompts, 1, drawn)
        drawn = [before + count for before, count in zip(drawn, counts, strict=True)]
        by_domain = Counter(row["domain"] for row in rollout["rows"])
        assert [by_domain[domain] / 2 for domain in PLANTED] == counts
        assert [rollout[f"{domain}/count"] for domain in PLANTED] == counts
        for domain in PLANTED:
            scores = [row["scores"]["planted"] for row in rollout["rows"] if row["domain"] == domain]
            assert rollout[f"{domain}/reward"] == pytest.approx(sum(scores) / len(scores), abs=1e-6)
            smoothed[domain] = 0.5 * smoothed[domain] + 0.5 * sum(scores) / len(scores)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, policy: Path) -> list[dict[str, Any]]:
    """The rollouts of a run on one rank that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    code, output = run(folder, recipe(folder, policy, max_steps=20))
    assert code == 0, output
    return rollouts(folder)


def of_domains(rollout: dict[str, Any], part: str = "") -> dict[str, Any]:
    return {key: value for key, value in rollout.items() if "/" in key and key.endswith(part)}


def test_weights_follow_the_closed_form(whole: list[dict[str, Any]]) -> None:
    assert [rollout["step"] for rollout in whole] == list(range(1, 20, 2))
    assert_closed_form(whole, prompts=8)
    assert len({rollout["hard/weight"] for rollout in whole[:4]}) == 4


def test_killed_and_resumed_draws_the_same(tmp_path: Path, policy: Path, whole: list[dict[str, Any]]) -> None:
    killed = recipe(tmp_path, policy, max_steps=20)
    process = start(tmp_path, killed)
    checkpoint = tmp_path / "runs/run/checkpoints/checkpoint-4"
    wait_for(checkpoint / "complete", process)
    kill(process)
    assert not (tmp_path / "runs/run/model").exists(), "the run was over before it was killed"
    assert json.loads((checkpoint / "states.json").read_text())["sampling"]["rollouts"] == 2
    code, output = run(tmp_path, killed, "--resume", "auto")
    assert code == 0, output
    assert "going on from" in output
    for was, now in zip(whole, rollouts(tmp_path), strict=True):
        assert now["prompts"] == was["prompts"]
        assert of_domains(now, "/weight") == of_domains(was, "/weight")


def test_two_ranks_draw_what_one_rank_draws(tmp_path: Path, policy: Path, whole: list[dict[str, Any]]) -> None:
    halved = recipe(tmp_path, policy, max_steps=4, per_device_train_batch_size=4)
    code, output = run(tmp_path, halved, ranks=2)
    assert code == 0, output
    made = rollouts(tmp_path)
    assert len(made) == 2
    assert_closed_form(made, prompts=8)
    for was, now in zip(whole, made, strict=False):
        # Rank-major order is the drawn order, and the two completions of a prompt stand together.
        assert now["prompts"] == was["prompts"]
        assert now["prompts"][::2] == now["prompts"][1::2]
        assert of_domains(now) == of_domains(was)
