"""Advantages equal TRL's, by hand, by TRL's own formulas and by published numbers."""

import json
import math
from pathlib import Path

import pytest
import torch
from trl.trainer.utils import nanstd

from rlrules.rewards.advantages import advantages


def test_two_completions_are_plus_minus_one_over_root_two() -> None:
    made = advantages([[1.0, 0.6]])[0]
    assert made == pytest.approx([math.sqrt(0.5), -math.sqrt(0.5)], abs=1e-3)


def test_a_constant_shift_changes_nothing() -> None:
    plain = advantages([[1.0, 2.0, 4.0]])[0]
    assert advantages([[-6.5, -5.5, -3.5]])[0] == pytest.approx(plain)


def test_one_scored_completion_learns_nothing() -> None:
    assert advantages([[None, 3.0, None]])[0].tolist() == [0, 0, 0]
    assert advantages([[None, None]])[0].tolist() == [0, 0]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_the_same_as_trl(scale: str) -> None:
    groups: list[list[float | None]] = [[0.1, 0.9, None, 0.4], [2.0, 2.0, 2.0, 2.0], [None, None, 1.0, -1.0]]
    rewards = torch.tensor([[math.nan if r is None else r for r in g] for g in groups], dtype=torch.float64)
    centred = rewards - rewards.nanmean(dim=1, keepdim=True)
    if scale == "group":
        centred = centred / (nanstd(rewards, dim=1).unsqueeze(1) + 1e-4)
    elif scale == "batch":
        centred = centred / (nanstd(rewards) + 1e-4)
    expected = torch.nan_to_num(centred, nan=0.0)
    made = advantages(groups, scale)  # type: ignore[arg-type]
    for row, group in zip(expected, made, strict=True):
        assert group == pytest.approx(row.tolist(), abs=1e-9)


def test_published_advantages() -> None:
    golden = json.loads((Path(__file__).parents[1] / "golden/light_if_entropy.json").read_text())["advantages"]
    made = advantages([golden["rewards"]])[0]
    assert made[0] == pytest.approx(golden["first_at_1e-4"], abs=1e-4)
    # TRL's epsilon is 1e-4, the published one 1e-6.
    assert made == pytest.approx(golden["epsilon_1e-6"], abs=4e-4)
