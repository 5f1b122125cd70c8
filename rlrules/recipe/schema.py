"""A recipe: everything a run is made from, validated, with nothing but YAML-able values."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator

from rlrules.data.conversations import AnyConversationsConfig
from rlrules.data.preferences import AnyPreferenceConfig
from rlrules.data.prompts import AnyPromptsConfig
from rlrules.judges import AnyJudgeConfig
from rlrules.recipe.rollouts import RolloutsSection
from rlrules.recipe.sampling import AnySamplingConfig
from rlrules.recipe.served import EngineSection, ServerSection
from rlrules.rewards.base import ScorerConfig, scorer_config
from rlrules.rewards.objective import AnyObjectiveConfig


class Section(BaseModel):
    """Part of a recipe: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class ModelSection(Section):
    """The model to train."""

    name: str = Field(description="Hub id, folder, package:NAME/FILE.gguf, or tiny:qwen2_5_vl.")
    dtype: str = Field("float32", description="Type of the weights, by torch's name.")
    attn_implementation: str | None = Field(None, description="As in transformers; null lets it choose.")
    peft: dict[str, Any] | None = Field(None, description="Fields of peft's LoraConfig; null trains all weights.")
    chat_template: str | None = Field(None, description="A Jinja file; null: the tokenizer's own template.")
    think_seed: bool = Field(False, description="The template opens a thought wherever an answer is to be generated.")
    min_pixels: int | None = Field(None, ge=1, description="Smaller images are enlarged; null: as the processor says.")
    max_pixels: int | None = Field(None, ge=1, description="Larger images are shrunk; null: as the processor says.")


class DataSection(Section):
    """Where prompts come from."""

    train: AnyPromptsConfig
    eval: AnyPromptsConfig | None = Field(None, description="Held-out prompts, used where training.eval_strategy says.")


class ConversationData(Section):
    """Where answers to imitate come from."""

    train: AnyConversationsConfig
    eval: AnyConversationsConfig | None = Field(None, description="Held out, used where training.eval_strategy says.")


class PreferenceData(Section):
    """Where preferences come from."""

    train: AnyPreferenceConfig
    eval: AnyPreferenceConfig | None = Field(
        None, description="Held out: evaluated where training.eval_strategy says, and what scores are normalised over."
    )
    margin: bool = Field(False, description="The chosen answer has to lead by its preference's strength.")


class EvalSection(Section):
    """A benchmark that the trained model is put to once it is saved."""

    type: str = Field(description="Benchmark, as `rlrules eval` names it.")
    config: str = Field(description="Its configuration, a YAML file as `rlrules eval` takes it.")
    overrides: dict[str, Any] = Field(default_factory=dict, description="Goes over what the file says.")


class TeaSection(Section):
    """Token-wise entropy-adaptive regularisation (Light-IF): an entropy bonus, spread over tokens by covariance."""

    coef: float = Field(0.05, ge=0, allow_inf_nan=False, description="Mean bonus of a token's nat; 0: TRL's loss.")
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False, description="Of the softmax over covariances.")
    cap: float = Field(100.0, gt=0, description="Most that a token gets, in multiples of coef; .inf: no bound.")
    scope: Literal["sequence", "batch"] = Field(
        "sequence", description="What the softmax goes over: one completion, or all of an optimiser step."
    )


class EntropySelection(Section):
    """Fine-tuning on the tokens that the model does not cover yet (Light-IF)."""

    coef: float = Field(
        0.8, ge=0, allow_inf_nan=False, description="Entropy's weight in a token's rank, CE - coef * entropy."
    )
    keep: float = Field(0.8, gt=0, le=1, description="Share of a micro-batch's tokens that are learned; 1: all.")


class Recipe(Section):
    """What the recipes of all methods have."""

    name: str = Field(pattern=r"^[\w.-]+$", description="Default: the file's stem. The run directory is runs/NAME.")
    method: str
    model: ModelSection | None = None
    data: DataSection | ConversationData | PreferenceData | None = None
    training: dict[str, Any] = Field(
        default_factory=dict, description="Fields of TRL's GRPOConfig, SFTConfig or RewardConfig, by method."
    )
    eval: dict[Annotated[str, Field(pattern=r"^[\w.-]*\w$")], EvalSection] = Field(
        default_factory=dict, description="By name; each result goes to runs/RUN/eval/NAME."
    )


class GrpoRecipe(Recipe):
    """Reinforcement learning. `model`, `data` and `training` are needed to train, not to score."""

    method: Literal["grpo"] = "grpo"
    data: DataSection | None = None
    judges: dict[str, AnyJudgeConfig] = Field(default_factory=dict)
    rewards: dict[str, SerializeAsAny[ScorerConfig]] = Field(min_length=1)
    objective: AnyObjectiveConfig
    overlap: bool = Field(
        True,
        description="Score completions while others are generated and log-probabilities are taken. The same scores "
        "either way; false: only once the trainer waits for them, as where a judge's server and the policy share "
        "what they run on.",
    )
    sampling: AnySamplingConfig | None = Field(
        None, description="How often each domain is drawn; null: TRL's order, each prompt once an epoch."
    )
    tea: TeaSection | None = None
    rollouts: RolloutsSection | None = Field(
        None, description="vLLM servers that generate over HTTP; null: as TRL's fields in `training` say."
    )
    server: ServerSection | None = Field(None, description="Of `rlrules serve`; nothing else reads it.")
    engines: dict[str, EngineSection] = Field(
        default_factory=dict,
        description="vLLM servers that `rlrules serve` and `rlrules engines` start; nothing else does.",
    )

    @field_validator("rewards", mode="before")
    @classmethod
    def _typed_rewards(cls, sections: Any) -> Any:
        return {n: scorer_config(s) for n, s in sections.items()} if isinstance(sections, dict) else sections

    def required_rewards(self) -> list[str]:
        """Names of the rewards without which a completion has none."""
        optional = self.objective.optional()
        return [name for name, reward in self.rewards.items() if reward.required and name not in optional]


class SftRecipe(Recipe):
    """Fine-tuning on given answers."""

    method: Literal["sft"]
    model: ModelSection
    data: ConversationData
    entropy_selection: EntropySelection | None = None


class RewardModelRecipe(Recipe):
    """A classifier with one output, trained on preferences."""

    method: Literal["reward_model"]
    model: ModelSection
    data: PreferenceData


RECIPES: dict[str, type[Recipe]] = {"grpo": GrpoRecipe, "sft": SftRecipe, "reward_model": RewardModelRecipe}
"""By method."""
