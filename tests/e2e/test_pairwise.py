"""Policies trained straight from comparisons."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrules.judges import OpenAIJudgeConfig, build_judge
from rlrules.judges.compare import Compared, Comparer
from rlrules.judges.comparison import LABELS, Kind
from rlrules.models import DEFAULT_MODEL
from rlrules.types import Message
from tests.e2e.training import lines, run, tiny_policy, write_recipe
from tests.fakes.openai_server import FakeServer, by_shorter

pytestmark = pytest.mark.e2e

# Think-RM, section 7, G10, as this package names it.
GROUP_METRICS = [
    "pairs_asked",
    "slot_a_wins",
    "order_disagreement",
    "slot_bias",
    "kappa",
    "invalid",
    "failed",
    "truncated",
    "forced",
    "answer_cut",
    "thought_tokens",
    "all_tied",
    "var_b",
    "strength_to_0.25",
    "strength_to_0.5",
    "strength_to_0.75",
    "strength_to_1",
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("policy"))


def pairwise_recipe(folder: Path, policy: Path, url: str, **changes: Any) -> Path:
    judge = {"type": "openai", "urls": [url], "model": "fake", "cache": False, "timeout_s": 10}
    sections = {
        "judges": {"judge": judge},
        "rewards": {"pref": {"type": "preference", "judge": "judge"}},
        "objective": {"type": "pairwise", "weights": {"pref": 1}},
        "training": {"scale_rewards": "none", "save_strategy": "no"},
    }
    for name, change in changes.items():
        sections[name] = {**sections[name], **change}
    return write_recipe(folder, policy, **sections)


def grouped(path: Path) -> list[list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines(path):
        groups[line["group"]].append(line)
    return list(groups.values())


def test_a_run_logs_all_there_is_to_know(tmp_path: Path, policy: Path) -> None:
    with FakeServer(by_shorter) as server:
        recipe = pairwise_recipe(tmp_path, policy, server.url, training={"max_steps": 3})
        code, output = run(tmp_path, recipe)
    assert code == 0, output
    logged = [line for line in lines(tmp_path / "runs/run/metrics.jsonl") if "loss" in line]
    assert len(logged) == 3
    seen = {key for line in logged for key in line}
    assert {f"rewards/pref/{name}" for name in GROUP_METRICS} <= seen
    assert {"objective/kappa", "objective/den", "objective/advantage_std", "judge/judge/latency_s"} <= seen
    for group in grouped(tmp_path / "runs/run/completions.jsonl"):
        texts = [line["completion"].strip() for line in group]
        assert sum(line["advantage"] for line in group) == pytest.approx(0, abs=1e-6)
        assert [line["advantage"] for line in group] == pytest.approx([line["reward"] for line in group])
        best = max(range(4), key=lambda n: group[n]["advantage"])
        assert len(texts[best]) == min(map(len, texts))
        told = [one for line in group for one in line["details"].get("pref", {}).get("comparisons", [])]
        assert len(told) == 2 * sum(texts[i] != texts[j] for i in range(4) for j in range(i))


def test_two_ranks_share_a_batch_s_denominator(tmp_path: Path, policy: Path) -> None:
    objective = {"normalize": "batch"}
    with FakeServer(by_shorter) as server:
        recipe = pairwise_recipe(tmp_path, policy, server.url, objective=objective, training={"max_steps": 2})
        code, output = run(tmp_path, recipe, ranks=2)
    assert code == 0, output
    for step in (1, 2):
        groups = [group for group in grouped(tmp_path / "runs/run/completions.jsonl") if group[0]["step"] == step]
        assert len(groups) == 2
        squares = 0.0
        for group in groups:
            told = [one for line in group for one in line["details"].get("pref", {}).get("comparisons", [])]
            strengths = {(one["a"], one["b"]): one["strength"] for one in told}
            squares += sum(((strengths[b, a] - s) / 2) ** 2 for (a, b), s in strengths.items() if a < b)
        # Six pairs a group, those of equal completions among them.
        shared = (squares / 12 / 2) ** 0.5
        for line in (line for group in groups for line in group):
            assert line["advantage"] == pytest.approx(line["scores"]["pref"] / shared)
    metrics = [line for line in lines(tmp_path / "runs/run/metrics.jsonl") if "loss" in line]
    assert all("objective/den" in line for line in metrics)


def test_trl_takes_the_advantages_as_they_are(tmp_path: Path, policy: Path) -> None:
    """T12: what TRL trains on is T1's advantages, as far as a float32 goes."""
    from datasets import Dataset
    from trl import GRPOConfig

    from rlrules.training.grpo import RulesGRPOTrainer

    t1 = (np.array([1.5, -0.75, -1.75, 1.0]) / (56 / 24) ** 0.5).tolist()

    class Fixed:
        def score(self, batch: Any, log_metric: Any) -> list[float]:
            return t1

    for scale, expected in (("none", t1), ("group", [0.9908, -0.4954, -1.1559, 0.6605])):
        arguments = GRPOConfig(
            output_dir=str(tmp_path / scale),
            max_steps=1,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=4,
            scale_rewards=scale,
            report_to="none",
            save_strategy="no",
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        rows = Dataset.from_list([{"prompt": [{"role": "user", "content": f"Number {n}?"}]} for n in range(4)])
        trainer = RulesGRPOTrainer(scorer=Fixed(), model=str(policy), args=arguments, train_dataset=rows)
        trainer.train()
        assert list(trainer._logs["advantages"]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_a_real_server_goes_on_with_a_thought_that_ran_out(vllm_server: Any, kind: Kind) -> None:
    judge = build_judge(
        "judge", OpenAIJudgeConfig(urls=[vllm_server.url], model=DEFAULT_MODEL, cache=False, max_tokens=16)
    )
    prompt: list[Message] = [{"role": "user", "content": "What is the capital of France?"}]
    replies = ("Paris is the capital of France.", "I do not know.")

    async def ask() -> tuple[str | None, list[Compared]]:
        ending = await judge.prompt_end(prompt)
        made = [
            await Comparer(judge, kind, think, probabilities).compare(prompt, *replies)
            for think, probabilities in ((True, False), (True, True), (False, True))
        ]
        await judge.close()
        return ending, made

    ending, (forced, weighed, at_once) = asyncio.run(ask())
    assert ending is not None and ending.endswith("<|im_start|>assistant\n")
    # The embedded default does not know of thoughts.
    assert forced.forced and weighed.forced and not at_once.forced and 0 < forced.tokens <= 16
    assert forced.verdict.label in LABELS[kind]
    for one in (weighed, at_once):
        shares = one.verdict.probabilities
        assert set(shares) == set(LABELS[kind]) and sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) > 0 and shares[one.verdict.label] == max(shares.values()) < 1
