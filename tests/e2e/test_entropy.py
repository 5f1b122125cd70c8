"""TEA and entropy-preserving fine-tuning through the command line, on ranks that are processes."""

from pathlib import Path

import pytest

from tests.e2e.test_methods import answers, logged, write
from tests.e2e.training import lines, run, tiny_policy, write_recipe

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("policy"))


@pytest.mark.parametrize("config", ["cpu", "zero3"])
def test_tea_on_two_ranks_with_accumulation(tmp_path: Path, policy: Path, config: str) -> None:
    training = {"max_steps": 2, "gradient_accumulation_steps": 2, "save_strategy": "no", "loss_type": "dapo"}
    if config != "cpu":
        pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install 'rlrules[deepspeed]'")
        training |= {"bf16": True, "use_cpu": True, "gradient_checkpointing": True}
    recipe = write_recipe(tmp_path, policy, tea={"coef": 0.2}, training=training)
    code, output = run(tmp_path, recipe, ranks=2, config=config)
    assert code == 0, output
    metrics = [line for line in lines(tmp_path / "runs/run/metrics.jsonl") if "loss" in line]
    assert len(metrics) == 2
    for line in metrics:
        assert line["tea/coef_mean"] == pytest.approx(0.2, abs=1e-5)
        assert line["tea/loss"] == pytest.approx(-0.2 * line["tea/entropy"], rel=1e-3)


def test_the_same_tokens_are_learned_on_one_rank_and_on_two(tmp_path: Path, policy: Path) -> None:
    losses = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        training = {"gradient_accumulation_steps": 2 // ranks, "max_steps": 3, "save_strategy": "no"}
        recipe = write(folder, policy, "sft", answers(), entropy_selection={"keep": 0.5}, training=training)
        code, output = run(folder, recipe, ranks=ranks)
        assert code == 0, output
        losses.append([line["loss"] for line in logged(folder)])
        assert all(0.49 < line["selection/share"] <= 0.5 for line in logged(folder))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
