"""What generation on a vLLM server costs and saves."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchmarks.common import EMBEDDED
from benchmarks.turns import WARMING, Turn, interleaved, tell_ratio

if TYPE_CHECKING:
    from rlrules.engines.policy import Sync
    from rlrules.engines.vllm import VllmServer

NAMES = ("http", "transformers")
ROWS, TOKENS = 8, 48


def rollouts(
    part: Annotated[Literal["step", "requests"], typer.Option(help="What to measure.")] = "step",
    sync: Annotated[Literal["lora", "full"], typer.Option(help="What is trained, and sent at each step.")] = "lora",
    pairs: Annotated[int, typer.Option(help="Pairs to measure.")] = 8,
) -> None:
    """step: seconds of a step whose 8 completions of 48 tokens come from vLLM, over the same from transformers.

    requests: seconds of a rollout asked for in one request a completion, over one request for all. What is measured is
    kept in runs/rollouts_PART_SYNC.jsonl and told together, so that it can be measured in pieces.
    """
    measured = Path(f"runs/rollouts_{part}_{sync}.jsonl")
    measured.parent.mkdir(exist_ok=True)
    with _server("lora" if part == "requests" else sync) as server, measured.open("a") as file:

        def keep(pair: list[float]) -> None:
            print(json.dumps(pair), file=file, flush=True)

        if part == "step":
            _steps(server, sync, pairs, keep)
        else:
            _requests(server, pairs, keep)
    every = [json.loads(line) for line in measured.read_text().splitlines()]
    names = NAMES if part == "step" else ("one a completion", "one for all")
    tell_ratio([pair[0] for pair in every], [pair[1] for pair in every], names, "seconds")


@contextmanager
def _server(sync: "Sync") -> "Iterator[VllmServer]":
    from rlrules.engines.vllm import VllmConfig, VllmServer

    rank = 8 if sync == "lora" else None
    config = VllmConfig(
        model=EMBEDDED, dtype="float32", max_model_len=256, kv_cache_gib=1, policy=sync, max_lora_rank=rank
    )
    with VllmServer(config) as server:
        yield server


def _steps(server: "VllmServer", sync: "Sync", pairs: int, keep: Callable[[list[float]], None]) -> None:
    taken: list[list[float]] = []

    def done(pair: list[float]) -> None:
        taken.append(pair)
        if len(taken) > WARMING:
            keep(pair)

    steps = pairs + WARMING
    with tempfile.TemporaryDirectory() as folder:

        def make(turn: Turn) -> list[Any]:
            return [_trainer(Path(folder) / name, name, (server.url, sync), steps, turn) for name in NAMES]

        # The server is no part of this process: only a clock on the wall sees both.
        interleaved(make, NAMES, steps, done, time.monotonic)


def _requests(server: "VllmServer", pairs: int, keep: Callable[[list[float]], None]) -> None:
    """32 completions of 8 prompts of a hundred tokens, the longer way round first: what it opens, the other has."""
    import httpx2

    from rlrules.judges.loop import submit
    from rlrules.recipe.rollouts import RolloutsSection
    from rlrules.training.rollout_servers import RolloutServers, Version

    servers = RolloutServers(RolloutsSection(urls=[server.url], sync="lora"), "benchmark-")
    body = {"max_tokens": 16, "ignore_eos": True, "logprobs": 0, "return_token_ids": True}
    with tempfile.TemporaryDirectory() as folder:
        version = Version("benchmark-1", _adapter(Path(folder) / "adapter"))
        for number in range(pairs + 1):
            # Other tokens each time, or the prompts would have been read before.
            first, second = (
                [[1, *range(start, start + 100)] for start in range(base, base + 800, 100) for _ in range(4)]
                for base in (1000 + 1600 * number, 1800 + 1600 * number)
            )
            started = time.monotonic()
            apart = submit(servers.complete_all(version, [{**body, "prompt": prompt} for prompt in first])).result()
            between = time.monotonic()
            asked = {**body, "model": version.name, "prompt": second}
            reply = httpx2.post(f"{server.url}/completions", json=asked, timeout=600).raise_for_status().json()
            pair = [between - started, time.monotonic() - between]
            assert len(apart) == len(reply["choices"]) == 32
            if number:  # The first opens connections and loads the adapter.
                keep(pair)


def _adapter(folder: Path) -> Path:
    """An adapter as it is before it has learned anything."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from rlrules.models import resolve_model

    model = AutoModelForCausalLM.from_pretrained(resolve_model(EMBEDDED))
    get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")).save_pretrained(folder)
    return folder


def _trainer(folder: Path, name: str, server: "tuple[str, Sync]", steps: int, turn: Turn) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import GRPOConfig

    from rlrules.models import resolve_model
    from rlrules.recipe.rollouts import RolloutsSection
    from rlrules.rewards.engine import RewardEngine
    from rlrules.rewards.length import LengthScorer
    from rlrules.rewards.objective import WeightedSumConfig
    from rlrules.training.grpo import RulesGRPOTrainer
    from rlrules.training.log import RunLog
    from rlrules.training.scoring import BatchScorer

    folder.mkdir()
    url, sync = server
    # All completions have as many tokens: for vLLM nothing ends one, for transformers nothing may before.
    whole: dict[str, Any] = {"stop_token_ids": []} if name == "http" else {"min_new_tokens": TOKENS}
    arguments = GRPOConfig(
        output_dir=str(folder / "out"), max_steps=steps, per_device_train_batch_size=ROWS, num_generations=4,
        max_completion_length=TOKENS, generation_kwargs=whole, logging_steps=1, save_strategy="no",
        report_to="none", bf16=False, use_cpu=True, gradient_checkpointing=False, disable_tqdm=True,
        remove_unused_columns=False, model_init_kwargs={"dtype": "float32"},
    )  # fmt: skip
    engine = RewardEngine(
        {"length": LengthScorer(2, 10)}, WeightedSumConfig(weights={"length": 1}).build(), ["length"], 60
    )
    adapter = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = RulesGRPOTrainer(
        scorer=BatchScorer(engine, {}, RunLog(folder), 0.05, "group"),
        rollouts=RolloutsSection(urls=[url], sync=sync) if name == "http" else None,
        model=resolve_model(EMBEDDED),
        args=arguments,
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": f"Tell me about number {n}."}]} for n in range(64)]
        ),
        peft_config=adapter if sync == "lora" else None,
        callbacks=[turn(name)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
