"""Think-RM's whole chain with small numbers: thoughts sampled, a judge trained on them, served, and a policy trained
on its comparisons. All models are real, and so are both servers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rlrules.engines.vllm import VllmConfig, VllmServer
from rlrules.models import resolve_model
from tests.e2e.training import EMBEDDED, ROOT, lines, run

pytestmark = pytest.mark.e2e

STEPS, GROUP = 2, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chain")
    (made / "data").symlink_to(ROOT / "data")
    return made


def trained(folder: Path, recipe: str, *overrides: str) -> str:
    code, output = run(folder, ROOT / f"recipes/cpu/{recipe}.yaml", "training.save_strategy=no", *overrides)
    assert code == 0, output
    return output


def moved(folder: Path, before: str, after: str) -> list[str]:
    """Names of the weights that training changed."""
    weights = [load_file(Path(name) / "model.safetensors") for name in (before, str(folder / after))]
    assert set(weights[0]) == set(weights[1])
    return [name for name in weights[0] if not torch.equal(weights[0][name].float(), weights[1][name].float())]


@pytest.fixture(scope="module")
def judge(vllm_server: VllmServer, folder: Path) -> str:
    """The folder of a judge that was warmed up and trained by its verdicts."""
    served = [f"judge.urls=[{vllm_server.url}]", f"judge.cache={folder / 'thoughts.sqlite'}", "judge.max_tokens=24"]
    command = [sys.executable, "-m", "rlrules", "data", "think-rm", str(ROOT / "recipes/data/think_rm_cpu.yaml")]
    small = ["samples=2", "data.limit=12"]
    subprocess.run([*command, *served, *small, "-o", "runs/think_rm"], cwd=folder, check=True)
    accepted, skipped = (lines(folder / f"runs/think_rm/{name}.jsonl") for name in ("accepted", "skipped"))
    assert len(accepted) + len(skipped) == 12 and len(accepted) >= 2
    assert len(lines(folder / "runs/think_rm/trajectories.jsonl")) == 24

    told = trained(folder, "think_rm_sft", f"training.max_steps={STEPS}")
    assert f"{len(accepted)} examples" in told or f"{len(accepted)} rows" in told, told
    untrained = resolve_model(EMBEDDED)
    assert moved(folder, untrained, "runs/think_rm_sft/model") == list(load_file(Path(untrained) / "model.safetensors"))

    trained(folder, "think_rm_rl", "training.max_steps=1", "training.max_completion_length=24")
    [line] = [line for line in lines(folder / "runs/think_rm_rl/metrics.jsonl") if "loss" in line]
    assert 0 <= line["rewards/right/value"] <= 1 and line["unscored"] == 0
    return str(folder / "runs/think_rm_rl/model")


def test_a_policy_is_trained_by_the_judge_that_was_trained(judge: str, folder: Path) -> None:
    with VllmServer(VllmConfig(model=judge, max_model_len=4096), folder / "judge.log") as server:
        served = [f"judges.judge.urls=[{server.url}]", f"judges.judge.model={judge}", "judges.judge.max_tokens=24"]
        served += [f"judges.judge.cache={folder / 'verdicts.sqlite'}", "rewards.preference.seeded=true"]
        small = [f"training.max_steps={STEPS}", "training.max_completion_length=24"]
        trained(folder, "pairwise_rlhf", *served, *small)
    logged = [line for line in lines(folder / "runs/pairwise_rlhf/metrics.jsonl") if "loss" in line]
    assert len(logged) == STEPS
    for line in logged:
        assert line["judge/judge/failed"] == 0 and line["unscored"] == 0
        assert 0 <= line["rewards/preference/slot_a_wins"] <= 1
        assert 0 <= line["objective/kappa"] <= 1
        assert line["rewards/preference/thought_tokens"] > 0
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in lines(folder / "runs/pairwise_rlhf/completions.jsonl"):
        groups.setdefault(line["group"], []).append(line)
    assert [len(group) for group in groups.values()] == [GROUP] * (2 * STEPS)
    for group in groups.values():
        assert sum(line["advantage"] for line in group) == pytest.approx(0, abs=1e-6)
        assert [line["advantage"] for line in group] == pytest.approx([line["reward"] for line in group], abs=1e-6)
        assert any(line["advantage"] for line in group)
    assert moved(folder, resolve_model(EMBEDDED), "runs/pairwise_rlhf/model")
