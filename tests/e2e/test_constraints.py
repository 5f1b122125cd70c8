"""Prompts with constraints from the command that makes them to a step of a policy."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlrules.cli import app
from tests.e2e.training import ROOT, lines, run, tiny_policy, write_recipe

pytest.importorskip("if_verifiable", reason="if-verifiable is not installed: pip install 'rlrules[ifeval]'")
pytestmark = pytest.mark.e2e

# Arguments of several kinds, so that the table fills gaps with None.
KINDS = {
    "punctuation:no_comma": {},
    "startend:end_checker": {},
    "keywords:letter_frequency": {},
    "en:sentence_count": {"low": [1], "high": [1]},
}


def test_zero_rl_on_prompts_of_a_file(tmp_path: Path) -> None:
    prompts = {"type": "constraints", "path": str(ROOT / "data/prompts.jsonl"), "kinds": KINDS, "limit": 12}
    (tmp_path / "made.yaml").write_text(json.dumps({"prompts": prompts}))
    made = CliRunner().invoke(app, ["data", "constraints", str(tmp_path / "made.yaml"), "-o", str(tmp_path / "made")])
    assert made.exit_code == 0, made.output + made.stderr
    recipe = write_recipe(
        tmp_path,
        tiny_policy(tmp_path / "policy"),
        data={"train": {"type": "prompts", "path": str(tmp_path / "made/prompts.jsonl")}},
        rewards={"constraints": {"type": "constraints", "all_bonus": 0.5}},
        objective={"type": "cosine_length", "of": "constraints", "max_tokens": 8, "threshold": 0.25},
        training={"max_steps": 2, "save_strategy": "no"},
    )
    code, output = run(tmp_path, recipe)
    assert code == 0, output
    written = lines(tmp_path / "runs/run/completions.jsonl")
    assert len(written) == 8
    for line in written:
        [(_, details)] = line["details"].items()
        held = [details[name] for name in line["instruction_id_list"]]
        assert line["scores"]["constraints"] == pytest.approx(0.5 * all(held) + 0.5 * sum(held) / 2)
        # A policy that knows nothing writes to the end, where an answer is too long.
        assert (line["reward"] == -2) == (line["tokens"] >= 8)
    [first, *_] = [line for line in lines(tmp_path / "runs/run/metrics.jsonl") if "loss" in line]
    assert first["objective/too_long"] > 0 and "rewards/constraints/fraction" in first
