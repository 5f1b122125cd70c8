"""What goes over the wire: requests and answers of the three protocols.

Ours, `/v1/score`, takes whole groups and is strict: an unknown field is an error. The other two are what OpenRLHF
and slime send; those clients may send more than is read here.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from rlrules.rewards.engine import ScoredGroup
from rlrules.types import Score

_GROUP: dict[str, JsonValue] = {
    "prompt": "Name a colour.",
    "completions": ["Blue.", {"text": "I would say", "tokens": 3, "truncated": True}],
    "row": {"answer": "blue"},
}


class _Ours(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Theirs(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ChatMessage(_Ours):
    """One chat message, as in the OpenAI API."""

    role: str
    content: str | list[dict[str, JsonValue]]


class CompletionIn(_Ours):
    """One answer of the policy."""

    text: str = Field(description="Special tokens removed, thought included.")
    tokens: int | None = Field(None, ge=0, le=2**53, description="Its length in the policy's tokens.")
    truncated: bool = Field(False, description="Generation stopped at the length limit.")


class GroupIn(_Ours):
    """The completions of one prompt."""

    prompt: str | list[ChatMessage] = Field(min_length=1, description="Text, or the chat's messages.")
    completions: list[str | CompletionIn] = Field(min_length=1, description="Texts, or texts with their lengths.")
    row: dict[str, JsonValue] = Field(default_factory=dict, description="The columns that the rewards read.")


class ScoreRequest(_Ours):
    """Groups to score."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"groups": [_GROUP], "step": 1}]})

    groups: list[GroupIn] = Field(min_length=1)
    step: int = Field(1, ge=1, le=2**53, description="What the scorers are told of the run: 1 at the first rollout.")
    total_steps: int = Field(1, ge=1, le=2**53)


class ScoreOut(BaseModel):
    """What one reward says of one completion."""

    value: float | None = Field(description="null exactly where `status` is unscored.")
    status: Literal["ok", "malformed", "unscored"] = Field(
        description="malformed: the answer could not be read, a real and low score. unscored: nothing is known."
    )
    reason: str = Field(description="Why the status is not ok.")
    metrics: dict[str, float]
    details: dict[str, Any]

    @classmethod
    def of(cls, score: Score) -> "ScoreOut":
        """The same score, for the wire."""
        # Not validated again: it is checked where it is made.
        return cls.model_construct(
            value=score.value,
            status=score.status,
            reason=score.reason,
            metrics=_finite(score.metrics),
            details=dict(score.details),
        )


class CompletionOut(BaseModel):
    """What is said of one completion."""

    reward: float | None = Field(description="What the objective makes of the scores; null where one is missing.")
    advantage: float = Field(description="What TRL would make of the group's rewards; 0 where there is none.")
    scores: dict[str, ScoreOut] = Field(description="By the reward's name.")


class GroupOut(BaseModel):
    """What is said of one group."""

    completions: list[CompletionOut] = Field(description="One per completion, in order.")
    metrics: dict[str, float] = Field(description="Of the objective and, as NAME/KEY, of rewards, about the group.")

    @classmethod
    def of(cls, scored: ScoredGroup, advantages: list[float]) -> "GroupOut":
        """A scored group, for the wire."""
        completions = [
            CompletionOut.model_construct(
                reward=reward,
                advantage=advantage,
                scores={name: ScoreOut.of(given.scores[index]) for name, given in scored.scored.items()},
            )
            for index, (reward, advantage) in enumerate(zip(scored.outcome.rewards, advantages, strict=True))
        ]
        metrics = dict(scored.outcome.metrics)
        for name, given in scored.scored.items():
            metrics |= {f"{name}/{key}": value for key, value in given.metrics.items()}
        return cls.model_construct(completions=completions, metrics=_finite(metrics))


class ScoreResponse(BaseModel):
    """One entry per group, in order."""

    groups: list[GroupOut]


class OpenRlhfRequest(_Theirs):
    """What OpenRLHF's client sends: lists of one length."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"query": ["Name a colour.\nBlue.</s>"], "prompts": ["Name a colour.\n"], "labels": ["blue"]}]
        },
    )

    query: list[str] = Field(min_length=1, description="Prompt and completion as one text.")
    prompts: list[str] = Field(description="What each query begins with.")
    labels: list[JsonValue] | None = Field(None, description="A column that the rewards read, or a mapping of several.")


class OpenRlhfResponse(BaseModel):
    """What OpenRLHF's client reads."""

    rewards: list[float | None]
    scores: list[float | None]
    extra_logs: dict[str, list[float]] = Field(description="The rewards' own scores, where every query has one.")


class Unscored(OpenRlhfResponse):
    """With status 503: a query without a reward has null, and `detail` says why. The client asks again."""

    detail: str


class SingleRequest(_Theirs):
    """What slime's client sends."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"examples": [{"prompt": "Name a colour.", "response": "Blue.", "label": "blue"}]},
    )

    prompt: str | list[ChatMessage] = Field(min_length=1)
    response: str
    label: JsonValue = Field(None, description="A column that the rewards read, or a mapping of several.")


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class Readiness(BaseModel):
    """Whether requests can be answered."""

    ready: bool
    problems: dict[str, str] = Field(description="By judge, reward or engine; empty where all answer.")


class JudgeInfo(BaseModel):
    """A judge's model, as its section says."""

    model: str
    revision: str


class RewardInfo(BaseModel):
    """A reward, as its section says."""

    type: str
    required: bool
    columns: list[str]
    model: str | None = None


class Info(BaseModel):
    """What is served."""

    name: str
    version: str
    recipe_hash: str = Field(description="Of judges, rewards and objective with everything merged and defaulted.")
    template_hashes: dict[str, str] = Field(description="Of the judges' prompt templates.")
    judges: dict[str, JudgeInfo]
    rewards: dict[str, RewardInfo]
    objective: str
    advantages: bool = Field(description="The reward is an advantage, which a trainer must not scale again.")
    groups_only: str = Field(description="Why the routes for single items answer 422; empty where they do not.")


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """JSON has no other numbers; one that is none tells nothing."""
    return {key: value for key, value in metrics.items() if math.isfinite(value)}
