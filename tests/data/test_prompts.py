"""Prompts: what is left out, and in which order."""

import json
from pathlib import Path

from rlrules.data.prompts import FilePromptsConfig


def numbers(path: Path, **fields: object) -> list[int]:
    config = FilePromptsConfig.model_validate({"path": str(path), **fields})
    return [row["number"] for row in config.load(lambda text: len(text.split())).rows]


def test_a_shuffle_is_the_seed_s_and_comes_before_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Number {n}?", "number": n}) + "\n" for n in range(50)))
    assert numbers(path) == list(range(50))
    drawn = numbers(path, shuffle=42)
    assert sorted(drawn) == list(range(50)) and drawn != list(range(50))
    assert numbers(path, shuffle=42, limit=10) == drawn[:10] and numbers(path, shuffle=1) != drawn
