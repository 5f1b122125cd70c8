"""TRL is held to what this package relies on."""

import inspect

import pytest
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import identity

from rlrules.training.grpo import OVERRIDES, RulesGRPOTrainer


def test_the_table_lists_exactly_what_is_overridden() -> None:
    overridden = {name for name in vars(RulesGRPOTrainer) if hasattr(GRPOTrainer, name) and not name.startswith("__")}
    assert overridden == set(OVERRIDES)


@pytest.mark.parametrize("name", OVERRIDES)
def test_trl_still_has_the_method_with_its_signature(name: str) -> None:
    theirs = inspect.signature(getattr(GRPOTrainer, name))
    assert str(theirs) == OVERRIDES[name], f"TRL changed {name}: adapt rlrules/training/grpo.py, then OVERRIDES"
    ours = inspect.signature(vars(RulesGRPOTrainer)[name])
    assert list(ours.parameters) == list(theirs.parameters)


def test_trl_still_calls_it_where_rewards_are_made() -> None:
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "self._calculate_rewards(inputs, prompts, completions, completion_ids_list)" in source
    assert "torch.isnan(rewards_per_func).all(dim=1)" in source, "rows without a reward must stay out of the baseline"


def test_trl_still_generates_once_a_rollout_and_takes_rows_as_they_are() -> None:
    source = inspect.getsource(GRPOTrainer._prepare_inputs)
    assert source.count("self._generate_and_score_completions(generation_batch)") == 2, "one in training, one in eval"
    assert "generate_every = self.args.steps_per_generation * self.num_iterations" in source
    assert identity([{"prompt": "a"}]) == [{"prompt": "a"}]
    assert "self.train_dataset = train_dataset" in inspect.getsource(Trainer.__init__)
    assert "data_collator=identity" in inspect.getsource(GRPOTrainer.__init__)


@pytest.mark.parametrize("name", ["_log_metric", "num_generations", "num_generations_eval", "eos_token_ids"])
def test_what_the_override_reads_is_there(name: str) -> None:
    assert hasattr(GRPOTrainer, name) or f"self.{name} =" in inspect.getsource(GRPOTrainer.__init__)


def test_defaults_that_recipes_rely_on() -> None:
    fields = GRPOConfig.__dataclass_fields__
    assert fields["multi_objective_aggregation"].default == "sum_then_normalize"
    assert fields["scale_rewards"].default == "group"
