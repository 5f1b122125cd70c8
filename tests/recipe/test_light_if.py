"""Light-IF's recipes have the released scripts' numbers, and its data configurations load."""

from pathlib import Path
from typing import Any

import pytest

from rlrules.data.constraint_synthesis import SynthesisConfig
from rlrules.data.constraints import kinds_of
from rlrules.data.thoughts import ThoughtsConfig
from rlrules.recipe.arguments import grpo_arguments, training_arguments
from rlrules.recipe.checks import exact_resume_every
from rlrules.recipe.load import load_config, load_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", ["light_if_zero", "light_if_tea"])
def test_the_rollout_of_the_scripts_for_1_7b(name: str) -> None:
    loaded = load_recipe(f"recipes/{name}.yaml")
    arguments = grpo_arguments(loaded, Path("runs/x"))
    sequences = 8 * arguments.per_device_train_batch_size
    assert sequences * arguments.steps_per_generation == 128 * 8
    assert sequences * arguments.gradient_accumulation_steps == 256
    assert exact_resume_every(arguments) == 4 and arguments.save_steps == 5 * 4
    assert (arguments.learning_rate, arguments.beta, arguments.weight_decay) == (5e-6, 1e-3, 0.01)
    assert (arguments.epsilon, arguments.epsilon_high, arguments.delta) == (1.0, 1.0, 10.0)
    assert (arguments.max_completion_length, arguments.num_generations) == (8192, 8)
    reward: Any = loaded.recipe.rewards["constraints"]
    assert (reward.aggregate, reward.mode, reward.think, reward.all_bonus) == ("weighted", "strict", "required", 0.5)
    assert loaded.recipe.objective.type == ("cosine_length" if name == "light_if_zero" else "weighted_sum")


def test_the_cold_start() -> None:
    arguments: Any = training_arguments(load_recipe("recipes/light_if_sft.yaml"), Path("runs/x"))
    assert (arguments.learning_rate, arguments.num_train_epochs, arguments.max_length) == (1e-5, 3, 16000)
    thoughts = load_config("recipes/data/thoughts.yaml", [], ThoughtsConfig)
    assert (thoughts.min_thought, thoughts.preview, thoughts.fluency) == (256, 0.8, 6)
    assert thoughts.max_length == arguments.max_length and thoughts.tokenizer == "Qwen/Qwen3-1.7B"


def test_data_configurations() -> None:
    full, small = (load_config(f"recipes/data/constraints{end}.yaml", [], SynthesisConfig) for end in ("", "_cpu"))
    assert (full.samples, full.threshold, full.ngram) == (8, 0.7, 13)
    assert len(kinds_of(full.prompts)) == 26 and len(kinds_of(small.prompts)) == 4
    assert load_config("recipes/data/thoughts_cpu.yaml", [], ThoughtsConfig).judge is None


def test_the_twin_holds_out_prompts_under_the_same_kinds() -> None:
    data: Any = load_recipe("recipes/cpu/light_if_tea.yaml").recipe.data
    assert data.train.kinds == data.eval.kinds and len(data.train.kinds) == 5
    parts = [{row["seed_prompt"] for row in part.load(len).rows} for part in (data.train, data.eval)]
    assert parts[0].isdisjoint(parts[1]) and len(data.eval.load(len).rows) >= 200
