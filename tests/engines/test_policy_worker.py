"""What a worker does when weights are put in; vLLM itself is in another environment, and is stood in for."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rlrules.engines.policy import WORKER_FOLDER, policy_arguments
from rlrules.engines.worker.rlrules_policy_worker import PolicyWorker


class Worker(PolicyWorker):
    """Does as vLLM's: a path that is reloaded becomes the model's own."""

    def __init__(self, head: Any = None) -> None:
        self.vllm_config = SimpleNamespace(model_config=SimpleNamespace(model="/base"))
        self.model_runner = SimpleNamespace(get_model=lambda: SimpleNamespace(lm_head=head))
        self.loaded: list[str] = []
        self.reload_weights = self._reload_weights
        self.fails = False

    def _reload_weights(self, weights_path: str) -> None:
        self.vllm_config.model_config.model = weights_path
        self.loaded.append(weights_path)
        if self.fails:
            raise RuntimeError("half of them are in")


def test_a_version_is_loaded_once_and_told_of(tmp_path: Path) -> None:
    worker = Worker()
    assert worker.policy_weights()["version"] == ""
    for number, loaded in ((1, True), (1, False), (2, True)):
        told = worker.load_policy(folder=str(tmp_path), version=f"run-{number}")
        assert told == worker.policy_weights() | ({"loaded": True} if loaded else {})
        assert told["version"] == f"run-{number}"
    assert worker.loaded == [str(tmp_path)] * 2
    assert worker.restore_policy()["version"] == ""
    assert worker.loaded[2:] == ["/base"], "the base is what the server was started with"


def test_a_folder_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    worker = Worker()
    worker.load_policy(str(tmp_path), "run-1")
    told = worker.load_policy(str(tmp_path / "no"), "run-2")
    assert told["problem"] == f"{tmp_path / 'no'} does not exist where the server runs"
    assert told["version"] == "run-1" and worker.loaded == [str(tmp_path)]


def test_a_load_that_fails_leaves_no_version(tmp_path: Path) -> None:
    worker = Worker()
    worker.load_policy(str(tmp_path), "run-1")
    worker.fails = True
    with pytest.raises(RuntimeError):
        worker.load_policy(str(tmp_path), "run-2")
    assert worker.policy_weights()["version"] == ""


def test_a_packed_head_is_packed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[tuple[Any, bool]] = []
    utils = ModuleType("vllm.model_executor.layers.utils")
    utils.dispatch_cpu_unquantized_gemm = lambda head, remove_weight: packed.append((head, remove_weight))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm.model_executor.layers.utils", utils)
    head = SimpleNamespace(cpu_linear=None)
    worker = Worker(head)
    worker.load_policy(str(tmp_path), "run-1")
    worker.restore_policy()
    assert packed == [(head, False)] * 2
    Worker(SimpleNamespace()).load_policy(str(tmp_path), "run-1")
    assert len(packed) == 2, "on a GPU there is no packed copy"


def test_it_is_found_by_its_folder_alone() -> None:
    module, _, name = policy_arguments("full")[0].partition("=")[2].rpartition(".")
    code = (
        f"import sys; sys.path.insert(0, {str(WORKER_FOLDER)!r}); from {module} import {name}; print({name}.__name__)"
    )
    code += "; assert not [m for m in sys.modules if m.startswith(('rlrules.', 'torch', 'pydantic'))]"
    told = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "PolicyWorker"
