"""What scoring beside generation saves of a rollout."""

import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.common import EMBEDDED, fake_judge

if TYPE_CHECKING:
    from rlrules.engines.vllm import VllmServer
    from rlrules.rewards.engine import RewardEngine

GROUPS, SIZE, RULES = 16, 4, 2
CALLS = GROUPS * SIZE * RULES
TOKENS = 16
NAMES = ("overlapped", "sequential")


class Streaming:
    """Generates by the clock: completions are finished spread evenly over its time, those of a prompt far apart.

    Args:
        seconds: Until the last is.
        end: Token that ends a completion.
    """

    def __init__(self, seconds: float, end: int) -> None:
        self.finished: Callable[[int, list[int]], None] | None = None
        self.round = 0
        self._seconds, self._end = seconds, end

    def sync_weights(self) -> None:
        """There are none."""

    def generate(self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any) -> Any:
        """As TRL's `VLLMGeneration`; another completion for every row and round."""
        started = time.monotonic()
        made = [self._completion(row) for row in range(len(prompts))]
        order = sorted(range(len(made)), key=lambda row: (row % SIZE, row))
        for count, row in enumerate(order, 1):
            time.sleep(max(0.0, started + self._seconds * count / len(order) - time.monotonic()))
            if self.finished is not None:
                self.finished(row, made[row])
        return prompts, made, [[[-1.0]] * len(ids) for ids in made], None

    def _completion(self, row: int) -> list[int]:
        number = self.round * 10_000 + row
        return [*(1000 + (number * (place + 1)) % 40_000 for place in range(TOKENS - 1)), self._end]


def overlap(
    seconds: Annotated[float, typer.Option(help="That generation takes, and all of a rollout's verdicts.")] = 6.0,
    pairs: Annotated[int, typer.Option(help="Pairs of rollouts that take turns.")] = 7,
    served: Annotated[bool, typer.Option(help="Generation by a vLLM server, in its own time.")] = False,
) -> None:
    """Generate-and-score time of a rollout, overlapped over one after the other, through the trainer.

    A fake judge gives one verdict at a time, so many a second that a rollout's take as long as its generation; a call
    takes at most a tenth of that. Nothing is cached. Generation by the clock must give both orders the same rewards;
    what a server generates is scored once more afterwards, and must get the rewards that it got.
    """
    with tempfile.TemporaryDirectory() as folder:
        if served:
            with _server() as server:
                _compare(Path(folder), _generation_s(Path(folder), server), pairs, server)
        else:
            _compare(Path(folder), seconds, pairs, None)


def _compare(folder: Path, seconds: float, pairs: int, server: "VllmServer | None") -> None:
    taken: dict[str, list[float]] = {name: [] for name in NAMES}
    with fake_judge("--per-second", str(CALLS / seconds)) as url:
        trainers = {name: _trainer(folder / name, url, name == "overlapped", server or seconds) for name in NAMES}
        for number in range(pairs + 1):
            rewards = {}
            for name in NAMES if number % 2 else reversed(NAMES):
                rewards[name], took = _rollout(trainers[name], number)
                taken[name].append(took)
            assert server or rewards["overlapped"] == rewards["sequential"], "the orders differ in rewards"
        with urllib.request.urlopen(url.removesuffix("/v1") + "/counts") as told:
            asked = json.load(told)["answered"]
        # Of equal completions of a group one is asked about.
        assert asked == 2 * CALLS * (pairs + 1) if server is None else asked <= 2 * CALLS * (pairs + 1)
    for name in NAMES if server else ():
        _scored_again(folder / name)
    # The first pair loads what is loaded late.
    ratios = [one / other for one, other in zip(*(taken[name][1:] for name in NAMES), strict=True)]
    for name in NAMES:
        generated = trainers[name]._metrics["train"]["time/rollout_s"][-pairs:] if server else []
        part = f", {statistics.median(generated):.2f} s of them generation" if generated else ""
        print(f"{name}: median {statistics.median(taken[name][1:]):.2f} s of {pairs} rollouts{part}")
    print(f"generation {seconds:.1f} s, {CALLS} verdicts at {CALLS / seconds:.1f}/s, {seconds / CALLS:.3f} s each")
    print(f"ratio: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {pairs} pairs)")


@contextmanager
def _server() -> "Iterator[VllmServer]":
    """A server that computes an eighth of a rollout at once, so that completions are finished one by one."""
    from rlrules.engines.vllm import VllmConfig, VllmServer

    config = VllmConfig(
        model=EMBEDDED, dtype="float32", max_model_len=256, max_num_seqs=8, kv_cache_gib=1, policy="lora",
        max_lora_rank=8,
    )  # fmt: skip
    with VllmServer(config) as server:
        yield server


def _generation_s(folder: Path, server: "VllmServer") -> float:
    """Median seconds of three rollouts that a judge of no delay scores, once the server is warm."""
    with fake_judge() as url:
        trainer = _trainer(folder / "alone", url, True, server)
        return statistics.median([_rollout(trainer, number)[1] for number in range(6)][3:])


def _rollout(trainer: Any, number: int) -> tuple[list[float | None], float]:
    """One rollout's rewards, and its seconds."""
    rows = [trainer.train_dataset[row] for row in range(GROUPS) for _ in range(SIZE)]
    if isinstance(trainer.vllm_generation, Streaming):
        trainer.vllm_generation.round = number
    started = time.monotonic()
    trainer._generate_and_score_completions(rows)
    took = time.monotonic() - started
    return [line["reward"] for line in _logged(Path(trainer.args.output_dir).parent)[-len(rows) :]], took


def _logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "completions.jsonl").read_text().splitlines()]


def _scored_again(run: Path) -> None:
    """Score what a run has logged one after the other; raises where a reward is another."""
    from rlrules.types import Completion, Group

    lines = _logged(run)
    with fake_judge() as url:
        groups = [
            Group(
                tuple(lines[start]["prompt"]),
                tuple(Completion(line["completion"], line["tokens"]) for line in lines[start : start + SIZE]),
            )
            for start in range(0, len(lines), SIZE)
        ]
        scored = _engine(run, url)[0].score(groups)
    again = [reward for group in scored for reward in group.outcome.rewards]
    assert again == [line["reward"] for line in lines], "a completion got another reward"


def _engine(run: Path, judge: str) -> "tuple[RewardEngine, Any]":
    from rlrules.judges import OpenAIJudgeConfig, build_judge
    from rlrules.rewards.base import Resources
    from rlrules.rewards.engine import RewardEngine
    from rlrules.rewards.objective import WeightedSumConfig
    from rlrules.rewards.rules import RulesConfig

    rules = {"rules": [{"id": f"rule-{number}", "text": f"Keeps to point {number}."} for number in range(RULES)]}
    (run / "rules.json").write_text(json.dumps(rules))
    verifier = build_judge("verifier", OpenAIJudgeConfig(urls=[judge], model="fake", cache=False))
    config = RulesConfig(judge="verifier", rules=str(run / "rules.json"))
    scorers = {"rules": config.build(Resources({"verifier": verifier}))}
    return RewardEngine(scorers, WeightedSumConfig(weights={"rules": 1}).build(), ["rules"], 600), verifier


def _trainer(run: Path, judge: str, overlapped: bool, generator: "VllmServer | float") -> Any:
    """A trainer in `run`, whose rollouts a server generates, or the clock within so many seconds."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import GRPOConfig

    from rlrules.models import resolve_model
    from rlrules.recipe.rollouts import RolloutsSection
    from rlrules.training.grpo import RulesGRPOTrainer
    from rlrules.training.log import RunLog
    from rlrules.training.scoring import BatchScorer

    run.mkdir()
    engine, verifier = _engine(run, judge)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(EMBEDDED))
    timed = isinstance(generator, float)
    arguments = GRPOConfig(
        output_dir=str(run / "out"), max_steps=1, per_device_train_batch_size=GROUPS * SIZE, num_generations=SIZE,
        max_completion_length=TOKENS if timed else 2 * TOKENS, save_strategy="no", report_to="none", bf16=False,
        use_cpu=True, gradient_checkpointing=False, disable_tqdm=True, remove_unused_columns=False,
        model_init_kwargs=None if timed else {"dtype": "float32"},
        vllm_importance_sampling_correction=False,  # Its forward pass is neither generation nor scoring.
    )  # fmt: skip
    trainer = RulesGRPOTrainer(
        scorer=BatchScorer(engine, {"verifier": verifier}, RunLog(run), 0.0, "group"),
        overlap=overlapped,
        rollouts=None if isinstance(generator, float) else RolloutsSection(urls=[generator.url], sync="lora"),
        model=_random_model(tokenizer) if timed else resolve_model(EMBEDDED),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": f"Tell me about number {n}."} for n in range(GROUPS)]),
        processing_class=tokenizer,
        peft_config=None if timed else LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.model.train()
    if isinstance(generator, float):
        # As TRL is told of servers that generate, once it is made.
        trainer.use_vllm, trainer.vllm_mode, trainer._last_loaded_step = True, "server", -1
        trainer.vllm_generation = Streaming(generator, tokenizer.eos_token_id)
    return trainer


def _random_model(tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
