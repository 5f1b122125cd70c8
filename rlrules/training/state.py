"""What a run learns beside its weights: named states that are saved in each checkpoint and restored from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlrules.data.stage_log import write_atomically
from rlrules.errors import TrainingError

STATES = "states.json"


@runtime_checkable
class Stateful(Protocol):
    """Has a state that decides what the next steps do, the same on all ranks."""

    def state(self) -> dict[str, Any]:
        """The state as values that JSON holds exactly: finite floats, integers, text, lists, mappings by text."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave.

        Raises:
            TrainingError: It is another recipe's.
        """
        ...


class StateCallback(TrainerCallback):  # type: ignore[misc]
    """Writes all states into each checkpoint; its place is before the callback that marks the checkpoint complete.

    Args:
        states: By name; what is added before the first checkpoint is written too.
    """

    def __init__(self, states: Mapping[str, Stateful]) -> None:
        self._states = states

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write one file (first rank only): states are the same on all."""
        if state.is_world_process_zero and self._states:
            write_states(Path(args.output_dir) / f"checkpoint-{state.global_step}", self._states)


def write_states(checkpoint: Path, states: Mapping[str, Stateful]) -> None:
    """Write the states' file whole or not at all.

    Raises:
        ValueError: A state holds what JSON does not.
    """
    content = {name: stateful.state() for name, stateful in states.items()}
    write_atomically(checkpoint / STATES, json.dumps(content, allow_nan=False) + "\n")


def read_states(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint holds, by name; nothing where it has no such file.

    Raises:
        TrainingError: The file is no mapping in JSON.
    """
    path = checkpoint / STATES
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path}: not JSON: {error}; take an earlier checkpoint") from error
    if not isinstance(content, dict):
        raise TrainingError(f"{path}: expected a JSON object; take an earlier checkpoint")
    return content


def restore_states(checkpoint: Path, found: Mapping[str, Any], states: Mapping[str, Stateful]) -> None:
    """Give every state back what a checkpoint holds for it.

    Args:
        checkpoint: Its folder, for messages.
        found: What it holds, by name.
        states: What is to go on.

    Raises:
        TrainingError: It holds nothing for one of them, or another recipe's.
    """
    for name, stateful in states.items():
        if name not in found:
            message = f"{checkpoint} has no state of {name!r}: the recipe did not have it yet; start a new run"
            raise TrainingError(message)
        try:
            stateful.restore(found[name])
        except TrainingError as error:
            raise TrainingError(f"{checkpoint / STATES}, {name!r}: {error}") from error
