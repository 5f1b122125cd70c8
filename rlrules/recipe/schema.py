"""A recipe: everything a run is made from, validated, with nothing but YAML-able values."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator

from rlrules.data.prompts import AnyPromptsConfig
from rlrules.judges import AnyJudgeConfig
from rlrules.rewards.base import ScorerConfig, scorer_config
from rlrules.rewards.objective import AnyObjectiveConfig


class Section(BaseModel):
    """Part of a recipe: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class ModelSection(Section):
    """The policy."""

    name: str = Field(description="Hub id, folder, or package:NAME/FILE.gguf.")
    dtype: str = Field("float32", description="Type of the weights, by torch's name.")
    attn_implementation: str | None = Field(None, description="As in transformers; null lets it choose.")
    peft: dict[str, Any] | None = Field(None, description="Fields of peft's LoraConfig; null trains all weights.")


class DataSection(Section):
    """Where prompts come from."""

    train: AnyPromptsConfig
    eval: AnyPromptsConfig | None = Field(None, description="Held-out prompts, used where training.eval_strategy says.")


class Recipe(Section):
    """One experiment. `model`, `data` and `training` are needed to train, not to score."""

    name: str = Field(pattern=r"^[\w.-]+$", description="Default: the file's stem. The run directory is runs/NAME.")
    method: Literal["grpo"] = "grpo"
    model: ModelSection | None = None
    data: DataSection | None = None
    judges: dict[str, AnyJudgeConfig] = Field(default_factory=dict)
    rewards: dict[str, SerializeAsAny[ScorerConfig]] = Field(min_length=1)
    objective: AnyObjectiveConfig
    training: dict[str, Any] = Field(default_factory=dict, description="Fields of TRL's GRPOConfig.")

    @field_validator("rewards", mode="before")
    @classmethod
    def _typed_rewards(cls, sections: Any) -> Any:
        return {n: scorer_config(s) for n, s in sections.items()} if isinstance(sections, dict) else sections

    def required_rewards(self) -> list[str]:
        """Names of the rewards without which a completion has none."""
        return [name for name, reward in self.rewards.items() if reward.required]
