"""`rlrules engines`: a recipe's servers, until told to end."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rlrules.errors import RecipeError
from rlrules.serving.engines import keep_engines

ROOT = Path(__file__).parents[2]


def recipe(folder: Path, **engines: object) -> Path:
    path = folder / "r.yaml"
    rewards = {"a": {"type": "length"}}
    objective = {"type": "weighted_sum", "weights": {"a": 1}}
    path.write_text(json.dumps({"rewards": rewards, "objective": objective, "engines": engines}))
    return path


def interpreter(folder: Path) -> Path:
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n" + (ROOT / "tests/engines/fake_interpreter.py").read_text())
    path.chmod(0o755)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_they_are_told_when_they_answer_and_end_with_the_command(tmp_path: Path) -> None:
    port = free_port()
    path = recipe(tmp_path, policy={"model": "m", "port": port, "python": str(interpreter(tmp_path))})
    command = [sys.executable, "-m", "rlrules", "engines", str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FAKE_FOLDER": str(tmp_path), "FAKE_VLLM": "alone"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"serving policy at http://127.0.0.1:{port}/v1\n"
        server = json.loads((tmp_path / "root.json").read_text())["pid"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_one_that_cannot_be_started_ends_the_command(tmp_path: Path) -> None:
    path = recipe(tmp_path, policy={"model": "m", "port": free_port(), "python": str(tmp_path / "none")})
    command = [sys.executable, "-m", "rlrules", "engines", str(path)]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert ended.returncode != 0 and "does not exist; run `make install`" in ended.stderr


def test_a_recipe_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`engines` is missing"):
        keep_engines(recipe(tmp_path))
