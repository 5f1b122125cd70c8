"""A stock TRL trainer that gets its rewards from a server."""

from pathlib import Path
from typing import Any

import pytest

from rlrules.rewards.remote_trl import RemoteReward
from tests.e2e.training import tiny_policy
from tests.serving.shared import metric, serving

pytestmark = pytest.mark.e2e
RECIPE = """\
rewards:
  letters: {type: "tests.e2e.scorers:Letters"}
  short: {type: length, free: 4, per_tokens: 10}
objective: {type: weighted_sum, weights: {letters: 1, short: 1}}
"""


def test_stock_grpo_trainer_learns_from_a_server(tmp_path: Path) -> None:
    import httpx2
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    rows = [{"prompt": [{"role": "user", "content": f"Tell me about {n}."}], "id": n} for n in range(8)]
    arguments = GRPOConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        disable_tqdm=True,
        model_init_kwargs={"dtype": "float32"},
        reward_weights=[1.0, 0.0],
    )
    seen: list[float] = []

    def same(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        """The served rewards, worked out here; weighs nothing."""
        texts = [completion[0]["content"] for completion in completions]
        shares = [text.count("e") / max(1, len(text)) for text in texts]
        made = [share - max(0, len(ids) - 4) / 10 for share, ids in zip(shares, completion_ids, strict=True)]
        seen.append(sum(made) / len(made))
        return made

    with serving(tmp_path, RECIPE) as url:
        trainer = GRPOTrainer(
            model=str(tiny_policy(tmp_path / "policy")),
            reward_funcs=[RemoteReward(urls=[url], row=["id"]), same],
            args=arguments,
            train_dataset=Dataset.from_list(rows),
        )
        trainer.train()
        text = httpx2.get(url + "/metrics").text
    logged = [line for line in trainer.state.log_history if "reward" in line]
    assert [line["reward"] for line in logged] == pytest.approx(seen, abs=1e-6) and len(seen) == 2
    assert logged[0]["rewards/remote/mean"] == pytest.approx(seen[0], abs=1e-6)
    # One group a step: 2 requests, 2 rewards of 4 completions each.
    assert metric(text, "rlrules_requests_total", route="/v1/score", status="200") == 2
    assert metric(text, "rlrules_completions_total", status="ok") == 16
