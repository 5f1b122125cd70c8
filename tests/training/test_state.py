"""Named states: written into checkpoints, restored from them, refused where they do not fit."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlrules.errors import TrainingError
from rlrules.training.state import STATES, StateCallback, Stateful, read_states, restore_states, write_states


class Running:
    """A running mean, as an objective may have."""

    def __init__(self, mean: float = 0.0) -> None:
        self.mean = mean

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def restore(self, state: Mapping[str, Any]) -> None:
        if "mean" not in state:
            raise TrainingError("no mean")
        self.mean = state["mean"]


def test_a_state_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    assert isinstance(Running(), Stateful) and not isinstance(object(), Stateful)
    made, other = Running(0.1 + 0.2), Running()
    write_states(tmp_path, {"objective": made})
    restore_states(tmp_path, read_states(tmp_path), {"objective": other})
    assert other.mean == 0.30000000000000004
    assert [path.name for path in tmp_path.iterdir()] == [STATES], "a draft was left behind"


def test_the_first_rank_alone_writes_into_the_checkpoint(tmp_path: Path) -> None:
    states: dict[str, Stateful] = {}
    callback = StateCallback(states)
    states["objective"] = Running(2.0)  # Made after the callback, as the trainer's parts are.
    for first, step in ((False, 3), (True, 4)):
        state = SimpleNamespace(is_world_process_zero=first, global_step=step)
        callback.on_save(SimpleNamespace(output_dir=str(tmp_path)), state, None)  # type: ignore[arg-type]
    assert not (tmp_path / "checkpoint-3").exists()
    assert read_states(tmp_path / "checkpoint-4") == {"objective": {"mean": 2.0}}


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    assert read_states(tmp_path) == {}
    with pytest.raises(TrainingError, match="has no state of 'sampling': the recipe did not have it yet"):
        restore_states(tmp_path, {}, {"sampling": Running()})
    with pytest.raises(TrainingError, match=r"states\.json, 'objective': no mean"):
        restore_states(tmp_path, {"objective": {}}, {"objective": Running()})
    for content in ("{", "[]"):
        (tmp_path / STATES).write_text(content)
        with pytest.raises(TrainingError, match="take an earlier checkpoint"):
            read_states(tmp_path)


def test_a_number_that_is_none_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_states(tmp_path, {"objective": Running(float("nan"))})
    assert not (tmp_path / STATES).exists()
