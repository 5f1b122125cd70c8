"""The documentation's examples run."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from rlrules.rewards import base
from rlrules.rewards.base import scorer_config

PAGE = (Path(__file__).parents[1] / "docs/scorers.md").read_text("utf-8")


def block(language: str) -> str:
    [found] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def test_a_scorer_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(block("python"))
    (tmp_path / "recipe.yaml").write_text(block("yaml"))
    lines = [{"prompt": "2 + 2?", "completion": text, "answer": "4"} for text in ("It is 4.", "It is 5.")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "rlrules", "score", "recipe.yaml", "in.jsonl", "-o", "out.jsonl"]
    subprocess.run(command, cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["reward"] for line in scored] == [1.0, 0.0]
    missing = {"prompt": "2 + 2?", "completion": "4"}
    (tmp_path / "in.jsonl").write_text(json.dumps(missing) + "\n")
    result = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "in.jsonl:1: reward 'right' needs the column 'answer'" in result.stderr


def test_an_announced_scorer_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(block("python"))
    monkeypatch.syspath_prepend(str(tmp_path))
    group, name, value = re.findall(r'\[project.entry-points."(.*?)"\]\n(\w+) = "(.*?)"', block("toml"))[0]
    points = [EntryPoint(name, value, group)]
    monkeypatch.setattr(base, "entry_points", lambda group: points if group == base.ENTRY_POINTS else [])
    base._registered.cache_clear()
    base.config_class.cache_clear()
    try:
        assert type(scorer_config({"type": "contains"})).__name__ == "ContainsConfig"
    finally:
        base._registered.cache_clear()
        base.config_class.cache_clear()
