"""What happens beside the steps of a run: metrics to disk, complete checkpoints marked, signals obeyed."""

import math
import re
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlrules.training.log import RunLog

MARKER = "complete"


class MetricsCallback(TrainerCallback):  # type: ignore[misc]
    """Writes every line of metrics to the run's log; numbers that are none stay out and are named.

    Args:
        log: The run's log.
    """

    def __init__(self, log: RunLog) -> None:
        self._log = log

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write one line (first rank only)."""
        if not state.is_world_process_zero or not logs:
            return
        finite = {key: value for key, value in logs.items() if not isinstance(value, float) or math.isfinite(value)}
        lost = sorted(set(logs) - set(finite))
        self._log.metrics(state.global_step, finite | ({"not_finite": lost} if lost else {}))


class CheckpointMarker(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint once all ranks have written their part."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Wait for all ranks, then mark."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / MARKER).touch()


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """Ctrl-C and SIGTERM save a checkpoint and stop, on all ranks at the same step; a second one stops at once.

    Args:
        every: Steps between two points from which a run can be continued exactly.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self.received: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def release(self) -> None:
        """Once the model is saved there is nothing to save: signals end the process again."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(number, signal.SIG_DFL)
        print(f"{signal.Signals(number).name}: saving and stopping after this step", flush=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Agree over ranks whether to stop here."""
        told = [number for number in gather_object([self.received]) if number is not None]
        if told and state.global_step % self._every == 0:
            self.received = told[0]
            control.should_save = True
            control.should_training_stop = True


def checkpoint_step(path: Path) -> int | None:
    """The optimiser step at which a checkpoint was written, by its folder's name; None where it is no checkpoint's."""
    named = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(named[1]) if named else None


def is_complete(checkpoint: Path) -> bool:
    """Whether all ranks wrote their part of a checkpoint."""
    return (checkpoint / MARKER).exists()


def complete_checkpoints(folder: Path) -> tuple[list[Path], list[Path]]:
    """Checkpoints under `folder`, oldest first: the complete ones, and those that a killed run left half-written."""
    steps = {path: step for path in folder.glob("checkpoint-*") if (step := checkpoint_step(path)) is not None}
    found = sorted(steps, key=steps.__getitem__)
    complete = [path for path in found if is_complete(path)]
    return complete, [path for path in found if path not in complete]
