"""Reward benchmarks with a real, tiny classifier in this process."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrules.rewards.base import Resources
from rlrules.rewards.reward_model import RewardModelConfig
from rlrules.types import Completion, Group
from tests.evaluation.shared import called, read_lines, write_lines
from tests.rewards.test_reward_model import classifier

__all__ = ["classifier"]

TEXTS = ["short", "a much longer answer than the other one is", "?", "no", "yes, of course it is", "b"]


def direct(folder: Path, prompt: str, texts: list[str]) -> list[float]:
    scorer = RewardModelConfig(type="reward_model", model=str(folder)).build(Resources())
    group = Group(({"role": "user", "content": prompt},), tuple(Completion(text, 0) for text in texts))
    return [float(score.value or 0) for score in asyncio.run(scorer.score(group)).scores]


def run(command: str, folder: Path, model: Path, **more: Any) -> dict[str, Any]:
    path = folder / "run.yaml"
    path.write_text(json.dumps({"reward_model": {"type": "reward_model", "model": str(model)}, "resamples": 0} | more))
    return called(command, path, "-o", folder / "out")


def test_rm_bench_scores_every_answer_once(tmp_path: Path, classifier: Path) -> None:
    item = {"id": "1", "domain": "math", "prompt": "p", "chosen": TEXTS[:3], "rejected": TEXTS[3:]}
    found = run("rm-bench", tmp_path, classifier, data=[str(write_lines(tmp_path / "rm.jsonl", [item]))])
    scores = np.array(direct(classifier, "p", TEXTS))
    wins = scores[:3, None] > scores[None, 3:]
    assert found["example_weighted"] == pytest.approx(wins.mean())
    assert found["cells"]["math"]["normal"] == pytest.approx(np.diag(wins).mean())
    [row] = read_lines(tmp_path / "out/rows.jsonl")
    assert row["data"]["scores"] == pytest.approx(scores.tolist(), abs=1e-5)


def test_reward_bench_2(tmp_path: Path, classifier: Path) -> None:
    rows = [
        {
            "id": str(n),
            "subset": "Math",
            "prompt": f"p{n}",
            "chosen": [TEXTS[n]],
            "rejected": [t for t in TEXTS if t != TEXTS[n]],
        }
        for n in range(6)
    ]
    long = {"id": "long", "subset": "Focus", "prompt": "p", "chosen": ["word " * 9000], "rejected": ["b", "c", "d"]}
    path = write_lines(tmp_path / "rb2.jsonl", [*rows, long])
    found = run("reward-bench", tmp_path, classifier, data=str(path), max_failed=0.2)
    best = [int(np.argmax(direct(classifier, f"p{n}", [TEXTS[n], *rows[n]["rejected"]]))) == 0 for n in range(6)]
    assert found["subsets"] == {"Math": pytest.approx(np.mean(best))}
    # An answer too long for the model has no score, which is counted and never a number.
    assert found["n_failed"] == 1 and found["counts"]["n_unparsed"] == 1
