"""The reward of following constraints: its sums, its thoughts, and what it refuses."""

import asyncio
from typing import Any

import pytest

from rlrules.rewards.base import Resources, ScorerConfig, scorer_config
from rlrules.types import Completion, Group, Score

pytest.importorskip("if_verifiable", reason="if-verifiable is not installed: pip install 'rlrules[ifeval]'")

COMMA: tuple[str, dict[str, Any]] = ("punctuation:no_comma", {})
BULLETS: tuple[str, dict[str, Any]] = ("detectable_format:number_bullet_lists", {"num_bullets": 2})


def row(*constraints: tuple[str, dict[str, Any] | None]) -> dict[str, Any]:
    return {"instruction_id_list": [name for name, _ in constraints], "kwargs": [given for _, given in constraints]}


def config(**fields: Any) -> ScorerConfig:
    return scorer_config({"type": "constraints", **fields})


def scores(data: dict[str, Any], *texts: str, **fields: Any) -> tuple[Score, ...]:
    completions = tuple(Completion(text, 1) for text in texts)
    group = Group(({"role": "user", "content": "Say something."},), completions, data)
    return asyncio.run(config(**fields).build(Resources()).score(group)).scores


def test_a_verdict_stands_under_its_id() -> None:
    [one] = scores(row(COMMA, BULLETS, BULLETS), "* a\n* b, c")
    assert one.value == 2 / 3
    assert one.details == {COMMA[0]: False, BULLETS[0]: True, f"{BULLETS[0]}#2": True}
    assert one.metrics["fraction"] == 2 / 3 and one.metrics["all"] == 0
    assert one.metrics[f"kind/{BULLETS[0]}"] == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, 0.5), ({"aggregate": "all"}, 0), ({"aggregate": "weighted"}, 0.5), ({"all_bonus": 0.5}, 0.25)],
)
def test_aggregates(fields: dict[str, Any], expected: float) -> None:
    # Both weigh 0.10: Light-IF has no comma in its table, and bullets at 0.10.
    assert [one.value for one in scores(row(COMMA, BULLETS), "* a\n* b, c", "* a\n* b", **fields)] == [expected, 1]
