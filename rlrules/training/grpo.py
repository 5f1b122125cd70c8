"""The one subclass of TRL's GRPOTrainer, and the table of what it overrides."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather
from transformers import Trainer
from trl import GRPOTrainer

from rlrules.recipe.rollouts import RolloutsSection
from rlrules.recipe.sampling import DomainAwareConfig
from rlrules.recipe.schema import GrpoRecipe, TeaSection
from rlrules.training.entropy import SCORED, EntropyTerm
from rlrules.training.images import in_prompt
from rlrules.training.job import Job, told_rows
from rlrules.training.mixed_rows import let_ddp_look, refuse_waiting
from rlrules.training.overlap import Overlap, texts_of
from rlrules.training.rollouts import use_rollouts
from rlrules.training.sampling import DomainSampler
from rlrules.training.scoring import Batch, BatchScorer
from rlrules.training.state import Stateful
from rlrules.training.weights import NamedWeights
from rlrules.types import Progress

OVERRIDES = {
    "_generate_and_score_completions": (
        "(self, inputs: list[dict[str, torch.Tensor | typing.Any]]) -> dict[str, torch.Tensor | typing.Any]"
    ),
    "_generate": "(self, prompts: list)",
    "_generate_single_turn": "(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False)",
    "_calculate_rewards": "(self, inputs, prompts, completions, completion_ids_list)",
    "_compute_loss": "(self, model, inputs)",
    "_get_per_token_logps_and_entropies": "(self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, "
    "compute_entropy=False, compute_aux_loss=False, pixel_values=None, image_grid_thw=None, num_images=None, "
    "pixel_attention_mask=None, spatial_shapes=None, num_tiles=None, image_sizes=None, token_type_ids=None, "
    "mm_token_type_ids=None, image_position_ids=None) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]",
}
"""TRL's methods that this trainer replaces, with the signatures they must have; a test holds TRL to it."""


class RulesGRPOTrainer(NamedWeights, GRPOTrainer):  # type: ignore[misc]
    """GRPO whose rewards come from a recipe's engine.

    TRL sees one reward column, `objective`: what the recipe's objective makes of all scores, NaN where a completion
    has none. It normalises within groups and does everything after.

    Args:
        scorer: Scores a batch, on all ranks together.
        sampler: Draws the prompts; None leaves them to TRL.
        tea: Adds the entropy term of that section to TRL's loss; None, or a coefficient of 0, leaves it as it is.
        overlap: Completions are scored while others are generated and log-probabilities are taken.
        rollouts: The servers that generate; None leaves it to what TRL's fields say.
        arguments: As for TRL's trainer, without `reward_funcs`.
    """

    def __init__(
        self,
        *,
        scorer: BatchScorer,
        sampler: DomainSampler | None = None,
        tea: TeaSection | None = None,
        overlap: bool = False,
        rollouts: RolloutsSection | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(reward_funcs=[objective], **arguments)
        self._scorer = scorer
        self._sampler = sampler
        served = rollouts is not None
        self._entropy = EntropyTerm(tea, self.args, served) if tea is not None and tea.coef > 0 else None
        self._scored = torch.empty(0, dtype=torch.bool)
        self._overlap = Overlap(self, scorer) if overlap else None
        if rollouts is not None:
            folder = Path(self.args.output_dir).parent / "policy"
            use_rollouts(self, rollouts, Path(rollouts.shared_dir) if rollouts.shared_dir else folder)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One rollout; in training of the prompts that the sampler draws now: `inputs` were chosen a rollout ago."""
        if self._sampler is not None and self.model.training:
            drawn = self._sampler.draw(Progress(self.state.global_step + 1, self.state.max_steps))
            repeated = [row for row in drawn for _ in range(self.num_generations)]
            start = self.accelerator.process_index * len(inputs)
            inputs = [self.train_dataset[row] for row in repeated[start : start + len(inputs)]]
        with self._overlap.rollout(self._batch(inputs)) if self._overlap is not None else contextlib.nullcontext():
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        # Zero advantages do not tell which completions have a reward.
        return batch if self._entropy is None else {**batch, SCORED: self._scored}

    def _generate(self, prompts: list[Any]) -> Any:
        """As TRL's; from then on all completions are known, while TRL takes log-probabilities."""
        generated = super()._generate(prompts)
        if self._overlap is not None:
            self._overlap.generated(generated[1], generated[3])
        return generated

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> Any:
        """As TRL's; a generator that tells of completions one by one is listened to."""
        with self._overlap.listening(prompt_ids) if self._overlap is not None else contextlib.nullcontext():
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, has_tool_images
            )

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:
        """Rewards of all ranks' rows, shape (ranks * B * G, 1), in rank order; NaN where there is none."""
        batch = self._batch(inputs, texts_of(completions), completion_ids_list)
        rewards = self._scorer.score(batch, self._log_metric)
        column = [float("nan") if reward is None else reward for reward in rewards]
        local = torch.tensor(column, dtype=torch.float32, device=self.accelerator.device).unsqueeze(1)
        self._scored = ~local.isnan().squeeze(1)
        everywhere: torch.Tensor = gather(local)
        return everywhere

    def _batch(self, inputs: list[dict[str, Any]], texts: Sequence[str] = (), ids: Sequence[list[int]] = ()) -> Batch:
        training = self.model.training
        return Batch(
            inputs=inputs,
            texts=texts,
            ids=ids,
            group_size=self.num_generations if training else self.num_generations_eval,
            progress=Progress(self.state.global_step + 1, self.state.max_steps),
            mode="train" if training else "eval",
            ends=frozenset(self.eos_token_ids),
        )

    def _get_per_token_logps_and_entropies(self, *arguments: Any, **named: Any) -> Any:
        """As TRL's; what the policy's own pass gives is the entropy term's to see, so that it needs none."""
        found = super()._get_per_token_logps_and_entropies(*arguments, **named)
        if self._entropy is not None and named.get("compute_entropy"):
            self._entropy.see(*found[:2])
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """TRL's loss, with the entropy term where a recipe has one."""
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        if self._entropy is None or not self.model.training:
            return loss
        return loss + self._entropy.loss(self, inputs)


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
    """The trainer with the recipe's rewards.

    Raises:
        TrainingError: Some rows hold images and some do not, and ranks share their weights.
    """
    recipe, rewards = job.recipe, job.prepared.rewards
    assert isinstance(recipe, GrpoRecipe) and rewards is not None
    unscored = recipe.objective.max_unscored
    if isinstance(rewards.engine.objective, Stateful):
        job.states["objective"] = rewards.engine.objective
    sampler = _sampler(recipe, job)
    let_ddp_look(job, in_prompt)
    scorer = BatchScorer(rewards.engine, rewards.judges, job.log, unscored, job.arguments.scale_rewards, sampler)
    trainer = RulesGRPOTrainer(
        scorer=scorer,
        sampler=sampler,
        tea=recipe.tea,
        overlap=recipe.overlap,
        rollouts=recipe.rollouts,
        **job.trainer_arguments("CAUSAL_LM"),
    )
    refuse_waiting(job, trainer, in_prompt)
    return trainer


def _sampler(recipe: GrpoRecipe, job: Job) -> DomainSampler | None:
    """The recipe's sampler, known to the checkpoints; None where it has none."""
    if recipe.sampling is None:
        return None
    config, arguments = recipe.sampling, job.arguments
    metric = recipe.rewards[config.signal].signal_metric if isinstance(config, DomainAwareConfig) else ""
    prompts = arguments.generation_batch_size // arguments.num_generations
    sampler = DomainSampler(config, job.prepared.train.rows, prompts, arguments.seed, metric)
    job.states["sampling"] = sampler
    return sampler


def save(job: Job, trainer: Trainer, folder: Path) -> None:
    """Save the trained model."""
    trainer.save_model(str(folder))
