"""What is refused of `rollouts`, without a server and with one."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.errors import RecipeError
from rlrules.recipe.arguments import training_arguments
from rlrules.recipe.checks import check_training, ping_problems, static_problems
from rlrules.recipe.entropy import has_old_logps
from rlrules.recipe.load import LoadedRecipe, load_recipe
from rlrules.recipe.schema import GrpoRecipe, Recipe
from tests.fakes.policy_server import FakePolicyServer

PEFT = {"r": 8, "target_modules": "all-linear"}


def loaded(folder: Path, rollouts: dict[str, Any], training: dict[str, Any] | None = None, **sections: Any) -> Any:
    recipe = {
        "model": {"name": "m"} | ({"peft": PEFT} if rollouts.get("sync") == "lora" else {}),
        "data": {"train": {"type": "prompts", "path": "x"}},
        "rewards": {"a": {"type": "length"}},
        "objective": {"type": "weighted_sum", "weights": {"a": 1}},
        "rollouts": {"urls": ["http://127.0.0.1:9/v1"], **rollouts},
        "training": {"bf16": False, "per_device_train_batch_size": 8, "save_strategy": "no", **(training or {})},
    }
    (folder / "r.yaml").write_text(json.dumps({**recipe, **sections}))
    return load_recipe(folder / "r.yaml")


def problems(recipe: LoadedRecipe[Recipe]) -> list[str]:
    return static_problems(recipe, training_arguments(recipe, Path("runs/x")))


def test_defaults(tmp_path: Path) -> None:
    for sync in ("lora", "full"):
        recipe = loaded(tmp_path, {"sync": sync})
        assert problems(recipe) == []
    section = recipe.of(GrpoRecipe).recipe.rollouts
    assert section.model_dump() == {
        "urls": ["http://127.0.0.1:9/v1"],
        "api_key_env": None,
        "max_in_flight": 256,
        "timeout_s": 600.0,
        "retries": 3,
        "sync": "full",
        "shared_dir": None,
    }


@pytest.mark.parametrize(
    ("rollouts", "message"),
    [
        ({}, "rollouts.sync"),
        ({"sync": "nccl"}, "rollouts.sync"),
        ({"sync": "full", "urls": []}, "rollouts.urls"),
        ({"sync": "full", "url": "http://x/v1"}, "rollouts.url: .*did you mean 'urls'"),
    ],
)
def test_what_the_section_must_say(tmp_path: Path, rollouts: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        loaded(tmp_path, rollouts)


@pytest.mark.parametrize(
    ("sync", "training", "model", "told"),
    [
        ("lora", {}, {"name": "m"}, "rollouts.sync: there is no adapter to send: set `model.peft`, or `sync: full`"),
        ("full", {}, {"name": "m", "peft": PEFT}, "rollouts.sync: `model.peft` trains an adapter alone"),
        ("lora", {}, {"name": "m", "peft": {**PEFT, "use_dora": True}}, "model.peft.use_dora: vLLM loads no adapter"),
        ("lora", {}, {"name": "m", "peft": {**PEFT, "bias": "all"}}, "model.peft.bias: vLLM loads no adapter"),
        ("lora", {}, {"name": "m", "peft": {**PEFT, "modules_to_save": ["lm_head"]}}, "model.peft.modules_to_save: "),
        ("full", {"use_vllm": True}, None, "training.use_vllm: TRL's own way to vLLM and `rollouts` are two ways"),
        ("full", {"use_transformers_continuous_batching": True}, None, "use_transformers_continuous_batching: the "),
        ("full", {"loss_type": "vespo"}, None, "vllm_importance_sampling_mode: sequence_mask does not go with loss"),
        ("full", {"generation_kwargs": {"seed": 1, "min_tokens": 2}}, None, "generation_kwargs: seed is set for each"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(tmp_path: Path, sync: str, training: Any, model: Any, told: str) -> None:
    found = problems(loaded(tmp_path, {"sync": sync}, training, **({"model": model} if model else {})))
    assert len(found) == 1 and told in found[0] and "r.yaml:" in found[0]


def test_what_goes_together(tmp_path: Path) -> None:
    token = {"loss_type": "vespo", "vllm_importance_sampling_mode": "token_truncate"}
    assert problems(loaded(tmp_path, {"sync": "full"}, token)) == []
    peft = {**PEFT, "use_dora": False, "bias": "none", "modules_to_save": None}
    assert problems(loaded(tmp_path, {"sync": "lora"}, model={"name": "m", "peft": peft})) == []


@pytest.mark.parametrize(("port", "policy", "told"), [(9, None, "not set"), (9, "full", "full"), (10, None, "")])
def test_an_engine_is_one_for_the_way_weights_come(tmp_path: Path, port: int, policy: str | None, told: str) -> None:
    engines = {"here": {"model": "m", "port": port, "policy": policy}}
    found = problems(loaded(tmp_path, {"sync": "lora"}, engines=engines))
    assert len(found) == bool(told)
    assert not told or f"engines.here.policy: is {told}, and rollouts.sync is lora: make them equal" in found[0]


def test_trl_keeps_the_log_probabilities_that_tea_needs(tmp_path: Path) -> None:
    tea = {"scope": "batch"}
    recipe = loaded(tmp_path, {"sync": "full"}, tea=tea)
    assert problems(recipe) == []
    assert not has_old_logps(training_arguments(recipe, Path("x"))) and has_old_logps(  # type: ignore[arg-type]
        training_arguments(recipe, Path("x")),  # type: ignore[arg-type]
        served=True,
    )
    uncorrected = loaded(tmp_path, {"sync": "full"}, {"vllm_importance_sampling_correction": False}, tea=tea)
    assert "`tea.scope: batch` needs old log-probabilities" in problems(uncorrected)[0]


def test_images_are_not_sent(tmp_path: Path) -> None:
    train = {"type": "jigsaw", "images": {"type": "synthetic", "count": 8, "width": 56, "height": 56}}
    train |= {"stages": [{"m": 2, "n": 1, "prompts": 8}]}
    sections = {"model": {"name": "tiny:qwen2_5_vl"}, "data": {"train": train}}
    recipe = loaded(tmp_path, {"sync": "full"}, {"shuffle_dataset": False}, **sections)
    with pytest.raises(RecipeError, match=r"rollouts: data.train holds images, which it cannot send"):
        check_training(recipe, training_arguments(recipe, Path("runs/x")))


@pytest.mark.parametrize("sync", ["lora", "full"])
def test_servers_that_have_what_is_needed(tmp_path: Path, sync: str) -> None:
    with FakePolicyServer(sync) as one, FakePolicyServer(sync) as other:
        recipe = loaded(tmp_path, {"sync": sync, "urls": [one.url, other.url]}, {"max_completion_length": 99})
        assert ping_problems(recipe) == []
        assert one.counts["/v1/completions"] == 0 and one.adapters == {}


@pytest.mark.parametrize(
    ("sync", "asked", "about", "told"),
    [
        ("full", "lora", {}, "it has no route to load weights by: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        ("lora", "full", {}, "it has no route to load weights by: start it with VLLM_SERVER_DEV_MODE=1"),
        ("lora", "lora", {"max_lora_rank": 4}, "it takes adapters up to rank 4, model.peft.r is 8: raise"),
        ("lora", "lora", {"logprobs_mode": "raw_logprobs"}, "it runs with --logprobs-mode raw_logprobs: start it"),
        ("full", "full", {"max_model_len": 64}, "its --max-model-len 64 has no room for training.max_completion_"),
    ],
)
def test_servers_that_lack_something(tmp_path: Path, sync: str, asked: str, about: Any, told: str) -> None:
    with FakePolicyServer(sync, **about) as fake:
        recipe = loaded(tmp_path, {"sync": asked, "urls": [fake.url]}, {"max_completion_length": 64})
        [problem] = ping_problems(recipe)
    assert f"rollouts.urls: {fake.url}: {told}" in problem


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with FakePolicyServer("full") as there, FakePolicyServer("full") as gone:
        gone.kill()
        recipe = loaded(tmp_path, {"sync": "full", "urls": [there.url, gone.url], "timeout_s": 0.3, "retries": 0})
        [problem] = ping_problems(recipe)
        assert f"rollouts.urls: {gone.url}: no endpoint answers" in problem or gone.url in problem
        asked = CliRunner().invoke(app, ["check", str(tmp_path / "r.yaml"), "--ping", "--offline"])
        assert asked.exit_code != 0 and gone.url in " ".join(asked.output.split())
