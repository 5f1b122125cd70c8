"""Recipes of methods that go through given rows: what they may say, what is refused, what they will cost."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import RecipeError
from rlrules.models import DEFAULT_MODEL
from rlrules.recipe.arguments import training_arguments
from rlrules.recipe.checks import Prepared, check_training, exact_resume_every, static_problems
from rlrules.recipe.estimate import estimate
from rlrules.recipe.load import LoadedRecipe, dump_resolved, load_recipe
from rlrules.recipe.schema import GrpoRecipe, Recipe, RewardModelRecipe, SftRecipe

ROOT = Path(__file__).parents[2]
TRAINING = {"per_device_train_batch_size": 2, "bf16": False}


def recipe(folder: Path, method: str, *overrides: str, **changes: Any) -> LoadedRecipe[Recipe]:
    rows = folder / "rows.jsonl"
    if not rows.exists():
        lines = [
            {"prompt": f"Q{n}?", "completion": "yes " * (n + 1), "chosen": "yes", "rejected": "no " * (n + 1)}
            for n in range(10)
        ]
        rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = {"type": "conversations" if method == "sft" else "jsonl", "path": str(rows)}
    sections = {"method": method, "model": {"name": DEFAULT_MODEL}, "data": {"train": source}, "training": TRAINING}
    (folder / "r.yaml").write_text(json.dumps(sections | changes, indent=1))
    return load_recipe(folder / "r.yaml", overrides)


def checked(loaded: LoadedRecipe[Recipe]) -> Prepared:
    return check_training(loaded, training_arguments(loaded, Path("runs/x")))


def problems(folder: Path, method: str, *overrides: str, **changes: Any) -> str:
    with pytest.raises(RecipeError) as error:
        checked(recipe(folder, method, *overrides, **changes))
    return str(error.value)


def test_each_method_has_its_own_recipe_and_configuration(tmp_path: Path) -> None:
    for method, kind, config in (("sft", SftRecipe, "SFTConfig"), ("reward_model", RewardModelRecipe, "RewardConfig")):
        loaded = recipe(tmp_path, method)
        arguments = training_arguments(loaded, Path("runs/x"))
        assert isinstance(loaded.recipe, kind) and type(arguments).__name__ == config
        assert static_problems(loaded, arguments) == []
        assert exact_resume_every(arguments) == 1
        assert len(checked(loaded).train.rows) == 10
        dump_resolved(loaded.recipe, tmp_path / "out.yaml")
        again = load_recipe(tmp_path / "out.yaml").recipe
        assert again.model_copy(update={"name": loaded.recipe.name}) == loaded.recipe


def test_an_unknown_method(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"r.yaml:2: method: no method 'sftt'; did you mean 'sft'\?"):
        recipe(tmp_path, "sftt")
    with pytest.raises(RecipeError, match="method: no method 3"):
        recipe(tmp_path, "sft", "method=3")


def test_sections_of_another_method_are_named(tmp_path: Path) -> None:
    more = {"rewards": {"a": {"type": "length"}}, "objective": {"type": "weighted_sum", "weights": {"a": 1}}}
    with pytest.raises(RecipeError) as error:
        recipe(tmp_path, "sft", **more, judges={}, bogus=1)
    told = str(error.value)
    for section in ("rewards", "objective", "judges"):
        assert f"{section}: belongs to method grpo; remove it from a recipe of sft" in told
    assert "r.yaml:16: rewards: belongs" in told
    assert "bogus: unknown key" in told


def test_model_and_data_are_needed(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(tmp_path, "reward_model", "model=null", "data=null")
    assert "model: is missing" in str(error.value) and "data: is missing" in str(error.value)


def test_sources_belong_to_methods(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data.train: .*'jsonl'.*'conversations', 'ultrafeedback_sft'"):
        recipe(tmp_path, "sft", "data.train.type=jsonl")
    with pytest.raises(RecipeError, match=r"data.margn: unknown key; did you mean 'margin'"):
        recipe(tmp_path, "reward_model", "data.margn=true")
    with pytest.raises(RecipeError, match=r"data.train.colums: unknown key; did you mean 'columns'"):
        recipe(tmp_path, "sft", "data.train.colums={}")


def test_a_recipe_of_another_method_has_nothing_to_score_with(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"r.yaml:2: method: is sft; this needs a recipe of grpo"):
        recipe(tmp_path, "sft").of(GrpoRecipe)


@pytest.mark.parametrize(
    ("method", "key", "message"),
    [
        ("sft", "packingg", "SFTConfig has no such field; did you mean 'packing'?"),
        ("sft", "num_generations", "SFTConfig has no such field"),
        ("sft", "assistant_only_loss", "cannot be set: the loss is on each row's last answer"),
        ("sft", "chat_template_path", "use `model.chat_template`"),
        ("sft", "truncation_mode", "left out, never cut"),
        ("reward_model", "center_reward_coefficient", "did you mean 'center_rewards_coefficient'"),
        ("reward_model", "packing", "RewardConfig has no such field"),
        ("reward_model", "output_dir", "the run directory is runs/NAME"),
    ],
)
def test_fields_of_trl(tmp_path: Path, method: str, key: str, message: str) -> None:
    told = problems(tmp_path, method, f"training.{key}=1")
    assert message in told and f"override training.{key}: training.{key}:" in told


def test_rows_all_too_long(tmp_path: Path) -> None:
    for method in ("sft", "reward_model"):
        told = problems(tmp_path, method, "training.max_length=12")
        assert "data.train: no rows left (10 by max_length); raise training.max_length" in told


def test_a_margin_without_strengths(tmp_path: Path) -> None:
    assert "has no strength to take a margin from" in problems(tmp_path, "reward_model", "data.margin=true")


def test_evaluation_without_held_out_rows(tmp_path: Path) -> None:
    assert "there is no `data.eval`" in problems(tmp_path, "sft", "training.eval_strategy=steps")


def test_data_that_is_not_there(tmp_path: Path) -> None:
    assert "gone.jsonl does not exist" in problems(tmp_path, "sft", "data.train.path=gone.jsonl")


def test_a_chat_template_and_a_seed_come_into_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ messages[0].content }}{% if add_generation_prompt %}!{% endif %}")
    model = {"name": DEFAULT_MODEL, "chat_template": str(tmp_path / "t.jinja"), "think_seed": True}
    tokenizer = checked(recipe(tmp_path, "reward_model", model=model)).tokenizer
    chat = [{"role": "user", "content": "Why?"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == "Why?!<think>\n"


def test_estimates(tmp_path: Path) -> None:
    # Row n is 36 + n tokens: the template's 31 and the question's 3, n + 1 times "yes" and the end.
    training = TRAINING | {"gradient_accumulation_steps": 2, "num_train_epochs": 3, "max_length": 43}
    rows = dict(estimate(recipe(tmp_path, "sft", training=training), ranks=2, ping=False, offline=False))
    assert rows["rows"] == "8" and rows["left out"] == "2 by max_length"
    assert rows["tokens"] == "316 in all rows, 43 in the longest"
    # Two batches of 2 rows on 2 ranks, both accumulated into one step, three times.
    assert rows["effective batch"] == "8 rows an optimiser step"
    assert rows["optimiser steps"] == "3"
    assert "weights 0.5" in rows["memory per rank"]
    offline = dict(estimate(recipe(tmp_path, "reward_model"), ranks=1, ping=False, offline=True))
    assert offline["rows"] == "unknown"
