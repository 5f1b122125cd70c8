"""How a run shows itself: a live bar on a terminal, a plain line per step elsewhere."""

import time
from typing import Any

import rich.console
import rich.progress
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_SHOWN = {
    "reward": "reward",
    "objective/kappa": "kappa",
    "unscored": "unscored",
    "completions/mean_length": "tokens",
    "kl": "kl",
    "loss": "loss",
    "accuracy": "accuracy",
    "margin": "margin",
    "mean_token_accuracy": "token accuracy",
}


class Console(TrainerCallback):  # type: ignore[misc]
    """Shows each logged step; for the first rank."""

    def __init__(self) -> None:
        self._console = rich.console.Console()
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None
        self._last = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the bar, on a terminal."""
        self._last = time.monotonic()
        if self._console.is_terminal:
            columns = (*rich.progress.Progress.get_default_columns(), rich.progress.TextColumn("{task.fields[told]}"))
            self._bar = rich.progress.Progress(*columns, console=self._console)
            self._task = self._bar.add_task("training", total=state.max_steps, completed=state.global_step, told="")
            self._bar.start()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Show one step."""
        logs = logs or {}
        prefix = "eval_" if "eval_runtime" in logs else ""
        shown = {key: name for key, name in _SHOWN.items() if prefix + key in logs}
        if "objective/kappa" in shown:
            shown.pop("reward", None)  # The advantages of comparisons, which sum to 0 whatever is learned.
        told = [f"{name} {logs[prefix + key]:.4g}" for key, name in shown.items()]
        if not told:
            return
        now = time.monotonic()
        text = "  ".join([*told, f"{now - self._last:.1f} s"])
        self._last = now
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=state.global_step, told=text)
        else:
            print(f"step {state.global_step}/{state.max_steps}  {'held out: ' if prefix else ''}{text}", flush=True)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
