"""What `tea` and `entropy_selection` ask of a recipe."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import RecipeError
from rlrules.recipe.arguments import training_arguments
from rlrules.recipe.checks import static_problems
from rlrules.recipe.entropy import has_old_logps
from rlrules.recipe.load import load_recipe
from rlrules.recipe.schema import GrpoRecipe, SftRecipe


def problems(folder: Path, method: str, training: dict[str, Any], **sections: Any) -> list[str]:
    recipe = {"method": method, "model": {"name": "m"}, "data": {"train": {"type": "prompts", "path": "x"}}}
    if method == "grpo":
        recipe |= {"rewards": {"a": {"type": "length"}}}
        recipe |= {"objective": {"type": "weighted_sum", "weights": {"a": 1}}}
    else:
        recipe["data"] = {"train": {"type": "conversations", "path": "x"}}
    plain = {"bf16": False, "per_device_train_batch_size": 8, "save_strategy": "no"}
    (folder / "r.yaml").write_text(json.dumps({**recipe, **sections, "training": plain | training}))
    loaded = load_recipe(folder / "r.yaml")
    return static_problems(loaded, training_arguments(loaded, Path("runs/x")))


def test_defaults(tmp_path: Path) -> None:
    assert problems(tmp_path, "grpo", {}, tea={}) == []
    recipe = load_recipe(tmp_path / "r.yaml").recipe
    assert isinstance(recipe, GrpoRecipe) and recipe.tea is not None
    assert recipe.tea.model_dump() == {"coef": 0.05, "temperature": 1.0, "cap": 100.0, "scope": "sequence"}
    assert problems(tmp_path, "sft", {}, entropy_selection={}) == []
    recipe = load_recipe(tmp_path / "r.yaml").recipe
    assert isinstance(recipe, SftRecipe) and recipe.entropy_selection is not None
    assert recipe.entropy_selection.model_dump() == {"coef": 0.8, "keep": 0.8}


@pytest.mark.parametrize(
    ("field", "value"), [("entropy_coef", 0.01), ("use_adaptive_entropy", True), ("top_entropy_quantile", 0.2)]
)
def test_trls_own_entropy_fields_are_its_own(tmp_path: Path, field: str, value: Any) -> None:
    assert problems(tmp_path, "grpo", {field: value}) == []
    assert problems(tmp_path, "grpo", {field: value}, tea={"coef": 0}) == []
    told = problems(tmp_path, "grpo", {field: value}, tea={})
    assert len(told) == 1 and f"training.{field}: " in told[0] and "leave one of them out" in told[0]


@pytest.mark.parametrize(
    ("training", "refused"),
    [
        ({}, True),
        ({"gradient_accumulation_steps": 4}, True),
        ({"num_iterations": 2}, False),
        ({"steps_per_generation": 4}, False),
        ({"steps_per_generation": 4, "gradient_accumulation_steps": 2}, False),
        ({"steps_per_generation": 2, "gradient_accumulation_steps": 4, "num_iterations": 2}, True),
        ({"use_vllm": True}, False),
        ({"use_vllm": True, "vllm_importance_sampling_correction": False}, True),
    ],
)
def test_a_batch_needs_old_log_probabilities(tmp_path: Path, training: dict[str, Any], refused: bool) -> None:
    told = problems(tmp_path, "grpo", training, tea={"scope": "batch"})
    assert bool(told) == refused
    if refused:
        assert "steps_per_generation: `tea.scope: batch` needs old log-probabilities" in told[0]
    arguments = training_arguments(load_recipe(tmp_path / "r.yaml"), Path("runs/x"))
    assert has_old_logps(arguments) != refused  # type: ignore[arg-type]
    assert problems(tmp_path, "grpo", training, tea={}) == []


def test_an_optimiser_step_of_two_rollouts(tmp_path: Path) -> None:
    training = {"steps_per_generation": 3, "gradient_accumulation_steps": 2}
    told = problems(tmp_path, "grpo", training, tea={})
    assert len(told) == 1 and "let it divide steps_per_generation x num_iterations (3)" in told[0]
    assert problems(tmp_path, "grpo", training) == []


@pytest.mark.parametrize(("field", "value"), [("label_smoothing_factor", 0.1), ("loss_type", "dft")])
def test_other_losses_do_not_select(tmp_path: Path, field: str, value: Any) -> None:
    told = problems(tmp_path, "sft", {field: value}, entropy_selection={})
    assert len(told) == 1 and f"training.{field}: " in told[0] and "with entropy_selection" in told[0]
    assert problems(tmp_path, "sft", {field: value}) == []


@pytest.mark.parametrize(
    ("method", "sections"),
    [
        ("grpo", {"tea": {"temperature": 0}}),
        ("grpo", {"tea": {"coef": -1}}),
        ("grpo", {"tea": {"scope": "group"}}),
        ("grpo", {"entropy_selection": {}}),
        ("sft", {"entropy_selection": {"keep": 0}}),
        ("sft", {"tea": {}}),
    ],
)
def test_what_cannot_be(tmp_path: Path, method: str, sections: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        problems(tmp_path, method, {}, **sections)
