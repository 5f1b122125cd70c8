"""What an extraction is made of: one YAML file for `rlrules rules extract|merge|report`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rlrules.data.preferences import AnyPreferenceConfig
from rlrules.judges import AnyJudgeConfig


class PairsConfig(BaseModel):
    """In which order a pair's two answers are shown."""

    model_config = ConfigDict(extra="forbid")

    order: Literal["random", "both", "chosen_first"] = Field(
        "random", description="random: the preferred answer comes second in every other pair; both: each pair twice."
    )
    seed: int = Field(0, description="Seed of the random order.")


class ReportConfig(BaseModel):
    """How far the rules agree with preferences: who verifies, on which, how often."""

    model_config = ConfigDict(extra="forbid")

    judge: AnyJudgeConfig | None = Field(None, description="Who verifies; null: the judge that extracts.")
    data: AnyPreferenceConfig | None = Field(None, description="Preferences to compare with; null: those of `data`.")
    repeats: int = Field(1, ge=1, description="Verdicts on the same question; more than 1 also gives flip rates.")
    temperature: float = Field(0.0, ge=0, description="Of all verdicts.")
    redundant: float = Field(0.8, gt=0, le=1, description="Two rules whose phi reaches this are redundant.")
    conflict: float = Field(-0.3, ge=-1, lt=0, description="Two rules whose phi is this low are in conflict.")
    min_responses: int = Field(20, ge=2, description="Verdicts that two rules must share before they are flagged.")


class ExtractionConfig(BaseModel):
    """One extraction; `merge` uses `judge` and `chunk` of it, `report` its `report` section."""

    model_config = ConfigDict(extra="forbid")

    judge: AnyJudgeConfig = Field(description="The model that reasons, extracts and merges.")
    data: AnyPreferenceConfig
    pairs: PairsConfig = Field(default_factory=PairsConfig)
    source: Literal["reasoning", "explanation"] = Field(
        "reasoning", description="Take rules from the model's chain of thought, or from its visible answer."
    )
    max_candidates: int = Field(20, ge=1, description="Rules asked for from one text.")
    chunk: int = Field(150, ge=2, description="Rules in one merging call.")
    report: ReportConfig = Field(default_factory=ReportConfig)
