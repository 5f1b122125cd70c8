"""The one subclass of TRL's GRPOTrainer, and the table of what it overrides."""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather
from transformers import Trainer
from trl import GRPOTrainer

from rlrules.recipe.schema import GrpoRecipe
from rlrules.training.job import Job, told_rows
from rlrules.training.scoring import Batch, BatchScorer
from rlrules.training.state import Stateful
from rlrules.types import Progress

OVERRIDES = {
    "_calculate_rewards": "(self, inputs, prompts, completions, completion_ids_list)",
}
"""TRL's methods that this trainer replaces, with the signatures they must have; a test holds TRL to it."""


class RulesGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO whose rewards come from a recipe's engine.

    TRL sees one reward column, `objective`: what the recipe's objective makes of all scores, NaN where a completion
    has none. It normalises within groups and does everything after.

    Args:
        scorer: Scores a batch, on all ranks together.
        arguments: As for TRL's trainer, without `reward_funcs`.
    """

    def __init__(self, *, scorer: BatchScorer, **arguments: Any) -> None:
        super().__init__(reward_funcs=[objective], **arguments)
        self._scorer = scorer

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:
        """Rewards of all ranks' rows, shape (ranks * B * G, 1), in rank order; NaN where there is none."""
        training = self.model.training
        batch = Batch(
            inputs=inputs,
            texts=[
                completion if isinstance(completion, str) else completion[-1]["content"] for completion in completions
            ],
            ids=completion_ids_list,
            group_size=self.num_generations if training else self.num_generations_eval,
            progress=Progress(self.state.global_step + 1, self.state.max_steps),
            mode="train" if training else "eval",
            ends=frozenset(self.eos_token_ids),
        )
        rewards = self._scorer.score(batch, self._log_metric)
        column = [float("nan") if reward is None else reward for reward in rewards]
        local = torch.tensor(column, dtype=torch.float32, device=self.accelerator.device).unsqueeze(1)
        everywhere: torch.Tensor = gather(local)
        return everywhere


def objective(**_: Any) -> list[float]:
    """Names TRL's reward column; the trainer never calls it."""
    raise AssertionError("RulesGRPOTrainer scores in _calculate_rewards")


def layout(job: Job, ranks: int) -> str:
    """How the run is laid out, in one line."""
    groups = (job.arguments.generation_batch_size or 0) // job.arguments.num_generations
    return (
        f"{ranks} rank{'s' * (ranks > 1)}; a rollout is {groups} groups of {job.arguments.num_generations}, "
        f"{groups // ranks} on each rank; {told_rows(job.prepared, 'prompts')}"
    )


def make_trainer(job: Job) -> Trainer:
    """The trainer with the recipe's rewards."""
    recipe, rewards = job.recipe, job.prepared.rewards
    assert isinstance(recipe, GrpoRecipe) and rewards is not None
    unscored = recipe.objective.max_unscored
    if isinstance(rewards.engine.objective, Stateful):
        job.states["objective"] = rewards.engine.objective
    scorer = BatchScorer(rewards.engine, rewards.judges, job.log, unscored, job.arguments.scale_rewards)
    return RulesGRPOTrainer(scorer=scorer, **job.trainer_arguments("CAUSAL_LM"))


def save(job: Job, trainer: Trainer, folder: Path) -> None:
    """Save the trained model."""
    trainer.save_model(str(folder))
