"""Scoring beside a rollout, in the trainer: begun earlier, and nothing else differs."""

import json
import random
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from trl import GRPOConfig
from trl.chat_template_utils import add_response_schema, qwen3_chat_template

from rlrules.data.tokenizers import load_tokenizer
from rlrules.images import image_part
from rlrules.models import TINY_VLM, resolve_model
from rlrules.recipe.sampling import DomainAwareConfig
from rlrules.rewards.base import Resources, Scorer
from rlrules.rewards.engine import RewardEngine
from rlrules.rewards.length import LengthScorer
from rlrules.rewards.objective import WeightedSumConfig
from rlrules.rewards.rules import RulesConfig
from rlrules.training.grpo import RulesGRPOTrainer
from rlrules.training.images import dataset_of
from rlrules.training.log import RunLog
from rlrules.training.sampling import DomainSampler
from rlrules.training.scoring import BatchScorer
from rlrules.types import Group, Score, Scored
from tests.fakes.judge import scripted_judge
from tests.fakes.watched import Watched, tasks_left, wait_for
from tests.training.tiny import tiny_qwen

ROWS = [{"prompt": f"Tell me about topic {n}.", "domain": "ab"[n % 2]} for n in range(16)]
Tell = Callable[[int, list[int]], None]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("qwen"))


class Generator:
    """Stands in TRL's way to vLLM. A completion depends on its prompt and row; two threads tell of them, out of order.

    Args:
        end: Token that ends a completion.
        then: Called when all were told of, before they are returned.
        told: What is told of a completion.
    """

    def __init__(
        self, end: int, then: Callable[[], Any] = bool, told: Callable[[list[int]], list[int]] = lambda ids: ids
    ) -> None:
        self.finished: Tell | None = None
        self.end, self.then, self.told = end, then, told

    def sync_weights(self) -> None:
        pass

    def generate(self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any) -> Any:
        made = [self.completion(prompt, row) for row, prompt in enumerate(prompts)]
        rows = list(range(len(made)))
        random.Random(0).shuffle(rows)
        if self.finished is not None:
            halves = [threading.Thread(target=self.tell, args=(self.finished, rows[n::2], made)) for n in (0, 1)]
            for half in halves:
                half.start()
            for half in halves:
                half.join()
        self.then()
        return prompts, made, [[[-1.0]] * len(ids) for ids in made], None

    def tell(self, finished: Tell, rows: list[int], made: list[list[int]]) -> None:
        for row in rows:
            finished(row, self.told(made[row]))

    def completion(self, prompt: list[int], row: int) -> list[int]:
        draw = random.Random(f"{prompt} {row}")
        ids = [draw.randrange(50, 250) for _ in range(draw.randrange(1, 8))]
        return ids if row % 5 == 0 else [*ids, self.end]


class Longest:
    """A group scorer."""

    def __init__(self) -> None:
        self.asked = 0

    async def score(self, group: Group) -> Scored:
        self.asked += 1
        most = max(completion.tokens for completion in group.completions)
        return Scored(tuple(Score(float(one.tokens == most)) for one in group.completions))


def make(
    folder: Path, policy: Path, scorers: dict[str, Scorer], overlap: bool, generator: Any = None, **changes: Any
) -> RulesGRPOTrainer:
    """A rollout is two groups of 4, in two micro-batches."""
    folder.mkdir(exist_ok=True)
    sampler, rows, judges = changes.pop("sampler", None), changes.pop("rows", ROWS), changes.pop("judges", {})
    tokenizer = changes.pop("tokenizer", None) or load_tokenizer(str(policy))
    plain = {
        "output_dir": str(folder / "out"), "per_device_train_batch_size": 4, "num_generations": 4, "beta": 0.1,
        "gradient_accumulation_steps": 2, "max_completion_length": 8, "use_cpu": True, "bf16": False, "max_steps": 2,
        "report_to": "none", "gradient_checkpointing": False, "disable_tqdm": True, "learning_rate": 1e-3,
        "logging_steps": 1, "save_strategy": "no", "remove_unused_columns": False, "seed": 3,
        "per_device_eval_batch_size": 8, "vllm_importance_sampling_correction": False,
        "model_init_kwargs": {"dtype": "float32"},
    }  # fmt: skip
    engine = RewardEngine(scorers, WeightedSumConfig(weights=dict.fromkeys(scorers, 1.0)).build(), list(scorers), 60)
    trainer = RulesGRPOTrainer(
        scorer=BatchScorer(engine, judges, RunLog(folder), 0.0, "group", sampler),
        sampler=sampler,
        overlap=overlap,
        model=str(policy),
        args=GRPOConfig(**(plain | changes)),
        train_dataset=dataset_of(rows),
        eval_dataset=dataset_of(rows[:4]),
        processing_class=tokenizer,
    )
    if generator is not None:
        trainer.use_vllm, trainer.vllm_mode, trainer._last_loaded_step = True, "server", -1
        trainer.vllm_generation = generator
    return trainer


def rollout(trainer: RulesGRPOTrainer) -> dict[str, Any]:
    trainer.model.train()
    made: dict[str, Any] = trainer._generate_and_score_completions([row for row in ROWS[:2] for _ in range(4)])
    return made


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "completions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("overlap", [True, False])
def test_what_the_generator_tells_of_is_scored_before_it_is_done(tmp_path: Path, policy: Path, overlap: bool) -> None:
    watched, longest = Watched(), Longest()
    watched.go.set()
    seen: list[tuple[int, int]] = []

    def then() -> None:
        if overlap:
            wait_for(lambda: len(watched.asked) == 8 and longest.asked == 2)
        seen.append((len(watched.asked), longest.asked))

    trainer = make(tmp_path, policy, {"watched": watched, "longest": longest}, overlap, Generator(0, then))
    rollout(trainer)
    assert seen == ([(8, 2)] if overlap else [(0, 0)])
    assert trainer.vllm_generation.finished is None
    metrics = trainer._metrics["train"]
    assert ("time/overlapped_s" in metrics) == overlap
    if overlap:
        assert metrics["overlap/rescored"] == [0] and metrics["time/overlapped_s"][0] > 0
    assert [line["scores"]["watched"] for line in logged(tmp_path)] == [line["tokens"] for line in logged(tmp_path)]


@pytest.mark.parametrize("overlap", [True, False])
def test_scoring_goes_on_while_log_probabilities_are_taken(
    tmp_path: Path, policy: Path, overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    watched.go.set()
    trainer = make(tmp_path, policy, {"watched": watched}, overlap)
    seen: list[int] = []
    reference = trainer._get_per_token_logps_and_entropies

    def passes(*arguments: Any, **named: Any) -> Any:
        if overlap:
            wait_for(lambda: len(watched.asked) > 0)
        seen.append(len(watched.asked))
        return reference(*arguments, **named)

    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", passes)
    rollout(trainer)
    assert len(seen) == 1 and (seen[0] > 0) == overlap
    assert len(set(watched.asked)) == len({line["completion"] for line in logged(tmp_path)})


@pytest.mark.parametrize("kind", ["told", "sampled"])
def test_a_run_is_the_same_on_and_off(tmp_path: Path, policy: Path, kind: str) -> None:
    (tmp_path / "rules.json").write_text('{"rules": [{"id": "a", "text": "good"}, {"id": "b", "text": "short"}]}')
    questions, weights, metrics = [], [], []
    for overlap in (True, False):
        # Without a cache, so that every question is counted.
        judge, backend = scripted_judge(lambda question: "Yes" if zlib.crc32(str(question).encode()) % 2 else "No")
        rules = RulesConfig(judge="verifier", rules=str(tmp_path / "rules.json"))
        scorers = {"rules": rules.build(Resources({"verifier": judge})), "longest": Longest()}
        config = DomainAwareConfig(column="domain", signal="rules")
        trainer = make(
            tmp_path / str(overlap), policy, scorers, overlap, Generator(0) if kind == "told" else None,
            sampler=DomainSampler(config, ROWS, 2, 0) if kind == "sampled" else None, judges={"verifier": judge},
            eval_strategy="steps", eval_steps=2,
        )  # fmt: skip
        trainer.train()
        questions.append(sorted(map(str, backend.questions)))
        weights.append(torch.cat([one.flatten() for one in trainer.model.parameters()]))
        metrics.append([{**line} for line in trainer.state.log_history])
    on, off = logged(tmp_path / "True"), logged(tmp_path / "False")
    assert on == off and len(on) == 2 * 8 + 16
    assert {line["mode"] for line in on} == {"train", "eval"} and len({line["reward"] for line in on}) > 2
    assert questions[0] == questions[1]
    before = torch.cat([one.flatten() for one in trainer.ref_model.parameters()])
    assert torch.equal(*weights) and not torch.equal(weights[0], before)
    for lines in metrics:
        for line in lines:
            for name in [name for name in line if "time" in name or "overlap" in name or "per_second" in name]:
                line.pop(name)
            line.pop("judge/verifier/latency_s", None)
    assert metrics[0] == metrics[1]


def test_a_generation_that_fails_leaves_nothing_behind(tmp_path: Path, policy: Path) -> None:
    watched = Watched()

    def fail() -> None:
        wait_for(lambda: len(watched.asked) == 8)
        raise ConnectionError("the server is gone")

    generator = Generator(0, fail)
    trainer = make(tmp_path, policy, {"watched": watched, "longest": Longest()}, True, generator)
    with pytest.raises(ConnectionError):
        rollout(trainer)
    wait_for(lambda: len(watched.cancelled) == 8)
    assert tasks_left() == 0 and generator.finished is None
    assert not (tmp_path / "completions.jsonl").exists()
    generator.then = watched.go.set
    rollout(trainer)
    assert len(logged(tmp_path)) == 8


def test_a_generator_that_tells_other_tokens_than_it_returns_costs_time_only(tmp_path: Path, policy: Path) -> None:
    rewards = []
    for overlap in (True, False):
        folder = tmp_path / str(overlap)
        generator = Generator(0, told=lambda ids: ids[:1])
        trainer = make(folder, policy, {"length": LengthScorer(0, 1)}, overlap, generator)
        rollout(trainer)
        rewards.append([line["reward"] for line in logged(folder)])
        if overlap:
            assert trainer._metrics["train"]["overlap/rescored"] == [2]
    assert rewards[0] == rewards[1] and len(set(rewards[0])) > 2


@pytest.mark.parametrize("parsed", [True, False])
def test_early_texts_are_what_trl_decodes(tmp_path: Path, policy: Path, parsed: bool) -> None:
    tokenizer = load_tokenizer(str(policy))
    if parsed:
        tokenizer.chat_template = qwen3_chat_template
        tokenizer = add_response_schema(tokenizer)
    texts = ["<think>\nHm.\n</think>\n\nYes.", "No thought.", "<think>\nNever ended", " spaces  and\n\nlines \n"]

    class Saying(Generator):
        def completion(self, prompt: list[int], row: int) -> list[int]:
            ids: list[int] = tokenizer(texts[row % 4])["input_ids"]
            return [*ids, tokenizer.eos_token_id]

    watched = Watched()
    watched.go.set()
    rows = [{"prompt": [{"role": "user", "content": f"Question {n}?"}]} for n in range(4)]
    trainer = make(
        tmp_path, policy, {"watched": watched}, True, Saying(tokenizer.eos_token_id), rows=rows, tokenizer=tokenizer
    )
    trainer.model.train()
    trainer._generate_and_score_completions([row for row in rows[:2] for _ in range(4)])
    assert trainer._metrics["train"]["overlap/rescored"] == [0]
    found = [line["completion"] for line in logged(tmp_path)]
    assert found == [line["details"]["watched"]["said"] for line in logged(tmp_path)]
    assert found[0].startswith("<think>") and found[0].endswith("Yes.")
    assert (found[3] == texts[3]) != parsed, "TRL's parser strips"


def test_rows_with_images_are_told_of_too(tmp_path: Path) -> None:
    path = resolve_model(TINY_VLM)
    processor = load_tokenizer(path)
    Image.new("RGB", (56, 56), (9, 200, 30)).save(tmp_path / "seen.png")
    parts = [image_part(str(tmp_path / "seen.png")), {"type": "text", "text": "What is it?"}]
    rows = [{"prompt": [{"role": "user", "content": parts}], "answer": number} for number in range(4)]
    generator = Generator(processor.tokenizer.eos_token_id)
    trainer = make(
        tmp_path, Path(path), {"length": LengthScorer(0, 1)}, True, generator, rows=rows, tokenizer=processor
    )
    trainer.model.train()
    trainer._generate_and_score_completions(dataset_of(rows).__getitems__([0] * 4 + [1] * 4))
    assert trainer._metrics["train"]["overlap/rescored"] == [0]
    assert [line["answer"] for line in logged(tmp_path)] == [0] * 4 + [1] * 4
