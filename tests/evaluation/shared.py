"""Where published data lies, and what every test of the command line does."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rlrules.cli import app

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared/data"


def needs(*folders: str) -> pytest.MarkDecorator:
    """Skips where a folder of published data is absent."""
    absent = [folder for folder in folders if not (DATA / folder).exists()]
    return pytest.mark.skipif(bool(absent), reason=f"../shared/data/{', '.join(absent)} is not there")


def call(*arguments: object, code: int = 0) -> str:
    """What `rlrules eval …` prints."""
    result = CliRunner().invoke(app, ["eval", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output + result.stderr
    return result.stdout if code == 0 else result.output + result.stderr


def called(*arguments: object) -> dict[str, Any]:
    """The object that `rlrules eval … --json` prints."""
    content: dict[str, Any] = json.loads(call(*arguments, "--json"))
    return content


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
