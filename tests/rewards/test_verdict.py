"""The reward of a judge in training, on the rollouts of Think-RM's acceptance list (T13)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.rewards.base import Context, Resources
from rlrules.rewards.verdict import VerdictConfig
from rlrules.types import Completion, Group, Score, Scored

PROMPT = ({"role": "user", "content": "Which?"},)
MULTICLASS = ["-2", "-2", "-3", "-1", "1", None, "2", "-2"]
# Right where the reward of T13 is 1; unreadable once.
BINARY = ["A", "A", "A", "B", "B", "A", None, "A"]


def written(label: str | None) -> str:
    """A completion that begins inside its thought, as after a template that opens it."""
    return f"A decoy: <answer>1</answer>\n</think>\n\n<answer>{label}</answer>" if label else "It never ends <answer>A"


def score(kind: str, right: Any, texts: list[str], column: str = "label") -> Scored:
    config = VerdictConfig.model_validate({"type": "verdict", "verdict": kind, "answer_column": column})
    group = Group(PROMPT, tuple(Completion(text, 5) for text in texts), {column: right})
    return asyncio.run(config.build(Resources()).score(group))


def one(kind: str, right: Any, text: str) -> Score:
    return score(kind, right, [text]).scores[0]


@pytest.mark.parametrize("right", ["-2", -2, -2.0])
def test_multiclass(right: object) -> None:
    scored = score("multiclass", right, [written(label) for label in MULTICLASS])
    assert [one.value for one in scored.scores] == [1, 1, 0.5, 0.5, 0, 0, 0, 1]
    assert [one.status for one in scored.scores] == ["ok"] * 5 + ["malformed"] + ["ok"] * 2
    assert [one.metrics["side"] for one in scored.scores] == [1, 1, 1, 1, 0, 0, 0, 1]


def test_binary() -> None:
    scored = score("binary", "A", [written(label) for label in BINARY])
    assert [one.value for one in scored.scores] == [1, 1, 1, 0, 0, 1, 0, 1]
    assert scored.scores[6].status == "malformed" and "the thought has no end" in scored.scores[6].reason


@pytest.mark.parametrize(
    ("text", "value", "status"),
    [
        ("<think>\nwhole\n</think>\n\n<answer>B</answer>", 1.0, "ok"),
        ("</think><answer>b</answer>", 1.0, "ok"),
        ("</think>\n\nB", 0.0, "malformed"),
        ("</think>\n\n<answer>Both</answer>", 0.0, "malformed"),
        ("</think>\n\n<answer>B", 0.0, "malformed"),
        ("<answer>B</answer>", 0.0, "malformed"),
        ("", 0.0, "malformed"),
    ],
)
def test_what_can_be_read(text: str, value: float, status: str) -> None:
    found = one("binary", "B", text)
    assert (found.value, found.status) == (value, status)


def test_a_minus_of_another_kind_keeps_its_side() -> None:
    assert one("multiclass", -2, "</think><answer>\N{MINUS SIGN}2</answer>").value == 1.0
    assert one("multiclass", -2, "</think><answer>0</answer>").status == "malformed"


@pytest.mark.parametrize(
    ("kind", "right"), [("binary", "C"), ("binary", -2), ("multiclass", 0), ("multiclass", "A"), ("multiclass", -2.5)]
)
def test_a_wrong_label_in_the_data_is_nobody_s_low_score(kind: str, right: object) -> None:
    scored = score(kind, right, [written("A")])
    assert scored.scores[0].status == "unscored" and "column 'label'" in scored.scores[0].reason
    config = VerdictConfig.model_validate({"verdict": kind})
    assert config.row_problem({"label": right}) == scored.scores[0].reason.removeprefix("DataError: ")


def test_its_column_is_needed_and_can_be_named() -> None:
    assert VerdictConfig(answer_column="gold").columns() == ("gold",)
    assert score("binary", "A", [written("A")], column="gold").scores[0].value == 1.0
    with pytest.raises(ValidationError, match="binary"):
        VerdictConfig.model_validate({"type": "verdict", "verdict": "ternary"})


def test_pointwise_scores_do_not_look_at_the_row_s_other_columns() -> None:
    scorer = VerdictConfig().build(Resources())
    context = Context(PROMPT, {"label": "B", "verdict": "A"})
    assert asyncio.run(scorer.score_one(context, Completion(written("B"), 3))).value == 1.0


@pytest.mark.parametrize(
    ("kind", "right", "labels", "rewards", "advantages"),
    [
        # Mean 0.5, deviation 0.4629 and 0.5175: advantages as in T13, TRL's epsilon of 1e-4 within its tolerance.
        ("multiclass", -2, MULTICLASS, [1, 1, 0.5, 0.5, 0, 0, 0, 1], [1.0801, 0, -1.0801]),
        ("binary", "A", BINARY, [1, 1, 1, 0, 0, 1, 0, 1], [0.7246, -1.2076]),
    ],
)
def test_rlrules_score(
    tmp_path: Path, kind: str, right: Any, labels: list[str | None], rewards: list[float], advantages: list[float]
) -> None:
    recipe = {
        "rewards": {"verdict": {"type": "verdict", "verdict": kind}},
        "objective": {"type": "weighted_sum", "weights": {"verdict": 1}},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    rows = [{"prompt": "Which?", "completion": written(label), "label": right} for label in labels]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    result = CliRunner().invoke(app, ["score", str(tmp_path / "r.yaml"), str(tmp_path / "in.jsonl"), "-o", str(out)])
    assert result.exit_code == 0, result.output
    made = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["reward"] for line in made] == rewards
    by_reward = dict(zip(sorted(set(rewards), reverse=True), advantages, strict=True))
    assert [line["advantage"] for line in made] == pytest.approx([by_reward[reward] for reward in rewards], abs=1e-3)


def test_rlrules_score_names_a_line_without_the_label(tmp_path: Path) -> None:
    recipe = {
        "rewards": {"verdict": {"type": "verdict"}},
        "objective": {"type": "weighted_sum", "weights": {"verdict": 1}},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    (tmp_path / "in.jsonl").write_text(json.dumps({"prompt": "Which?", "completion": "x"}) + "\n")
    result = CliRunner().invoke(app, ["score", str(tmp_path / "r.yaml"), str(tmp_path / "in.jsonl")])
    assert result.exit_code == 2
    assert "in.jsonl:1: reward 'verdict' needs the column 'label'" in result.output + (result.stderr or "")
