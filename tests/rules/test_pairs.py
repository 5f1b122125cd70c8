"""Which answer is shown first."""

import json
from pathlib import Path

import pytest

from rlrules.data.preferences import Preference, Preferences
from rlrules.errors import DataError
from rlrules.rules.config import PairsConfig
from rlrules.rules.pairs import build_pairs, save_pairs
from tests.rules.scripted import preferences


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_pairs(tmp_path / name, build_pairs(preferences(200), PairsConfig(seed=7)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = save_pairs(tmp_path / "c", build_pairs(preferences(200), PairsConfig(seed=8)))
    assert other != (tmp_path / "a").read_text()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [200, 201, 999])
def test_about_half_of_the_winners_come_second(seed: int, count: int) -> None:
    pairs = build_pairs(preferences(count), PairsConfig(seed=seed))
    assert 0.45 <= sum(pair.winner == 2 for pair in pairs) / count <= 0.55
    for pair in pairs:
        assert (pair.first if pair.winner == 1 else pair.second) == f"Good {pair.pair_id[1:-2]}."
        assert pair.letter == ("A" if pair.winner == 1 else "B")


def test_more_preferences_leave_the_order_of_the_first_alone() -> None:
    config = PairsConfig(seed=1)
    assert build_pairs(preferences(50), config) == build_pairs(preferences(80), config)[:50]


def test_both_orders_and_chosen_first() -> None:
    both = build_pairs(preferences(10), PairsConfig(order="both"))
    assert [pair.winner for pair in both] == [1, 2] * 10
    assert len({pair.pair_id for pair in both}) == 20
    for one, two in zip(both[::2], both[1::2], strict=True):
        assert (one.first, one.second) == (two.second, two.first)
    assert {pair.winner for pair in build_pairs(preferences(10), PairsConfig(order="chosen_first"))} == {1}


def test_a_line_has_the_documented_fields(tmp_path: Path) -> None:
    meta = {"question_id": 81, "turn": 2}
    one = Preference(
        "q", "mt", ({"role": "user", "content": "Q"},), "a", ({"role": "assistant", "content": "b"},), meta=meta
    )
    save_pairs(
        tmp_path / "pairs.jsonl", build_pairs(Preferences((one,), 1, {}), PairsConfig(order="chosen_first", seed=5))
    )
    assert json.loads((tmp_path / "pairs.jsonl").read_text()) == {
        "pair_id": "q:1",
        "source": "mt",
        "question_id": 81,
        "turn": 2,
        "prompt": [{"role": "user", "content": "Q"}],
        "first": "a",
        "second": [{"role": "assistant", "content": "b"}],
        "winner": 1,
        "order_seed": 5,
    }


def test_other_pairs_in_the_same_place_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    save_pairs(path, build_pairs(preferences(4), PairsConfig()))
    before = path.read_bytes()
    save_pairs(path, build_pairs(preferences(4), PairsConfig()))
    with pytest.raises(DataError, match="another output folder"):
        save_pairs(path, build_pairs(preferences(5), PairsConfig()))
    assert path.read_bytes() == before
