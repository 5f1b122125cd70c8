"""The README's main job, shortened: GRPO on a real model, its rules verified by a real model on a real server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlrules.engines.vllm import VllmServer
from rlrules.models import resolve_model
from tests.e2e.serving import counted
from tests.e2e.training import EMBEDDED, ROOT, lines, run

pytestmark = pytest.mark.e2e

STEPS = 3


def served_requests(server: VllmServer) -> float:
    """Chat completions that vLLM says it has finished."""
    return counted(server, "request_success_total")


@pytest.fixture(scope="module")
def finished(vllm_server: VllmServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of recipes/cpu/autorule.yaml."""
    folder = tmp_path_factory.mktemp("main_job")
    (folder / "data").symlink_to(ROOT / "data")
    before = served_requests(vllm_server)
    overrides = [
        f"judges.verifier.urls=[{vllm_server.url}]",
        f"judges.verifier.cache={folder / 'answers.sqlite'}",
        f"training.max_steps={STEPS}",
        "training.max_completion_length=32",
        f"training.save_steps={STEPS}",
        "training.save_only_model=true",
    ]
    code, output = run(folder, ROOT / "recipes/cpu/autorule.yaml", *overrides)
    assert code == 0, output
    # 8 completions a step and 10 rules; equal completions are asked about once.
    asked = served_requests(vllm_server) - before
    assert STEPS * 8 * 10 * 0.5 <= asked <= STEPS * 8 * 10 + 1, "verdicts must come from vLLM over HTTP"
    return folder


def test_every_parameter_moved(finished: Path) -> None:
    before = load_file(Path(resolve_model(EMBEDDED)) / "model.safetensors")
    after = load_file(finished / "runs/autorule/model/model.safetensors")
    assert set(before) == set(after)
    unmoved = [name for name in before if torch.equal(before[name].float(), after[name].float())]
    assert unmoved == []


def test_report_and_curve_are_there(finished: Path) -> None:
    page = (finished / "runs/autorule/report.html").read_text()
    assert "<svg" in page and "answers-the-question" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://127.0.0.1", "")
    logged = [line for line in lines(finished / "runs/autorule/metrics.jsonl") if "loss" in line]
    assert [line["step"] for line in logged] == list(range(1, STEPS + 1))
    for line in logged:
        assert line["unscored"] == 0
        assert 0 < line["rewards/rules/satisfied"] < 1
        assert line["judge/verifier/calls"] == 80
        assert line["kl"] >= 0


def test_logged_rewards_equal_offline_scoring(finished: Path, vllm_server: VllmServer) -> None:
    run_folder = finished / "runs/autorule"
    command = [sys.executable, "-m", "rlrules", "score", "runs/autorule/recipe.yaml", "runs/autorule/completions.jsonl"]
    before = served_requests(vllm_server)
    subprocess.run([*command, "-o", "scored.jsonl"], cwd=finished, check=True)
    assert served_requests(vllm_server) == before, "what was paid for in training is not paid for again"
    logged, scored = lines(run_folder / "completions.jsonl"), lines(finished / "scored.jsonl")
    assert len(logged) == len(scored) == STEPS * 8
    for one, other in zip(logged, scored, strict=True):
        assert other["reward"] == pytest.approx(one["reward"], abs=1e-6)
        assert other["advantage"] == pytest.approx(one["advantage"], abs=1e-6)
        assert other["scores"] == one["scores"]
        assert set(one["details"]["rules"]["rules"]) == {
            rule["id"] for rule in json.loads((ROOT / "data/rules/assistant.json").read_text())["rules"]
        }
    for step in range(1, STEPS + 1):
        rewards = [line["reward"] for line in logged if line["step"] == step]
        [metrics] = [line for line in lines(run_folder / "metrics.jsonl") if line["step"] == step and "loss" in line]
        assert metrics["reward"] == pytest.approx(sum(rewards) / len(rewards), abs=1e-6)
