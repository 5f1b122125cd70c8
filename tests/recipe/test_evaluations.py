"""The `eval` section: what is refused, and who is tested in the end."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import RecipeError
from rlrules.evaluation.config import AlpacaConfig, CalibrationConfig, RewardBenchConfig
from rlrules.judges import LocalJudgeConfig
from rlrules.recipe.arguments import training_arguments
from rlrules.recipe.checks import check_training, static_problems
from rlrules.recipe.estimate import estimate
from rlrules.recipe.evaluations import evaluation_config, evaluation_problems, type_problems
from rlrules.recipe.load import LoadedRecipe, dump_resolved, load_config, load_recipe
from rlrules.recipe.schema import Recipe

ROOT = Path(__file__).parents[2]
JUDGE = {"type": "openai", "urls": ["http://localhost:8001/v1"], "model": "judge"}
SERVED = {"type": "openai", "urls": ["http://localhost:8000/v1"], "model": "other", "temperature": 0.7, "max_tokens": 9}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("alpaca.yaml", {"model": SERVED, "judge": JUDGE, "limit": 4})
    write("calibrate.yaml", {"judge": JUDGE, "annotations": ["a.json"]})
    write("reward.yaml", {"reward_model": {"type": "reward_model", "model": "other", "mean": 1, "max_length": 64}})
    write("judged.yaml", {"judge": {**JUDGE, "temperature": 0.2}, "think": True})
    return tmp_path


def write(name: str, content: dict[str, Any]) -> None:
    Path(name).write_text(json.dumps(content, indent=1))


def recipe(method: str = "grpo", **sections: dict[str, Any]) -> LoadedRecipe[Recipe]:
    content: dict[str, Any] = {"name": "run", "method": method, "eval": sections, "model": {"name": "m"}}
    if method == "grpo":
        content["rewards"] = {"short": {"type": "length"}}
        content["objective"] = {"type": "weighted_sum", "weights": {"short": 1}}
    else:
        kind = {"sft": "conversations", "reward_model": "jsonl"}[method]
        content["data"] = {"train": {"type": kind, "path": "rows.jsonl"}}
    write("r.yaml", content)
    return load_recipe("r.yaml")


def test_the_policy_answers_as_the_benchmark_says(folder: Path) -> None:
    section = {"type": "alpaca", "config": "alpaca.yaml", "overrides": {"limit": 2, "judge": {"temperature": 0.5}}}
    loaded = recipe(fast=section)
    assert type_problems(loaded) == evaluation_problems(loaded) == []
    config = evaluation_config(loaded, "fast", "runs/run/model", "cuda:0")
    assert isinstance(config, AlpacaConfig) and isinstance(config.model, LocalJudgeConfig)
    assert (config.limit, config.judge.model, config.judge.temperature) == (2, "judge", 0.5)
    tested = config.model
    assert (tested.model, tested.device, tested.temperature, tested.max_tokens) == ("runs/run/model", "cuda:0", 0.7, 9)
    # Two runs of one name have different models: an answer kept by that name would be another's.
    assert tested.cache is False
    dump_resolved(config, folder / "out/config.yaml")
    assert load_config("out/config.yaml", (), AlpacaConfig) == config


def test_a_policy_is_tested_as_a_judge_where_judges_are(folder: Path) -> None:
    for name in ("judged", "reward"):
        config = evaluation_config(recipe("sft", a={"type": "reward-bench", "config": f"{name}.yaml"}), "a", "m", "cpu")
        assert isinstance(config, RewardBenchConfig) and isinstance(config.judge, LocalJudgeConfig)
        assert config.reward_model is None and config.judge.model == "m"
        assert (config.judge.temperature, config.think) == ((0.2, True) if name == "judged" else (0, False))
    config = evaluation_config(recipe(a={"type": "calibrate", "config": "calibrate.yaml"}), "a", "m", "cpu")
    assert isinstance(config, CalibrationConfig) and config.judge.model == "m"


def test_a_reward_model_scores(folder: Path) -> None:
    for name in ("judged", "reward"):
        section = {"type": "reward-bench", "config": f"{name}.yaml", "overrides": {"think": False}}
        config = evaluation_config(recipe("reward_model", a=section), "a", "runs/run/model", "cpu")
        assert isinstance(config, RewardBenchConfig) and config.judge is None and config.reward_model is not None
        scored = config.reward_model
        assert (scored.model, scored.mean, scored.urls) == ("runs/run/model", None, [])
        assert scored.max_length == (64 if name == "reward" else 4096)


def test_unknown_and_unfitting_types(folder: Path) -> None:
    [problem] = type_problems(recipe(a={"type": "alpca", "config": "alpaca.yaml"}))
    assert problem == "r.yaml:6: eval.a.type: no benchmark 'alpca'; did you mean 'alpaca'?"
    for kind in ("alpaca", "calibrate"):
        loaded = recipe("reward_model", a={"type": kind, "config": "nothing.yaml"})
        [problem] = type_problems(loaded)
        assert "eval.a.type: " in problem
        assert f"{kind} cannot be run on a reward_model; take one of reward-bench, rm-bench, preference" in problem
        assert evaluation_problems(loaded) == []
    # Said without files as well, as part of the checks.
    arguments = training_arguments(loaded, Path("runs/x"))
    assert problem in static_problems(loaded, arguments)


def test_configurations_that_cannot_be_used(folder: Path) -> None:
    write("wrong.yaml", {"judge": {**JUDGE, "urls": ["nowhere"]}, "limt": 3, "model": SERVED})
    write("existing.yaml", {"judge": JUDGE, "answers": "outputs.json"})
    loaded = recipe(
        a={"type": "alpaca", "config": "wrong.yaml", "overrides": {"seeed": 1}},
        b={"type": "alpaca", "config": "none.yaml"},
        c={"type": "alpaca", "config": "existing.yaml"},
        d={"type": "alpaca", "config": "alpaca.yaml", "overrides": {"answers": "outputs.json"}},
    )
    told = evaluation_problems(loaded)
    assert any("wrong.yaml:5: judge.urls.0" in line for line in told)
    assert "wrong.yaml:9: limt: unknown key; did you mean 'limit'?" in told
    assert "r.yaml:8: seeed: unknown key; did you mean 'seed'?" in told
    assert any(line.startswith("r.yaml:14: eval.b.config: none.yaml does not exist") for line in told)
    assert any(line.startswith("existing.yaml: answers: evaluation 'c' asks the trained model") for line in told)
    assert any(line.startswith("r.yaml:24: eval.d.overrides.answers: evaluation 'd' asks") for line in told)
    assert len(told) == 6
    with pytest.raises(RecipeError) as error:
        check_training(loaded, training_arguments(loaded, Path("runs/x")))
    assert set(told) <= set(error.value.problems)


def test_sections_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(**{"../up": {"type": "alpaca", "config": "alpaca.yaml"}, "a": {"type": "alpaca", "confg": "x"}})
    told = str(error.value)
    assert "eval.../up" in told and "eval.a.config: is missing" in told
    assert "eval.a.confg: unknown key; did you mean 'config'?" in told


def test_a_check_names_the_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    section = "eval={fast: {type: alpaca, config: recipes/eval/alpaca.yaml}}"
    rows = dict(estimate(load_recipe("recipes/cpu/checkable.yaml", [section]), 1, ping=False, offline=False))
    assert rows["evaluated by"] == "fast (alpaca)"
