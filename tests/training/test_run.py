"""How a run starts: what is refused before a model is loaded."""

from pathlib import Path

import pytest

from rlrules.errors import RecipeError, TrainingError
from rlrules.recipe.load import load_recipe
from rlrules.training.callbacks import MARKER, complete_checkpoints
from rlrules.training.run import _open_run, train

REWARDS = "rewards: {form: {type: format}}\nobjective: {type: weighted_sum, weights: {form: 1}}\n"


def test_only_a_complete_checkpoint_is_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(REWARDS)
    loaded = load_recipe(tmp_path / "r.yaml")
    run, checkpoints = tmp_path / "run", tmp_path / "run" / "checkpoints"
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-11", "checkpoint-best", "model"):
        (checkpoints / name).mkdir(parents=True)
    for step in (9, 10):
        (checkpoints / f"checkpoint-{step}" / MARKER).touch()
    for name, message in (
        ("checkpoint-12", "no such checkpoint"),
        ("checkpoint-best", "checkpoint-STEP"),
        ("model", "checkpoint-STEP"),
        ("checkpoint-11", "was not written to the end"),
    ):
        with pytest.raises(TrainingError, match=message):
            _open_run(loaded, run, str(checkpoints / name))
    assert _open_run(loaded, run, str(checkpoints / "checkpoint-9")) == checkpoints / "checkpoint-9"
    assert _open_run(loaded, run, "auto") == checkpoints / "checkpoint-10"
    assert [path.name for path in complete_checkpoints(checkpoints)[1]] == ["checkpoint-11"]


def test_a_start_tells_all_that_is_wrong_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(
        """\
model: {name: nothing/at-all}
data: {train: {type: prompts, path: none.jsonl}}
judges: {j: {type: openai, urls: ["http://127.0.0.1:9/v1"], model: m, timeout_s: 1, retries: 0}}
rewards: {r: {type: rules, judge: j, rules: none.json}}
objective: {type: pairwise, weights: {r: 1}}
training: {per_device_train_batch_size: 3, num_generations: 4, use_cpu: true, bf16: false}
"""
    )
    with pytest.raises(RecipeError) as error:
        train(tmp_path / "r.yaml")
    expected = (
        "groups would straddle ranks", "none of r compares", "scale_rewards", "none.json does not exist",
        "model.name", "none.jsonl does not exist", "judges.j",
    )  # fmt: skip
    assert [[part in line for part in expected].count(True) for line in error.value.problems] == [1] * len(expected)
    assert not (tmp_path / "runs").exists()
