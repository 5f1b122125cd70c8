"""Runs of a tiny policy: one rank and several, resumed, stopped, refused."""

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.training import kill, lines, run, start, tiny_policy, wait_for, write_recipe

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("policy"))


def step_losses(folder: Path) -> list[float]:
    return [line["loss"] for line in lines(folder / "runs/run/metrics.jsonl") if "loss" in line]


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, policy: Path) -> None:
    training = {"max_steps": 24, "steps_per_generation": 2, "save_steps": 4}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    code, output = run(whole, write_recipe(whole, policy, training=training))
    assert code == 0, output

    recipe = write_recipe(broken, policy, training=training)
    process = start(broken, recipe)
    wait_for(broken / "runs/run/checkpoints/checkpoint-4/complete", process)
    kill(process)
    assert not (broken / "runs/run/model").exists(), "the run was over before it was killed"
    # What a kill in mid-write leaves behind: a checkpoint without its end, half a line in a log.
    (broken / "runs/run/checkpoints/checkpoint-9999").mkdir()
    with (broken / "runs/run/metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    code, output = run(broken, recipe, "--resume", "auto")
    assert code == 0, output
    assert "checkpoint-9999 was not written to the end" in output
    assert "going on from" in output

    assert step_losses(broken) == pytest.approx(step_losses(whole), abs=1e-6)
    for key in ("step", "completion", "reward"):
        made = [[line[key] for line in lines(folder / "runs/run/completions.jsonl")] for folder in (whole, broken)]
        assert made[0] == made[1]
    weights = [load_file(folder / "runs/run/model/model.safetensors") for folder in (whole, broken)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_directory_is_never_overwritten(tmp_path: Path, policy: Path) -> None:
    recipe = write_recipe(tmp_path, policy, training={"max_steps": 1})
    (tmp_path / "runs/run").mkdir(parents=True)
    (tmp_path / "runs/run/precious").touch()
    code, output = run(tmp_path, recipe)
    assert code == 1
    assert "runs/run exists: continue it with --resume auto" in output
    assert "rlrules/training/run.py" not in output, "an expected error came with a traceback"
    assert [path.name for path in (tmp_path / "runs/run").iterdir()] == ["precious"]


def test_sigterm_saves_and_stops(tmp_path: Path, policy: Path) -> None:
    recipe = write_recipe(tmp_path, policy, training={"max_steps": 10_000, "save_steps": 5_000})
    process = start(tmp_path, recipe)
    metrics = tmp_path / "runs/run/metrics.jsonl"
    wait_for(metrics, process)
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    [checkpoint] = (tmp_path / "runs/run/checkpoints").glob("checkpoint-*")
    assert (checkpoint / "complete").exists(), output
    step = int(checkpoint.name.partition("-")[2])
    code, output = run(tmp_path, recipe, f"training.max_steps={step + 2}", "--resume", "auto")
    assert code == 0, output
    assert [line["step"] for line in lines(metrics) if "loss" in line] == list(range(1, step + 3))


def test_two_ranks_share_the_work(tmp_path: Path, policy: Path) -> None:
    recipe = write_recipe(tmp_path, policy, training={"max_steps": 2})
    code, output = run(tmp_path, recipe, ranks=2)
    assert code == 0, output
    assert "2 ranks; a rollout is 2 groups of 4, 1 on each rank" in output
    logged = lines(tmp_path / "runs/run/completions.jsonl")
    assert len(logged) == 16
    groups = {line["group"] for line in logged}
    assert groups == {f"train-{step}-{rank}-0" for step in (1, 2) for rank in (0, 1)}
    for name in groups:
        group = [line for line in logged if line["group"] == name]
        assert len({json.dumps(line["prompt"]) for line in group}) == 1
        assert sum(line["advantage"] for line in group) == pytest.approx(0, abs=1e-6)
    metrics = [line for line in lines(tmp_path / "runs/run/metrics.jsonl") if "loss" in line]
    for line in metrics:
        rewards = [entry["reward"] for entry in logged if entry["step"] == line["step"]]
        assert line["reward"] == pytest.approx(sum(rewards) / len(rewards), abs=1e-6)


def test_an_error_on_one_rank_stops_all_and_is_said_once(tmp_path: Path, policy: Path) -> None:
    rewards = {"bad": {"type": "tests.e2e.scorers:FailsOnRank", "rank": 1}}
    objective = {"type": "weighted_sum", "weights": {"bad": 1}, "max_unscored": 0.1}
    recipe = write_recipe(tmp_path, policy, rewards=rewards, objective=objective)
    started = time.monotonic()
    code, output = run(tmp_path, recipe, ranks=2)
    assert code == 1
    assert output.count("50.0% of this batch has no required score") == 1, output
    assert "no luck on rank 1" in output
    assert time.monotonic() - started < 120


@pytest.mark.parametrize("config", ["zero2", "zero3"])
def test_deepspeed_on_two_ranks(tmp_path: Path, policy: Path, config: str) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install 'rlrules[deepspeed]'")
    training = {"max_steps": 2, "bf16": True, "use_cpu": True, "save_strategy": "no"}
    code, output = run(tmp_path, write_recipe(tmp_path, policy, training=training), ranks=2, config=config)
    assert code == 0, output
    assert "2 ranks" in output
    before, after = load_file(policy / "model.safetensors"), load_file(tmp_path / "runs/run/model/model.safetensors")
    assert any(not torch.equal(before[name].float(), after[name].float()) for name in before)


def test_lora_trains_adapters_only(tmp_path: Path, policy: Path) -> None:
    model = {"name": str(policy), "peft": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}}
    code, output = run(tmp_path, write_recipe(tmp_path, policy, model=model, training={"max_steps": 2}))
    assert code == 0, output
    saved = load_file(tmp_path / "runs/run/model/adapter_model.safetensors")
    assert saved and all("lora_" in name for name in saved)
    assert any(float(tensor.abs().max()) > 0 for name, tensor in saved.items() if "lora_B" in name)
