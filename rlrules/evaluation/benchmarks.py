"""Every benchmark that can be run: its configuration, its run, its headline; whoever runs one comes through here."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrules.data.stage_log import Tell

if TYPE_CHECKING:
    from rlrules.evaluation.config import EvalConfig


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark. What it names is imported when it is used: some of it takes seconds.

    Attributes:
        configured_by: Class of its configuration, in `evaluation/config.py`.
        run_by: "module:function" of its run, in this room.
        headline: Metrics that its page begins with.
        given: What its run takes before all else.
    """

    configured_by: str
    run_by: str
    headline: tuple[str, ...]
    given: tuple[str, ...] = ()

    def config(self) -> "type[EvalConfig]":
        """The class of its configuration."""
        found: type[EvalConfig] = getattr(import_module("rlrules.evaluation.config"), self.configured_by)
        return found

    def work(self) -> Callable[..., Awaitable[dict[str, Any]]]:
        """Its run: (config, judge, model, folder, tell) -> metrics."""
        module, _, name = self.run_by.partition(":")
        return partial(getattr(import_module(f"rlrules.evaluation.{module}"), name), *self.given)


_INSTRUCTIONS = ("prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose")
BENCHMARKS = {
    "alpaca": Benchmark("AlpacaConfig", "alpaca_run:run_alpaca", ("win_rate", "length_controlled_winrate")),
    "mt-bench": Benchmark(
        "MTBenchEvalConfig",
        "mt_bench_run:run_mt_bench",
        ("average", "turn1", "turn2", "heldout", "win_rate_adjusted"),
    ),
    "arena-hard": Benchmark("ArenaHardConfig", "arena_hard_run:run_arena_hard", ("score",)),
    "ifeval": Benchmark("InstructionsConfig", "instructions_run:run_instructions", _INSTRUCTIONS, ("ifeval",)),
    "ifbench": Benchmark("InstructionsConfig", "instructions_run:run_instructions", _INSTRUCTIONS, ("ifbench",)),
    "jigsaw": Benchmark("JigsawEvalConfig", "vision_run:run_jigsaw", ("exact", "accuracy", "format", "reward")),
    "gui": Benchmark("GuiEvalConfig", "vision_run:run_gui", ("accuracy",)),
    "rules": Benchmark("RulesEvalConfig", "rules_run:run_rules", ("satisfied",)),
    "reward-bench": Benchmark("RewardBenchConfig", "reward_run:run_reward_bench", ("overall", "example_weighted")),
    "rm-bench": Benchmark(
        "RMBenchConfig", "reward_run:run_rm_bench", ("overall", "easy", "normal", "hard", "example_weighted")
    ),
    "preference": Benchmark(
        "PreferenceEvalConfig", "reward_run:run_preference", ("accuracy", "accuracy_ties_half", "macro")
    ),
    "calibrate": Benchmark(
        "CalibrationConfig",
        "calibration:run_calibration",
        ("agreement", "kappa", "spearman_of_models", "flip_rate", "p_first", "p_longer"),
    ),
}
"""By the name that `rlrules eval` knows it by."""


def run_benchmark(name: str, config: "EvalConfig", folder: Path, tell: Tell) -> dict[str, Any]:
    """Run a benchmark with its judges, and write its page.

    Args:
        name: In `BENCHMARKS`.
        config: Of its class.
        folder: The result's; what is there already is not done again.
        tell: Told of progress.

    Returns:
        Its metrics.

    Raises:
        RlrulesError: What the benchmark raises.
    """
    from rlrules.evaluation.page import write_page
    from rlrules.judges import build_judge

    benchmark = BENCHMARKS[name]
    made = {
        part: build_judge(part, section) if (section := getattr(config, part, None)) is not None else None
        for part in ("judge", "model")
    }

    async def all_of_it() -> dict[str, Any]:
        try:
            return await benchmark.work()(config, made["judge"], made["model"], folder, tell)
        finally:
            for judge in made.values():
                if judge is not None:
                    await judge.close()

    metrics = asyncio.run(all_of_it())
    write_page(folder, benchmark.headline)
    return metrics
