"""The life of a server: how it starts, what is said when it does not, and that nothing of it outlives its starter."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI
from pydantic import ValidationError

from rlrules.engines import vllm
from rlrules.engines.vllm import VllmConfig, VllmServer
from rlrules.errors import EngineError, ModelError

TREE = ("root", "child", "orphan")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An interpreter that fakes vLLM; whatever a failing test leaves of it is ended."""
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!{sys.executable}\n" + Path(__file__).with_name("fake_interpreter.py").read_text())
    interpreter.chmod(0o755)
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    monkeypatch.setenv("FAKE_VLLM", "serve")
    monkeypatch.setattr(vllm, "_GRACE_S", 0.5)
    yield interpreter
    for file in tmp_path.glob("*.json"):
        if psutil.pid_exists(pid := json.loads(file.read_text())["pid"]):
            os.kill(pid, signal.SIGKILL)


def server(interpreter: Path, **fields: Any) -> VllmServer:
    config = VllmConfig(**{"model": "some/model", "python": interpreter, "start_timeout_s": 30, **fields})
    return VllmServer(config, interpreter.with_name("server.log"))


def recorded(folder: Path, name: str) -> dict[str, Any]:
    """What a process of the fake wrote of itself."""
    wait_until((folder / f"{name}.json").exists)
    record: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return record


def wait_until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_stop_ends_the_whole_tree_and_may_be_repeated(fake: Path) -> None:
    with server(fake) as running:
        assert running.running
        assert running.url == f"http://127.0.0.1:{running.port}/v1"
        pids = [recorded(fake.parent, name)["pid"] for name in TREE]
        scratch = Path(recorded(fake.parent, "root")["env"]["TMPDIR"])
        assert (scratch / "socket").exists()
    assert all(ended(pid) for pid in pids)
    assert not scratch.exists()
    assert not running.running
    running.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_starter_that_is_killed(fake: Path, number: signal.Signals) -> None:
    code = f"""
        import time
        from pathlib import Path
        from rlrules.engines import vllm
        vllm._GRACE_S = 0.5
        config = vllm.VllmConfig(model="some/model", python={str(fake)!r})
        with vllm.VllmServer(config, Path({str(fake.with_name("server.log"))!r})):
            print("ready", flush=True)
            time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"ready\n"
        pids = [recorded(fake.parent, name)["pid"] for name in TREE]
        starter.send_signal(number)
    wait_until(lambda: all(ended(pid) for pid in pids))


def test_the_server_ends_when_its_supervisor_is_killed(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "alone")
    with server(fake) as running:
        root = psutil.Process(recorded(fake.parent, "root")["pid"])
        supervisor = root.parent()
        assert supervisor is not None
        supervisor.kill()
        wait_until(lambda: ended(root.pid) and not running.running)
        with pytest.raises(EngineError, match="ended with status"):
            running.check()


def test_a_server_that_dies_takes_its_tree_along(fake: Path) -> None:
    with server(fake) as running:
        running.check()
        pids = [recorded(fake.parent, name)["pid"] for name in TREE]
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: not running.running)
        assert all(ended(pid) for pid in pids)
        with pytest.raises(EngineError, match="ended with status 137"):
            running.check()


def test_a_failing_start_shows_the_end_of_the_log(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "crash")
    broken = server(fake)
    with pytest.raises(EngineError) as caught:
        broken.start()
    first, *tail = str(caught.value).splitlines()
    assert first == (
        f"vLLM server for 'some/model' ended with status 3 before it answered; log: {fake.with_name('server.log')}"
    )
    assert tail == ["ValueError: no such weights"]
    assert not broken.running


def test_a_silent_start_is_given_up(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "silent")
    with pytest.raises(EngineError, match="did not answer within start_timeout_s=1 seconds"):
        server(fake, start_timeout_s=1).start()
    assert ended(recorded(fake.parent, "root")["pid"])


def test_what_the_server_is_told(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "alone")
    for name in ("RANK", "MASTER_PORT", "OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    fields = {"model": str(fake.parent), "served_model_name": "judge", "kv_cache_gib": 3}
    with server(fake, **fields, max_model_len=512, extra_args=["--block-size=64"]):
        record = recorded(fake.parent, "root")
    arguments, environment = record["argv"], record["env"]
    assert {f"--model={fake.parent}", "--served-model-name=judge", "--max-model-len=512"} <= set(arguments)
    assert "--logprobs-mode=processed_logprobs" in arguments
    assert "--enable-prefix-caching" in arguments
    assert arguments.index("--block-size=32") < arguments.index("--block-size=64") == len(arguments) - 1
    assert not {"RANK", "MASTER_PORT", "OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID"} & set(environment)
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "3"
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE", "what the user has set stays"
    assert environment["HF_HUB_OFFLINE"] == "1", "a folder needs no hub"


def test_gpu_builds_keep_their_own_defaults(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "alone")
    monkeypatch.setenv("FAKE_BUILD", "vllm==0.31.0")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with server(fake):
        record = recorded(fake.parent, "root")
    assert not {"--block-size=32", "--enforce-eager", "--enable-lora"} & set(record["argv"])
    assert "VLLM_SERVER_DEV_MODE" not in record["env"]
    assert "--served-model-name=some/model" in record["argv"]
    assert not {"VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE", "HF_HUB_OFFLINE"} & set(record["env"])


@pytest.mark.parametrize("sync", ["lora", "full"])
def test_what_a_server_for_a_policy_in_training_is_told(fake: Path, monkeypatch: pytest.MonkeyPatch, sync: str) -> None:
    monkeypatch.setenv("FAKE_VLLM", "alone")
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    with server(fake, policy=sync, **({"max_lora_rank": 16} if sync == "lora" else {})):
        record = recorded(fake.parent, "root")
    arguments, environment = record["argv"], record["env"]
    assert "--logprobs-mode=processed_logprobs" in arguments
    assert environment["VLLM_SERVER_DEV_MODE"] == "1"
    if sync == "lora":
        assert {"--enable-lora", "--max-lora-rank=16", "--max-loras=2"} <= set(arguments)
        assert environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
        return
    assert "--worker-extension-cls=rlrules_policy_worker.PolicyWorker" in arguments
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in environment
    first, *others = environment["PYTHONPATH"].split(os.pathsep)
    # The folder of one file, and not this package's: what else is in its environment is not the server's.
    assert [path.name for path in Path(first).glob("*.py")] != [] and (
        Path(first) / "rlrules_policy_worker.py"
    ).exists()
    assert not (Path(first) / "rlrules").exists() and others == ["/of/the/user"]


def test_a_start_that_cannot_work_is_refused_at_once(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="'nowhere/python' does not exist; run `make install`"):
        server(fake, python=Path("nowhere/python")).start()
    with pytest.raises(ModelError, match="package 'no_such_package' is not installed"):
        server(fake, model="package:no_such_package/m.gguf").start()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EngineError, match=rf"port: 127.0.0.1:{port} cannot be used .*; set another, or 0"):
            server(fake, port=port).start()
    monkeypatch.setenv("FAKE_BUILD", "")
    with pytest.raises(EngineError, match="has no vLLM"):
        server(fake).start()
    assert not list(fake.parent.glob("*.json"))


def test_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLRULES_SERVE_PYTHON", raising=False)
    assert VllmConfig(model="m").python == Path(".venv-serve/bin/python")
    monkeypatch.setenv("RLRULES_SERVE_PYTHON", "/elsewhere/python")
    assert VllmConfig(model="m").python == Path("/elsewhere/python")
    with pytest.raises(ValidationError, match="max_modellen"):
        VllmConfig.model_validate({"model": "m", "max_modellen": 1})


@pytest.mark.e2e
def test_label_probabilities_of_a_real_server(vllm_server: VllmServer) -> None:
    client = OpenAI(base_url=vllm_server.url, api_key="none")
    response = client.chat.completions.create(
        model=vllm_server.served_model_name,
        messages=[{"role": "user", "content": "Is the sky blue? Answer Yes or No."}],
        max_tokens=1,
        temperature=0,
        logprobs=True,
        top_logprobs=20,
        extra_body={"structured_outputs": {"choice": ["Yes", "No"]}},
    )
    assert response.choices[0].logprobs is not None
    assert response.choices[0].logprobs.content is not None
    top = response.choices[0].logprobs.content[0].top_logprobs
    # The grammar also lets a label begin with a shorter token; tokens that it masks come with -9999.
    possible = {entry.token: math.exp(entry.logprob) for entry in top if entry.logprob > -9999}
    assert all("Yes".startswith(token) or "No".startswith(token) for token in possible)
    assert {"Yes", "No"} <= set(possible)
    assert sum(possible.values()) == pytest.approx(1, abs=1e-3)
