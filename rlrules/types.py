"""What a scorer sees and returns: everything else in the package is built around these few types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Required, TypedDict

import numpy as np
from numpy.typing import NDArray

ContentPart = Mapping[str, Any]
Status = Literal["ok", "malformed", "unscored"]


class Message(TypedDict, total=False):
    """One chat message, as in the OpenAI API."""

    role: Required[str]
    content: Required[str | Sequence[ContentPart]]


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer of the policy.

    Attributes:
        text: Decoded answer, special tokens removed, thought included.
        tokens: Length in the policy's tokens, the end token included.
        truncated: Whether generation stopped at the length limit.
    """

    text: str
    tokens: int
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the run is: `step` is 1 at the first rollout; outside training both are what the caller says."""

    step: int = 1
    total_steps: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """The G completions of one prompt.

    Attributes:
        prompt: Raw chat messages (images as content parts), never the templated string.
        completions: The G sampled answers.
        row: The data row's other columns.
        progress: Where the run is.
    """

    prompt: tuple[Message, ...]
    completions: tuple[Completion, ...]
    row: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True, slots=True)
class Score:
    """What one scorer says of one completion.

    Attributes:
        value: The number; None exactly when `status` is "unscored".
        status: "malformed": the policy's answer could not be read, a real and low score;
            "unscored": the judge failed, so that nothing is known.
        reason: Why the status is not "ok", in one line.
        metrics: Numbers to average over completions into the run's metrics.
        details: Verdicts, components, judge text: goes to the completions log.
    """

    value: float | None
    status: Status = "ok"
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) != (self.status == "unscored"):
            raise ValueError(f"Score: value {self.value!r} does not fit status {self.status!r}")
        if self.value is not None and not np.isfinite(self.value):
            raise ValueError(f"Score: value {self.value!r} is not finite; return Score.unscored(reason)")

    @classmethod
    def unscored(cls, reason: str, details: Mapping[str, Any] | None = None) -> "Score":
        """A completion of which nothing is known, because a judge or a scorer failed."""
        return cls(None, "unscored", reason, details=details or {})


@dataclass(frozen=True, slots=True)
class Comparisons:
    """What a pairwise judge says of a group.

    Attributes:
        strengths: Shape (G, G): by how much completion i beats completion j; NaN is a missing edge.
    """

    strengths: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """What one scorer says of one group.

    Attributes:
        scores: G of them, in the completions' order.
        comparisons: Where the scorer compares completions.
        metrics: Numbers about the group as a whole, to average into the run's metrics.
    """

    scores: tuple[Score, ...]
    comparisons: Comparisons | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
