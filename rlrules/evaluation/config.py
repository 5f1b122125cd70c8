"""What an evaluation is made of: one YAML file per benchmark and model."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlrules.data.gui import GuiPromptsConfig
from rlrules.data.jigsaw import JigsawPromptsConfig, Seen
from rlrules.data.preferences import AnyPreferenceConfig
from rlrules.evaluation.alpaca_glm import DEFAULT_C
from rlrules.evaluation.arena_hard import STRONG_WEIGHT
from rlrules.evaluation.stats import RESAMPLES
from rlrules.judges import AnyJudgeConfig
from rlrules.judges.comparison import Kind
from rlrules.rewards.gui_frames import Frame
from rlrules.rewards.reward_model import RewardModelConfig


class EvalConfig(BaseModel):
    """Fields of every benchmark."""

    model_config = ConfigDict(extra="forbid")

    limit: int | None = Field(None, ge=1, description="Only the first questions.")
    seed: int = Field(0, description="Of the bootstrap, and of sampled answers.")
    resamples: int = Field(RESAMPLES, ge=0, description="Of the bootstrap; 0: no intervals.")
    max_failed: float = Field(0.01, ge=0, le=1, description="Share of rows without a result past which the run fails.")


class AnsweringConfig(EvalConfig):
    """Benchmarks of a model's answers."""

    model: AnyJudgeConfig | None = Field(
        None, description="Who answers: a served model, or a checkpoint (type: local)."
    )
    answers: str | None = Field(None, description="File of existing answers, instead of `model`.")
    name: str | None = Field(None, description="The model's name in tables; default: the model's, or the file's stem.")

    @model_validator(mode="after")
    def _one_source(self) -> "AnsweringConfig":
        if (self.model is None) == (self.answers is None):
            raise ValueError("give `model`, who answers, or `answers`, a file of existing answers")
        return self


class AlpacaConfig(AnsweringConfig):
    """AlpacaEval 2."""

    judge: AnyJudgeConfig
    eval_set: str | None = Field(None, description="Instructions and the baseline's outputs; null: from the hub.")
    template: str | None = Field(None, description="Judge template in alpaca_eval's form; null: our own.")
    orders: Literal["both", "reference"] = Field(
        "both", description="Each pair shown both ways round, or in the one order that the reference draws."
    )
    difficulty: str | None = Field(None, description="instruction_difficulty.csv.")
    gamed: str | None = Field(None, description="df_gamed.csv.")
    C: float = Field(DEFAULT_C, gt=0, description="Inverse strength of the GLM's penalty.")


class MTBenchEvalConfig(AnsweringConfig):
    """MT-Bench."""

    judge: AnyJudgeConfig
    questions: str | None = Field(None, description="question.jsonl; null: from the hub.")
    references: str | None = Field(None, description="Reference answers; null: all questions are judged without.")
    template: str | None = Field(None, description="Judge templates in FastChat's form; null: our own.")
    mode: Literal["single", "pair"] = Field("single", description="Grades, or comparisons with `baseline`.")
    baseline: str | None = Field(None, description="Answers of the model to compare with, in FastChat's form.")
    split: Literal["all", "heldout", "extraction"] = Field(
        "all", description="AutoRule's split: the last five questions of each category are held out."
    )
    samples: int = Field(1, ge=1, description="Answers to each question.")
    explain: bool = Field(True, description="The judge explains before it grades; false: it gives the bare grade.")

    @model_validator(mode="after")
    def _pairs_need_a_baseline(self) -> "MTBenchEvalConfig":
        if (self.mode == "pair") != (self.baseline is not None):
            raise ValueError("`baseline` and mode: pair belong together")
        if self.template is not None and not self.explain:
            raise ValueError("explain: false is for our own templates")
        return self


class ArenaHardConfig(AnsweringConfig):
    """Arena-Hard."""

    judge: AnyJudgeConfig
    questions: str | None = Field(None, description="Rows {uid, prompt, category?}; null: from the hub.")
    baseline: str = Field(description="The baseline's answers, {uid, answer}; `answers` has the same form.")
    strong: int = Field(STRONG_WEIGHT, ge=1, description="How often a strong verdict counts.")
    explain: bool = Field(True, description="The judge reasons before its verdict; false: it gives the bare verdict.")


class ScoringConfig(EvalConfig):
    """Benchmarks of judges and reward models."""

    judge: AnyJudgeConfig | None = Field(None, description="Compares two answers, each pair both ways round.")
    reward_model: RewardModelConfig | None = Field(None, description="Scores each answer, instead of `judge`.")
    think: bool = Field(False, description="The judge reasons first and answers in a tag, as Think-RM's.")
    verdict: Kind = Field("binary", description="binary, or multiclass: how far one is better.")

    @model_validator(mode="after")
    def _one_scorer(self) -> "ScoringConfig":
        if (self.judge is None) == (self.reward_model is None):
            raise ValueError("give `judge` or `reward_model`")
        return self


class RewardBenchConfig(ScoringConfig):
    """RewardBench 1, or 2 where rows hold several rejected answers, which a judge grades each on its own."""

    data: str | None = Field(None, description="Rows; null: from the hub.")


class RMBenchConfig(ScoringConfig):
    """RM-Bench."""

    data: list[str] = Field(default_factory=list, description="Files of its domains; empty: from the hub.")


class PreferenceEvalConfig(ScoringConfig):
    """Any preferences."""

    data: AnyPreferenceConfig


class InstructionsConfig(AnsweringConfig):
    """IFEval and IFBench."""

    prompts: str | None = Field(None, description="Prompts with their instructions; null: from the hub.")
    nltk_data: str | None = Field(None, description="Folder of NLTK's data.")


class VisionEvalConfig(EvalConfig):
    """Benchmarks of answers about images."""

    model: AnyJudgeConfig = Field(description="Who answers: a served model that sees.")
    name: str | None = Field(None, description="The model's name in tables; default: the model's.")

    @model_validator(mode="after")
    def _model_sees(self) -> "VisionEvalConfig":
        if self.model.type == "local":
            raise ValueError("model: in this process it would read text alone; serve it (type: openai)")
        return self


class JigsawEvalConfig(VisionEvalConfig):
    """Jigsaw puzzles of any images."""

    data: JigsawPromptsConfig


class StepsConfig(BaseModel):
    """AndroidControl's steps as UI-R1 published them."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="ac_test.json: rows {image, task, gt}.")
    images: str = Field(description="Folder of the screenshots.")
    think: bool = Field(True, description="Ask for a thought before the answer.")
    frame: Frame = Field("resized", description="Units to ask for.")


class GuiEvalConfig(VisionEvalConfig):
    """Single steps on screenshots: clicks in ScreenSpot's form or on synthetic screens, or AndroidControl's steps."""

    data: GuiPromptsConfig | None = Field(None, description="Clicks that have to hit their element.")
    steps: StepsConfig | None = Field(None, description="Whole steps, in place of `data`.")
    seen: Seen = Field(Seen(), description="How the model sees an image, for `frame: resized`.")

    @model_validator(mode="after")
    def _points(self) -> "GuiEvalConfig":
        if (self.data is None) == (self.steps is None):
            raise ValueError("give either `data` or `steps`")
        if self.data is not None and self.data.answer != "point":
            raise ValueError("data.answer: a hit is a point's; ask for one")
        if self.data is not None and self.data.max_prompt_tokens is not None:
            raise ValueError("data.max_prompt_tokens: nobody counts the served model's tokens here; leave it out")
        return self


class RulesEvalConfig(AnsweringConfig):
    """How far a model's answers satisfy a rules file."""

    judge: AnyJudgeConfig
    rules: str = Field(description="Rules file.")
    prompts: str | None = Field(None, description="Rows with `prompt`; `answers` holds `prompt` and `answer` itself.")

    @model_validator(mode="after")
    def _a_model_needs_prompts(self) -> "RulesEvalConfig":
        if (self.model is None) == (self.prompts is not None):
            raise ValueError("`model` and `prompts` belong together")
        return self


class CalibrationConfig(EvalConfig):
    """A judge against stored verdicts."""

    judge: AnyJudgeConfig
    annotations: list[str] = Field(min_length=1, description="Files of AlpacaEval annotations with their outputs.")
    eval_set: str | None = Field(None, description="Instructions, where the annotations hold only their indices.")
    template: str | None = Field(None, description="Judge template in alpaca_eval's form; null: our own.")
