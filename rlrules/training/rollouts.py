"""The policy generates on vLLM servers, over plain HTTP: what TRL takes for its own way to vLLM.

vLLM is in no process of the trainer's. Each rank asks for its own rows, one request a completion. What is generated is
not reproducible: a server draws in the order in which requests come to share its steps, and no seed is sent, which
would make the G completions of a prompt one.
"""

import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlrules.errors import RlrulesError, TrainingError
from rlrules.judges.loop import submit
from rlrules.recipe.rollouts import RolloutsSection
from rlrules.training.policy_weights import gathered, remove, write
from rlrules.training.rollout_servers import Finished, RolloutServers, Sampled, Version

LogMetric = Callable[[str, float], None]


class HttpRollouts:
    """Takes the place of TRL's `VLLMGeneration`: `sync_weights` and `generate`, called on all ranks together.

    Args:
        section: The recipe's.
        trainer: TRL's, whose policy it is.
        folder: Where weights lie for the servers to load.

    Attributes:
        finished: Told of each completion of this rank as soon as it is there, with its row's number in the batch and
            its tokens; on the judges' event loop, so that it must not block. What it raises ends the rollout.
    """

    def __init__(self, section: RolloutsSection, trainer: Any, folder: Path) -> None:
        if trainer._dist.is_fsdp:
            raise TrainingError("rollouts: FSDP's shards are not gathered; launch with DeepSpeed or DDP")
        box = [uuid.uuid4().hex[:12]]
        broadcast_object_list(box)
        self.finished: Finished | None = None
        self._section = section
        self._trainer = trainer
        self._folder = folder.absolute()
        self._servers = RolloutServers(section, f"rlrules-{box[0]}-")
        self._version: Version | None = None
        self._count = 0
        self._body = request_body(trainer.args, trainer.eos_token_ids)

    def sync_weights(self) -> None:
        """Make the policy as it is now the version that answers from here on.

        Raises:
            TrainingError: On all ranks: its weights could not be written.
        """
        started, trainer, earlier = time.monotonic(), self._trainer, self._version
        self._count += 1
        name = f"{self._servers.run}{self._count}"
        version, failure = Version(name, self._folder / name), ""
        weights = gathered(trainer, self._section.sync)
        if trainer.accelerator.is_main_process:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                write(trainer, weights, version.folder, self._section.sync)
            except Exception as error:
                failure = f"rollouts.shared_dir: {version.folder} cannot be written: {type(error).__name__}: {error}"
        _stop_together(failure)
        self._version = version
        if earlier is not None and trainer.accelerator.is_main_process:
            remove(earlier.folder)
        trainer._log_metric("time/rollout_save_s", time.monotonic() - started)

    def generate(
        self,
        prompts: list[list[int]],
        images: list[Any] | None,
        num_generations: int,
        profiler: AbstractContextManager[Any] | None = None,
    ) -> tuple[list[list[int]], list[list[int]], list[list[list[float]]], None]:
        """One completion for each of this rank's rows.

        Args:
            prompts: The rows' token ids; the G rows of a prompt are G rows.
            images: None of any row.
            num_generations: Not used.
            profiler: TRL's clock.

        Returns:
            The prompts, the completions' token ids, and the log-probability of each token as a list of one.

        Raises:
            TrainingError: On all ranks: one of them got no completion for a row.
        """
        assert self._version is not None, "sync_weights comes first"
        started, retried, loads = time.monotonic(), self._servers.usage.retried, self._servers.loads
        sampled: list[Sampled] = []
        failure = ""
        if any(images or ()):
            failure = "rollouts: images are not sent"
        else:
            bodies = [{**self._body, "prompt": prompt} for prompt in prompts]
            try:
                with profiler or nullcontext():
                    sampled = submit(self._servers.complete_all(self._version, bodies, self.finished)).result()
            except RlrulesError as error:
                failure = f"rollouts: a completion cannot be had: {error}"
            except Exception as error:
                failure = f"rollouts: {type(error).__name__}: {error}"
        _stop_together(failure)
        log: LogMetric = self._trainer._log_metric
        log("time/rollout_s", time.monotonic() - started)
        log("rollouts/retried", self._servers.usage.retried - retried)
        log("rollouts/loads", self._servers.loads - loads)
        return prompts, [one.ids for one in sampled], [[[x] for x in one.logprobs] for one in sampled], None

    def leave(self) -> None:
        """Bring the servers back to what they were, and remove the weights; on the first rank."""
        for line in submit(self._servers.leave()).result():
            print(f"rollouts: {line}", flush=True)
        if self._version is not None:
            remove(self._version.folder)


class LeaveServers(TrainerCallback):  # type: ignore[misc]
    """Has the servers brought back at the end of a run, a stopped one included.

    Args:
        rollouts: Whose they are.
    """

    def __init__(self, rollouts: HttpRollouts) -> None:
        self._rollouts = rollouts

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Once no rank generates any more (first rank only)."""
        if state.is_world_process_zero:
            self._rollouts.leave()


def use_rollouts(trainer: Any, section: RolloutsSection, folder: Path) -> HttpRollouts:
    """Have TRL's trainer generate on the recipe's servers.

    TRL is told that it does so through vLLM, but not before it was made: it would ask for vLLM itself, and for NCCL.
    With that it keeps the correction for what the servers' probabilities differ by, and its metrics.

    Args:
        trainer: Made with `use_vllm` off.
        section: The recipe's.
        folder: Where weights lie for the servers to load.
    """
    rollouts = HttpRollouts(section, trainer, folder)
    trainer.use_vllm, trainer.vllm_mode, trainer._last_loaded_step = True, "server", -1
    trainer.vllm_generation = rollouts
    trainer.add_callback(LeaveServers(rollouts))
    return rollouts


def request_body(arguments: Any, ends: list[int]) -> dict[str, Any]:
    """What is the same in all completions' requests: TRL's sampling options by vLLM's names.

    Args:
        arguments: TRL's configuration; `generation_kwargs` are vLLM's own names, and go over the others.
        ends: Token ids that end a completion. The server's own idea of them does not count.
    """
    body: dict[str, Any] = {
        "max_tokens": arguments.max_completion_length,
        "temperature": arguments.temperature,
        "top_p": arguments.top_p,
        "top_k": arguments.top_k or 0,
        "min_p": arguments.min_p or 0.0,
        "repetition_penalty": arguments.repetition_penalty,
        "stop_token_ids": list(ends),
        "ignore_eos": True,
        "skip_special_tokens": False,
        "logprobs": 0,
        "return_token_ids": True,
    }
    if arguments.vllm_structured_outputs_regex is not None:
        body["structured_outputs"] = {"regex": arguments.vllm_structured_outputs_regex}
    return body | (arguments.generation_kwargs or {})


def _stop_together(failure: str) -> None:
    failures = [text for text in gather_object([failure]) if text]
    if failures:
        raise TrainingError(failures[0])
