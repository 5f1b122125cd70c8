"""The KL term pulls on the weights (the released AutoRule run's did not: it had no gradient)."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset

from rlrules.recipe.arguments import grpo_arguments
from rlrules.recipe.load import load_recipe
from rlrules.rewards.engine import RewardEngine
from rlrules.rewards.length import LengthScorer
from rlrules.rewards.objective import WeightedSumConfig
from rlrules.training.grpo import RulesGRPOTrainer
from rlrules.training.log import RunLog
from rlrules.training.scoring import BatchScorer
from tests.e2e.training import tiny_policy, write_recipe


@pytest.mark.parametrize("beta", [0.0, 1e-3])
def test_without_an_advantage_only_kl_moves_a_policy_that_left_its_reference(tmp_path: Path, beta: float) -> None:
    policy = tiny_policy(tmp_path / "policy")
    training = {"beta": beta, "max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "save_strategy": "no"}
    training |= {"max_grad_norm": 0, "use_bias_correction_kl": False, "loss_type": "bnpo"}
    arguments = grpo_arguments(load_recipe(write_recipe(tmp_path, policy, training=training)), tmp_path)
    # Every completion is far below the allowance: all rewards, hence all advantages, are 0.
    weights = WeightedSumConfig(weights={"length": 1})
    engine = RewardEngine({"length": LengthScorer(1000, 1)}, weights.build(), ["length"], 60)
    trainer = RulesGRPOTrainer(
        scorer=BatchScorer(engine, {}, RunLog(tmp_path), 0.05, "group"),
        model=str(policy),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": f"{n}?"}]} for n in range(8)]),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    moved = [name for name, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[name])]
    assert moved == (list(before) if beta else [])
