"""`rlrules serve` as a process: what it refuses, its engines, its end."""

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from typer.testing import CliRunner

from rlrules.cli import app as cli
from rlrules.recipe.load import load_recipe
from rlrules.recipe.schema import GrpoRecipe
from rlrules.recipe.served import serving_problems
from tests.engines.test_vllm import ended
from tests.serving.shared import FORM, ROOT, group, judged, post, process, rewards_of, wait_until

GOOD = {"groups": [group("a", "good")]}
ENGINE = 'engines: {{v: {{model: fake, port: {port}, python: "{python}", start_timeout_s: 20}}}}\n'


def refused(tmp_path: Path, recipe: str, *overrides: str) -> str:
    (tmp_path / "r.yaml").write_text(recipe)
    result = CliRunner().invoke(cli, ["serve", str(tmp_path / "r.yaml"), *overrides])
    assert result.exit_code == 2
    return result.output + (result.stderr or "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_an_address_that_others_reach_needs_a_token_or_the_word(tmp_path: Path, host: str) -> None:
    told = refused(tmp_path, FORM, f"server.host={host!r}")
    assert f"server.host: {host} is open to other machines: name a `token_env`" in told
    (tmp_path / "r.yaml").write_text(FORM)
    for allowed in ("server.allow_anonymous=true", "server.token_env=TOKEN"):
        loaded = load_recipe(tmp_path / "r.yaml", [f"server.host={host!r}", allowed]).of(GrpoRecipe)
        assert serving_problems(loaded) == []


def test_what_cannot_be_served_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    recipe = judged(tmp_path, "http://localhost:8000/v1")
    told = refused(tmp_path, recipe, "server.token_env=NO_SUCH_TOKEN", "rewards.rules.rules=nowhere.json")
    assert "server.token_env: the environment variable NO_SUCH_TOKEN is not set" in told and "nowhere.json" in told
    monkeypatch.setenv("ODD_TOKEN", "tok en\n")
    told = refused(tmp_path, FORM, "server.token_env=ODD_TOKEN")
    assert "the token in ODD_TOKEN holds blanks" in told and "tok en" not in told
    assert "unknown key; did you mean 'max_queue'" in refused(tmp_path, FORM, "server.max_quue=1")
    engine = ENGINE.format(port=8001, python="python")
    assert "engines.v: no judge and no reward asks it: add http://localhost:8001/v1" in refused(
        tmp_path, recipe + engine
    )
    engine = ENGINE.format(port=8000, python="python").replace("model: fake", "model: other")
    assert "engines.v.model: serves 'other', but is asked for 'fake'" in refused(tmp_path, recipe + engine)
    told = refused(tmp_path, recipe + "engines: {v: {model: fake}}\n")
    assert "engines.v.port: is missing" in told


@pytest.mark.e2e
def test_a_taken_port_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with process(tmp_path, FORM) as (url, _):
        told = refused(tmp_path, FORM, f"server.port={url.rpartition(':')[2]}")
    assert "cannot be used (Address already in use); set another, or 0 for any" in told


@pytest.mark.e2e
def test_no_secret_is_logged(tmp_path: Path) -> None:
    recipe = judged(tmp_path, "http://127.0.0.1:9/v1").replace("retries: 2", "retries: 0, api_key_env: JUDGE_KEY")
    secrets = {"SERVER_TOKEN": "tok-5ecret", "JUDGE_KEY": "key-5ecret"}
    overrides = ("server.token_env=SERVER_TOKEN", "judges.v.timeout_s=0.3")
    with process(tmp_path, recipe, *overrides, env=secrets) as (url, started):
        assert post(url, "/v1/score", GOOD, {"authorization": "Bearer wrong-5ecret"}).status_code == 401
        right = {"authorization": "Bearer tok-5ecret"}
        assert rewards_of(post(url, "/v1/score", GOOD, right)) == [[None]]
        shown = [httpx2.get(url + route, headers=right).text for route in ("/metrics", "/v1/info", "/ready")]
        started.terminate()
        assert started.wait(10) == 0 and started.stdout is not None
        told = started.stdout.read() + (tmp_path / "stderr").read_text()
    assert "5ecret" not in told + "".join(shown)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Path]:
    """An interpreter that fakes vLLM; whatever a failing test leaves of it is ended."""
    interpreter = tmp_path / "python"
    source = ROOT / "tests/engines/fake_interpreter.py"
    interpreter.write_text(f"#!{sys.executable}\n" + source.read_text())
    interpreter.chmod(0o755)
    yield interpreter
    root = tmp_path / "root.json"
    if root.exists() and psutil.pid_exists(pid := json.loads(root.read_text())["pid"]):
        os.kill(pid, signal.SIGKILL)


def with_engine(tmp_path: Path, fake: Path, free_port: int) -> str:
    return judged(tmp_path, f"http://localhost:{free_port}/v1") + ENGINE.format(port=free_port, python=fake)


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_engines_start_with_the_server_and_end_with_it(
    tmp_path: Path, fake: Path, unused_port: int, number: signal.Signals
) -> None:
    recipe = with_engine(tmp_path, fake, unused_port)
    env = {"FAKE_FOLDER": str(tmp_path), "FAKE_VLLM": "alone"}
    with process(tmp_path, recipe, "judges.v.timeout_s=1", env=env) as (url, started):
        # It is alive at once, and says that it is not ready: the fake answers /health, but is no judge.
        assert httpx2.get(url + "/health").status_code == 200
        wait_until(lambda: "engine" not in httpx2.get(url + "/ready", timeout=20).text)
        engine = json.loads((tmp_path / "root.json").read_text())["pid"]
        assert not ended(engine)
        started.send_signal(number)
        started.wait(30)
    wait_until(lambda: ended(engine))


@pytest.mark.e2e
def test_an_engine_that_cannot_start_ends_the_server_with_its_reason(
    tmp_path: Path, fake: Path, unused_port: int
) -> None:
    env = {"FAKE_FOLDER": str(tmp_path), "FAKE_VLLM": "crash"}
    with process(tmp_path, with_engine(tmp_path, fake, unused_port), env=env) as (_, started):
        assert started.wait(30) == 2
    told = (tmp_path / "stderr").read_text()
    assert "vLLM server for 'fake' ended with status 3 before it answered" in told
    assert "ValueError: no such weights" in told and "Traceback" not in told


def test_any_recipe_to_train_can_be_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    loaded = load_recipe("recipes/cpu/checkable.yaml").of(GrpoRecipe)
    assert serving_problems(loaded) == [] and loaded.recipe.engines == {}
