"""TRL is held to what this package relies on."""

import inspect

import pytest
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer, SFTTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import identity

from rlrules.training import grpo, sft, weights
from rlrules.training.grpo import RulesGRPOTrainer
from rlrules.training.rollouts import HttpRollouts
from rlrules.training.sft import RulesSFTTrainer
from rlrules.training.weights import NamedWeights

TABLES = [
    (RulesGRPOTrainer, GRPOTrainer, grpo.OVERRIDES),
    (RulesSFTTrainer, SFTTrainer, sft.OVERRIDES),
    (NamedWeights, Trainer, weights.OVERRIDES),
]
METHODS = [(ours, theirs, name, table[name]) for ours, theirs, table in TABLES for name in table]


@pytest.mark.parametrize(("ours", "theirs", "table"), TABLES)
def test_the_table_lists_exactly_what_is_overridden(ours: type, theirs: type, table: dict[str, str]) -> None:
    overridden = {name for name in vars(ours) if hasattr(theirs, name) and not name.startswith("__")}
    assert overridden == set(table)


@pytest.mark.parametrize(("ours", "theirs", "name", "signature"), METHODS)
def test_trl_still_has_the_method_with_its_signature(ours: type, theirs: type, name: str, signature: str) -> None:
    found = inspect.signature(getattr(theirs, name))
    assert str(found) == signature, f"TRL changed {name}: adapt {ours.__module__}, then OVERRIDES"
    parameters = inspect.signature(vars(ours)[name]).parameters
    passes_all_on = [one.kind for one in parameters.values()][1:] == [
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    ]
    assert passes_all_on or list(parameters) == list(found.parameters)


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


def test_trl_still_does_what_the_entropy_term_relies_on() -> None:
    generation = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "gradient_accumulation_steps % generate_every != 0" in generation, "recipe/entropy.py: has_old_logps"
    assert "compute_entropy=True" in inspect.getsource(GRPOTrainer._compute_loss)
    prepare = inspect.getsource(GRPOTrainer._prepare_inputs)
    assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in prepare


def test_trl_still_does_what_the_selection_relies_on() -> None:
    source = inspect.getsource(SFTTrainer.compute_loss)
    assert "outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch" in source
    assert "per_token_loss = -outputs.log_probs" in source


def test_trl_still_does_what_http_rollouts_rely_on() -> None:
    turn = inspect.getsource(GRPOTrainer._generate_single_turn)
    assert "if self.state.global_step != self._last_loaded_step:" in turn
    assert "self.vllm_generation.sync_weights()" in turn
    assert "_, completion_ids, logprobs, _ = self.vllm_generation.generate(" in turn
    assert "logprobs = [[lp[0] for lp in seq] for seq in logprobs]" in turn
    for name, ours in (("sync_weights", HttpRollouts.sync_weights), ("generate", HttpRollouts.generate)):
        theirs = inspect.signature(getattr(VLLMGeneration, name)).parameters
        assert list(theirs) == list(inspect.signature(ours).parameters)
    made = inspect.getsource(GRPOTrainer.__init__)
    assert "self.use_vllm = args.use_vllm" in made and "self._dist = DistributedBackend(self.accelerator)" in made
    scored = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "self.use_vllm and self.vllm_importance_sampling_correction" in scored
    assert 'self.loss_type == "vespo" and self.use_vllm' in made, "recipe/rollouts.py says it in its place"
