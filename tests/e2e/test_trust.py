"""Trust-GRPO on small sums: a policy that learned to answer in tags, a judge of its reasoning on a real server."""

import asyncio
import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from rlrules.engines.vllm import VllmServer
from rlrules.judges import OpenAIJudgeConfig, build_judge
from rlrules.judges.thinking import LEVELS, grade_thinking
from rlrules.models import DEFAULT_MODEL
from rlrules.offline import score_file
from rlrules.recipe.load import load_recipe
from rlrules.recipe.schema import GrpoRecipe
from rlrules.rewards.objective_trust import MEMORY, TYPES
from rlrules.rewards.thinking import PROBE, SOUND
from rlrules.types import Progress
from tests.e2e.serving import counted
from tests.e2e.training import ROOT, lines, run

pytestmark = pytest.mark.e2e

STEPS, GROUPS, SIZE = 3, 2, 8


@pytest.fixture(scope="module")
def finished(vllm_server: VllmServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of finished runs of recipes/cpu/trust_grpo_start.yaml and recipes/cpu/trust_grpo.yaml."""
    folder = tmp_path_factory.mktemp("trust")
    (folder / "data").symlink_to(ROOT / "data")
    code, output = run(folder, ROOT / "recipes/cpu/trust_grpo_start.yaml", "training.max_steps=6")
    assert code == 0, output
    before = counted(vllm_server, "request_success_total")
    overrides = [
        f"judges.grader.urls=[{vllm_server.url}]",
        f"judges.grader.cache={folder / 'answers.sqlite'}",
        f"training.max_steps={STEPS}",
        f"training.per_device_train_batch_size={GROUPS * SIZE}",
        f"training.num_generations={SIZE}",
        "training.max_completion_length=28",
        f"training.save_steps={STEPS}",
        "training.save_only_model=true",
    ]
    code, output = run(folder, ROOT / "recipes/cpu/trust_grpo.yaml", *overrides)
    assert code == 0, output
    asked = counted(vllm_server, "request_success_total") - before
    assert asked >= 2, "grades must come from vLLM over HTTP"
    return folder


def by_side(group: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Grades of right and of wrong answers in good form."""
    formed = [line["scores"] for line in group if line["details"]["outcome"]["format"]]
    known = [(one["outcome"], one["thinking"]) for one in formed if one["thinking"] is not None]
    return [grade for right, grade in known if right], [grade for right, grade in known if not right]


def one_sided(group: list[dict[str, Any]]) -> bool:
    right, wrong = by_side(group)
    return bool(right) != bool(wrong)


def running_trust(logged: list[dict[str, Any]]) -> list[float]:
    """As it was at each step, and after the last."""
    trust = [1.0]
    for step in range(1, STEPS + 1):
        own = [line for line in logged if line["step"] == step]
        sides = [by_side(own[start : start + SIZE]) for start in range(0, len(own), SIZE)]
        gammas = [math.exp(min(0, fmean(right) - fmean(wrong))) for right, wrong in sides if right and wrong]
        kept = math.exp(-len(gammas) / MEMORY)
        trust.append(kept * trust[-1] + (1 - kept) * fmean(gammas) if gammas else trust[-1])
    return trust


def test_what_was_judged_and_what_was_not(finished: Path) -> None:
    logged = lines(finished / "runs/trust_grpo/completions.jsonl")
    assert len(logged) == STEPS * GROUPS * SIZE
    groups = [logged[start : start + SIZE] for start in range(0, len(logged), SIZE)]
    formed = [line for line in logged if line["details"]["outcome"]["format"]]
    assert len(formed) >= len(logged) / 2, "the start did not teach the form"
    judged = 0
    for group in groups:
        outcomes = [line["scores"]["outcome"] for line in group]
        for line in group:
            grade = line["scores"]["thinking"]
            if min(outcomes) == max(outcomes):
                assert grade is None and "not asked" in line["reasons"]["thinking"]
                assert line["reward"] == line["scores"]["outcome"]
            elif line["details"]["outcome"]["format"]:
                judged += 1
                assert 0 <= grade <= 1 and line["details"]["thinking"]["said"] in map(float, LEVELS)
    assert judged, "no group with right and wrong answers: nothing was judged"
    graded = [line["scores"]["thinking"] for line in logged if line["details"].get("thinking")]
    # Means over probabilities, not the eleven levels.
    assert len(set(graded)) > len(set(graded) & set(map(float, LEVELS)))


def test_metrics_and_state(finished: Path) -> None:
    steps = [line for line in lines(finished / "runs/trust_grpo/metrics.jsonl") if "loss" in line]
    logged = lines(finished / "runs/trust_grpo/completions.jsonl")
    for line in steps:
        own = [one for one in logged if one["step"] == line["step"]]
        assert line["reward"] == pytest.approx(fmean(one["reward"] for one in own), abs=1e-6)
        grades = [one["scores"]["thinking"] for one in own if one["details"].get("thinking")]
        assert line["objective/judged"] == pytest.approx(len(grades) / len(own), abs=1e-6)
        assert line["unscored"] == 0 and 0 <= line["objective/saturated"] <= 1
    assert any("objective/gamma" in line for line in steps)
    checkpoint = finished / f"runs/trust_grpo/checkpoints/checkpoint-{STEPS}"
    (found,) = json.loads((checkpoint / "states.json").read_text()).values()
    learned = running_trust(logged)[-1]
    assert found["gamma"] == pytest.approx({kind: learned if kind == "numerical" else 1 for kind in TYPES})


def test_logged_rewards_equal_offline_scoring(
    finished: Path, vllm_server: VllmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    loaded = load_recipe("runs/trust_grpo/recipe.yaml").of(GrpoRecipe)
    before = counted(vllm_server, "request_success_total")
    for step in range(1, STEPS + 1):
        logged = [line for line in lines(finished / "runs/trust_grpo/completions.jsonl") if line["step"] == step]
        (finished / "step.jsonl").write_text("".join(json.dumps(line) + "\n" for line in logged))
        score_file(loaded, finished / "step.jsonl", finished / "scored.jsonl", Progress(step, STEPS))
        scored = lines(finished / "scored.jsonl")
        assert [line["scores"] for line in scored] == [line["scores"] for line in logged]
        for start in range(0, len(logged), SIZE):
            group, again = logged[start : start + SIZE], scored[start : start + SIZE]
            if one_sided(group):
                # Without a run there is no running trust: it is 1.
                trust = running_trust(lines(finished / "runs/trust_grpo/completions.jsonl"))[step - 1]
                for line, other in zip(group, again, strict=True):
                    bonus, alone = (one["reward"] - one["scores"]["outcome"] for one in (line, other))
                    assert bonus == pytest.approx(trust * alone, abs=1e-6)
                continue
            for line, other in zip(group, again, strict=True):
                assert other["reward"] == pytest.approx(line["reward"], abs=1e-6)
                assert other["advantage"] == pytest.approx(line["advantage"], abs=1e-6)
    assert counted(vllm_server, "request_success_total") == before, "paid for in training"


def test_vllm_tells_the_probabilities_of_all_levels(vllm_server: VllmServer) -> None:
    config = OpenAIJudgeConfig(urls=[vllm_server.url], model=DEFAULT_MODEL, cache=False)
    judge = build_judge("grader", config)

    async def grade() -> None:
        try:
            graded = await grade_thinking(judge, PROBE, (), SOUND)
        finally:
            await judge.close()
        assert graded.outcome == "value" and f"{graded.said:.1f}" in LEVELS
        assert sum(graded.probabilities.values()) == pytest.approx(1)
        assert sum(share > 0 for share in graded.probabilities.values()) >= 5

    asyncio.run(grade())
