"""What scoring beside generation saves of a rollout."""

import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import EMBEDDED, fake_judge

GROUPS, SIZE, RULES = 16, 4, 2
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
) -> None:
    """Generate-and-score time of a rollout, overlapped over one after the other, through the trainer.

    A fake judge gives one verdict at a time, so many a second that a rollout's take as long as its generation; a call
    takes at most a tenth of that. Nothing is cached; both orders must give the same rewards.
    """
    calls = GROUPS * SIZE * RULES
    with fake_judge("--per-second", str(calls / seconds)) as url, tempfile.TemporaryDirectory() as folder:
        trainers = {name: _trainer(Path(folder), url, seconds, name == "overlapped") for name in NAMES}
        taken: dict[str, list[float]] = {name: [] for name in NAMES}
        for number in range(pairs + 1):
            rewards = {}
            for name in NAMES if number % 2 else reversed(NAMES):
                rewards[name], took = _rollout(trainers[name], number)
                taken[name].append(took)
            assert rewards["overlapped"] == rewards["sequential"], "the orders differ in rewards"
        with urllib.request.urlopen(url.removesuffix("/v1") + "/counts") as told:
            assert json.load(told)["answered"] == 2 * calls * (pairs + 1)
    # The first pair loads what is loaded late.
    ratios = [one / other for one, other in zip(*(taken[name][1:] for name in NAMES), strict=True)]
    for name in NAMES:
        print(f"{name}: median {statistics.median(taken[name][1:]):.2f} s of {pairs} rollouts")
    print(f"generation {seconds:g} s, {calls} verdicts at {calls / seconds:.1f}/s, {seconds / calls:.3f} s each")
    print(f"ratio: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {pairs} pairs)")


def _rollout(trainer: Any, number: int) -> tuple[list[float | None], float]:
    """One rollout's rewards, and its seconds."""
    rows = [trainer.train_dataset[row] for row in range(GROUPS) for _ in range(SIZE)]
    trainer.vllm_generation.round = number
    started = time.monotonic()
    trainer._generate_and_score_completions(rows)
    took = time.monotonic() - started
    lines = (Path(trainer.args.output_dir).parent / "completions.jsonl").read_text().splitlines()
    return [json.loads(line)["reward"] for line in lines[-len(rows) :]], took


def _trainer(folder: Path, judge: str, seconds: float, overlapped: bool) -> Any:
    from datasets import Dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig

    from rlrules.judges import OpenAIJudgeConfig, build_judge
    from rlrules.models import resolve_model
    from rlrules.rewards.base import Resources
    from rlrules.rewards.engine import RewardEngine
    from rlrules.rewards.objective import WeightedSumConfig
    from rlrules.rewards.rules import RulesConfig
    from rlrules.training.grpo import RulesGRPOTrainer
    from rlrules.training.log import RunLog
    from rlrules.training.scoring import BatchScorer

    run = folder / ("overlapped" if overlapped else "sequential")
    run.mkdir()
    rules = {"rules": [{"id": f"rule-{number}", "text": f"Keeps to point {number}."} for number in range(RULES)]}
    (run / "rules.json").write_text(json.dumps(rules))
    verifier = build_judge("verifier", OpenAIJudgeConfig(urls=[judge], model="fake", cache=False))
    config = RulesConfig(judge="verifier", rules=str(run / "rules.json"))
    scorers = {"rules": config.build(Resources({"verifier": verifier}))}
    engine = RewardEngine(scorers, WeightedSumConfig(weights={"rules": 1}).build(), ["rules"], 600)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(EMBEDDED))
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    arguments = GRPOConfig(
        output_dir=str(run / "out"), max_steps=1, per_device_train_batch_size=GROUPS * SIZE, num_generations=SIZE,
        max_completion_length=TOKENS, save_strategy="no", report_to="none", bf16=False, use_cpu=True,
        gradient_checkpointing=False, disable_tqdm=True, remove_unused_columns=False,
        vllm_importance_sampling_correction=False,  # Its forward pass is neither generation nor scoring.
    )  # fmt: skip
    trainer = RulesGRPOTrainer(
        scorer=BatchScorer(engine, {"verifier": verifier}, RunLog(run), 0.0, "group"),
        overlap=overlapped,
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": f"Tell me about number {n}."} for n in range(GROUPS)]),
        processing_class=tokenizer,
    )
    trainer.model.train()
    # As TRL is told of servers that generate, once it is made.
    trainer.use_vllm, trainer.vllm_mode, trainer._last_loaded_step = True, "server", -1
    trainer.vllm_generation = Streaming(seconds, tokenizer.eos_token_id)
    return trainer
