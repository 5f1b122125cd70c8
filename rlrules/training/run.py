"""From a recipe to a trained model: the order of a run."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import PrinterCallback
from transformers.utils import logging

from rlrules.errors import RecipeError, RlrulesError, TrainingError
from rlrules.recipe.arguments import arguments_or_problems, field_problems
from rlrules.recipe.checks import Prepared, check_training, exact_resume_every, ping_problems
from rlrules.recipe.generation import launch_problems, trl_server_problems
from rlrules.recipe.load import LoadedRecipe, dump_resolved, load_recipe
from rlrules.recipe.schema import Recipe
from rlrules.reporting.run_report import write_report
from rlrules.training import grpo, reward_model, sft
from rlrules.training.callbacks import (
    CheckpointMarker,
    MetricsCallback,
    StopOnSignal,
    checkpoint_step,
    complete_checkpoints,
    is_complete,
)
from rlrules.training.console import Console
from rlrules.training.evaluation import evaluate
from rlrules.training.job import Job, Method
from rlrules.training.log import RECIPE, RunLog
from rlrules.training.state import StateCallback, Stateful, read_states, restore_states

METHODS: dict[str, Method] = {"grpo": grpo, "sft": sft, "reward_model": reward_model}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended.

    Attributes:
        folder: The run directory.
        signal: Number of the signal that stopped it, or None.
    """

    folder: Path
    signal: int | None


def train(path: str | Path, overrides: Sequence[str] = (), resume: str | None = None) -> Finished:
    """Run a recipe on this process's rank.

    Args:
        path: The recipe.
        overrides: Dotted assignments.
        resume: None to start; "auto" to go on from the last complete checkpoint, or to start where there is none;
            or a checkpoint's folder.

    Raises:
        RlrulesError: The run cannot start, or must stop; the same on all ranks.
    """
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
        datasets.disable_progress_bars()
    loaded = load_recipe(path, overrides, field_problems)
    folder = Path("runs") / loaded.recipe.name
    arguments, problems = arguments_or_problems(loaded, folder)
    if arguments is not None:
        problems += launch_problems(loaded, arguments, arguments.world_size)
    if arguments is not None and arguments.use_cpu:
        # Launchers give each process one thread; the cores are this run's to share among its ranks.
        torch.set_num_threads(max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    with _process_group():
        try:
            prepared = check_training(loaded, arguments, problems)
        except RecipeError as error:
            problems = error.problems + _on_first_rank(lambda: ping_problems(loaded))
            raise RecipeError(list(dict.fromkeys(problems))) from error
        patience = getattr(arguments, "vllm_server_timeout", 0.0)
        if found := _on_first_rank(lambda: trl_server_problems(loaded, arguments, patience)):
            raise RecipeError(found)
        checkpoint = _on_first_rank(lambda: _open_run(loaded, folder, resume))
        return _train(loaded, arguments, prepared, folder, checkpoint)


def _open_run(loaded: LoadedRecipe[Recipe], folder: Path, resume: str | None) -> Path | None:
    """Make or reopen the run directory; returns the checkpoint to go on from."""
    problems = ping_problems(loaded)
    if problems:
        raise RecipeError(problems)
    if folder.exists() and resume is None:
        raise TrainingError(f"{folder} exists: continue it with --resume auto, or set another `name`")
    checkpoint: Path | None = None
    if resume == "auto":
        complete, broken = complete_checkpoints(folder / "checkpoints")
        for path in broken:
            print(f"{path} was not written to the end; it is passed over", flush=True)
        checkpoint = complete[-1] if complete else None
    elif resume is not None:
        checkpoint = Path(resume)
        if not checkpoint.is_dir():
            raise TrainingError(f"--resume {resume}: no such checkpoint")
        if checkpoint_step(checkpoint) is None:
            raise TrainingError(f"--resume {resume}: no checkpoint, whose folder is called checkpoint-STEP")
        if not is_complete(checkpoint):
            raise TrainingError(f"--resume {resume}: was not written to the end; take an earlier one, or --resume auto")
    dump_resolved(loaded.recipe, folder / RECIPE)
    return checkpoint


def _train(
    loaded: LoadedRecipe[Recipe], arguments: Any, prepared: Prepared, folder: Path, checkpoint: Path | None
) -> Finished:
    state = PartialState()
    resumed_at = (checkpoint_step(checkpoint) or 0) if checkpoint else 0
    log = RunLog(folder, resumed_at) if state.is_main_process else None
    stop = StopOnSignal(exact_resume_every(arguments))
    states: dict[str, Stateful] = {}
    callbacks = [stop, StateCallback(states), CheckpointMarker(), *([MetricsCallback(log), Console()] if log else [])]
    job = Job(loaded.recipe, arguments, prepared, log, callbacks, states)
    method = METHODS[loaded.recipe.method]
    if state.is_main_process:
        begun = f"going on from {checkpoint}" if checkpoint else "a new run"
        print(f"{method.layout(job, state.num_processes)}; {begun}", flush=True)
    trainer = method.make_trainer(job)
    trainer.remove_callback(PrinterCallback)
    if checkpoint:
        restore_states(checkpoint, _on_first_rank(lambda: read_states(checkpoint)), states)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.received is None:
        method.save(job, trainer, folder / "model")
        if state.is_main_process:
            # Whoever loads the model gets its tokenizer beside it, with the chat template that it was trained on.
            trainer.processing_class.save_pretrained(str(folder / "model"))
    if log is not None:
        _report(folder)
        if stop.received is None and loaded.recipe.eval:
            # The other ranks are done: they end here instead of waiting for longer than their group's deadline.
            stop.release()
            evaluate(loaded, log, trainer.state.global_step, str(arguments.device))
            _report(folder)
        print(_farewell(folder, stop.received, trainer.state.global_step), flush=True)
    return Finished(folder, stop.received)


def _report(folder: Path) -> None:
    try:
        write_report(folder)
    except Exception as error:  # The model is trained and saved; a page about it must not make the run a failure.
        print(f"no report ({type(error).__name__}: {error}); try again: rlrules report {folder}", flush=True)


def _farewell(folder: Path, signal: int | None, step: int) -> str:
    if signal is not None:
        return f"stopped after step {step}; go on with --resume auto. Report: {folder / 'report.html'}"
    return f"model: {folder / 'model'}; report with curves: {folder / 'report.html'}"


def _on_first_rank(work: Callable[[], T]) -> T:
    """Do `work` on the first rank; all ranks get its result, or its error."""
    box: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            box[0] = work()
        except RlrulesError as error:
            box[1] = error
    broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    result: T = box[0]
    return result


def _cores() -> int:
    """Cores that this process may use: of a container or under taskset fewer than there are."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextlib.contextmanager
def _process_group() -> Iterator[None]:
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
