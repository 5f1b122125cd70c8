"""Rollouts on a real vLLM server over HTTP: what it serves is what is trained, whatever happens to it."""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from rlrules.engines.vllm import VllmConfig, VllmServer
from rlrules.models import DEFAULT_MODEL
from tests.e2e.serving import counted
from tests.e2e.training import EMBEDDED, lines, run, start, tiny_policy, wait_for, write_recipe
from tests.fakes.policy_server import FakePolicyServer, completion

pytestmark = pytest.mark.e2e

GAP = "sampling/sampling_logp_difference/max"
PEFT = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
# In float32, as the server is: the launcher's configurations of DeepSpeed are bfloat16's.
ZERO2 = {
    "zero_optimization": {"stage": 2},
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
}
SMALL = {"model": DEFAULT_MODEL, "dtype": "float32", "max_model_len": 256, "kv_cache_gib": 1}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    config = VllmConfig(**SMALL, policy="lora", max_lora_rank=8)  # type: ignore[arg-type]
    with VllmServer(config, tmp_path_factory.mktemp("lora") / "server.log") as server:
        yield server


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    with VllmServer(VllmConfig(**SMALL, policy="full"), tmp_path_factory.mktemp("full") / "server.log") as server:  # type: ignore[arg-type]
        yield server


def served_recipe(
    folder: Path, server: VllmServer, sync: str, model: dict[str, Any] | None = None, **training: Any
) -> Path:
    """Four completions of up to 16 tokens a step, at a rate at which a server left behind by one step would show."""
    model = model or {"name": EMBEDDED, **({"peft": PEFT} if sync == "lora" else {})}
    fixed = {"max_completion_length": 16, "save_strategy": "no", "beta": 1e-3}
    rate = 1e-3 if sync == "lora" else 1e-4
    return write_recipe(
        folder,
        Path(EMBEDDED),
        model=model,
        rollouts={"urls": [server.url], "sync": sync, "timeout_s": 240},
        training={**fixed, "learning_rate": rate, "lr_scheduler_type": "constant", **training},
    )


def steps(folder: Path) -> list[dict[str, Any]]:
    return [line for line in lines(folder / "runs/run/metrics.jsonl") if "loss" in line]


def answer(server: VllmServer) -> list[float]:
    """Log-probabilities that the server's own model gives its likeliest tokens."""
    body = {"model": server.served_model_name, "prompt": [1, 2, 3, 4], "max_tokens": 8, "temperature": 0, "logprobs": 0}
    request = urllib.request.Request(
        f"{server.url}/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        logprobs: list[float] = json.load(reply)["choices"][0]["logprobs"]["token_logprobs"]
    return logprobs


def told_models(server: VllmServer) -> list[str]:
    with urllib.request.urlopen(f"{server.url}/models") as reply:
        return [model["id"] for model in json.load(reply)["data"]]


def restarted(server: VllmServer) -> None:
    """Kill all of its processes and start it again in its place."""
    assert server._process is not None
    for process in psutil.Process(server._process.pid).children(recursive=True):
        process.kill()
    port = server.port
    server.stop()
    server.config = server.config.model_copy(update={"port": port})
    server.start()


def test_adapters_follow_the_policy_and_survive_a_killed_server(adapters: VllmServer, tmp_path: Path) -> None:
    before = counted(adapters, "request_success_total")
    process = start(tmp_path, served_recipe(tmp_path, adapters, "lora", max_steps=7))
    wait_for(tmp_path / "runs/run/metrics.jsonl", process)
    while len(steps(tmp_path)) < 2:
        time.sleep(0.05)
    assert counted(adapters, "request_success_total") - before >= 8
    restarted(adapters)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    logged = steps(tmp_path)
    assert [line["step"] for line in logged] == list(range(1, 8))
    assert all(line[GAP] < 1e-4 for line in logged), [line[GAP] for line in logged]
    # Once a version, and once more after the restart, unless it hit the moment between two versions.
    assert sum(line["rollouts/loads"] for line in logged) in (7, 8)
    assert logged[-1]["kl"] > 1e-3, "the policy has not moved: a server left behind would not show"
    assert len(lines(tmp_path / "runs/run/completions.jsonl")) == 28
    assert told_models(adapters) == [adapters.served_model_name]
    assert list((tmp_path / "runs/run/policy").iterdir()) == []


def test_all_weights_follow_the_policy_and_the_server_gets_its_own_back(weights: VllmServer, tmp_path: Path) -> None:
    before = answer(weights)
    code, output = run(tmp_path, served_recipe(tmp_path, weights, "full", max_steps=5))
    assert code == 0, output
    logged = steps(tmp_path)
    assert len(logged) == 5 and all(line[GAP] < 1e-4 for line in logged), [line[GAP] for line in logged]
    assert [line["rollouts/loads"] for line in logged] == [1] * 5
    assert logged[-1]["kl"] > 1e-3, "the policy has not moved: a server left behind would not show"
    assert answer(weights) == pytest.approx(before, abs=1e-5)


def on_two_ranks(folder: Path, server: VllmServer, sync: str, **changes: Any) -> list[dict[str, Any]]:
    """The steps of a run under ZeRO-2, each rank of which asked for its own four rows a step."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install 'rlrules[deepspeed]'")
    before = counted(server, "request_success_total")
    recipe = served_recipe(folder, server, sync, **{"max_steps": 4, "deepspeed": ZERO2, **changes})
    code, output = run(folder, recipe, ranks=2)
    assert code == 0, output
    assert counted(server, "request_success_total") - before == 4 * 2 * 4
    assert len(lines(folder / "runs/run/completions.jsonl")) == 4 * 2 * 4
    return steps(folder)


def test_two_ranks_with_adapters(adapters: VllmServer, tmp_path: Path) -> None:
    logged = on_two_ranks(tmp_path, adapters, "lora")
    assert len(logged) == 4 and all(line[GAP] < 1e-4 for line in logged), [line[GAP] for line in logged]
    assert logged[-1]["kl"] > 1e-3


def test_two_ranks_with_all_weights(tmp_path: Path) -> None:
    # Small heads are none of vLLM's.
    policy = tiny_policy(tmp_path / "policy", hidden=128)
    config = VllmConfig(**{**SMALL, "model": str(policy)}, policy="full")  # type: ignore[arg-type]
    with VllmServer(config, tmp_path / "server.log") as server:
        logged = on_two_ranks(tmp_path, server, "full", model={"name": str(policy)}, learning_rate=1e-2)
        assert len(logged) == 4 and all(line[GAP] < 1e-4 for line in logged), [line[GAP] for line in logged]
        assert logged[-1]["kl"] > 1e-3
        # Of two ranks that bring the same version one has it loaded.
        assert [line["rollouts/loads"] for line in logged] == [0.5] * 4


@pytest.mark.parametrize("sync", ["lora", "full"])
def test_under_zero3_whole_weights_are_sent(sync: str, tmp_path: Path) -> None:
    """A rank holds a part of each weight; what a server got at a step is what the last step's checkpoint holds."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install 'rlrules[deepspeed]'")
    policy, file = tiny_policy(tmp_path / "policy"), "adapter_model" if sync == "lora" else "model"
    versions: dict[str, dict[str, torch.Tensor]] = {}

    def keep(body: dict[str, Any], number: int) -> Any:
        [version] = (tmp_path / "shared").glob("rlrules-*")
        if version.name not in versions:
            versions[version.name] = load_file(version / f"{file}.safetensors")
        # Completions that differ, or there would be nothing to learn.
        return 200, completion(list(range(300 + 20 * number, 316 + 20 * number)), [-10.8] * 16)

    with FakePolicyServer(sync, meddle=keep) as fake:
        recipe = write_recipe(
            tmp_path,
            policy,
            model={"name": str(policy), **({"peft": PEFT} if sync == "lora" else {})},
            rollouts={"urls": [fake.url], "sync": sync, "shared_dir": str(tmp_path / "shared")},
            training={"max_steps": 2, "learning_rate": 1e-2, "bf16": True, "use_cpu": True},
        )
        code, output = run(tmp_path, recipe, ranks=2, config="zero3")
        assert code == 0, output
        assert (fake.counts["/v1/completions"], fake.adapters, fake.version) == (16, {}, "")
    assert [name.rpartition("-")[2] for name in versions] == ["1", "2"]
    first, second = versions.values()
    trained = load_file(tmp_path / f"runs/run/checkpoints/checkpoint-1/{file}.safetensors")
    assert set(first) == set(second) == set(trained)
    assert all(torch.equal(second[name], trained[name]) for name in trained)
    assert any(not torch.equal(second[name], first[name]) for name in trained)
