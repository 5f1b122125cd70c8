"""What a judge is asked and what it answers, whatever answers it."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from rlrules.errors import JudgeError
from rlrules.types import Message

WANTED: ContextVar[Callable[[], bool]] = ContextVar("wanted", default=lambda: True)
"""Whether anybody still waits for the answer to the question at hand, for backends whose questions queue."""
FailureKind = Literal["connection", "timeout", "rejected", "overflow", "empty"]


class JudgeFailure(JudgeError):
    """One question that got no answer.

    Args:
        kind: "connection" (unreachable, or a 408/409/429/5xx after all retries), "timeout", "rejected" (the
            server refuses the request), "overflow" (the prompt is longer than the judge's context) or "empty"
            (what came is no answer, after all retries).
        message: What happened, in one line, with the URL.
        limit: The judge's context in tokens and `size`, the prompt's, for an overflow where they are known.
    """

    def __init__(self, kind: FailureKind, message: str, limit: int = 0, size: int = 0) -> None:
        super().__init__(kind, message, limit, size)
        self.message = message
        self.kind: FailureKind = kind
        self.limit = limit
        self.size = size

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a judge.

    Attributes:
        messages: The chat. Where the last turn is the assistant's, the judge goes on with that turn.
        template: Name and hash of the template that made it; part of the cache key.
        labels: Not empty: the answer is one of these, with probabilities; one token where that tells them apart.
        schema: JSON schema that the answer must follow.
        max_tokens: Overrides the judge's own bound.
        temperature: Overrides the judge's own temperature.
        draw: Which of several independent answers to the same question this is.
    """

    messages: tuple[Message, ...]
    template: str
    labels: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    draw: int = 0

    @property
    def continues(self) -> bool:
        """Whether the answer goes on with the assistant's turn that the chat ends with."""
        return self.messages[-1]["role"] == "assistant"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        text: The visible answer.
        reasoning: The thought, where the server returns it apart from the answer.
        finish_reason: As in the OpenAI API; "length" means cut off.
        logprobs: Log-probability of the likeliest first tokens, by their text, or of the labels themselves, all of
            them (labelled questions only).
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        seconds: From sending to the full answer, waiting for a free slot not counted.
        cached: Whether it came from the cache.
        steps: Each token that was written, with the log-probabilities of the likeliest in its place; empty where it
            is one token alone (labelled questions only).
    """

    text: str
    reasoning: str = ""
    finish_reason: str = "stop"
    logprobs: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cached: bool = False
    steps: Sequence[tuple[str, Mapping[str, float]]] = field(default_factory=list)


class JudgeConfig(BaseModel):
    """Fields that every kind of judge has."""

    model_config = ConfigDict(extra="forbid")

    in_process: ClassVar[bool] = False
    """Whether it computes with torch in this process."""

    model: str = Field(description="Model to ask: as the server names it, or anything `models.py` resolves.")
    revision: str = Field("", description="Weights' revision; part of the cache key.")
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(1024, ge=1, description="Bound on free-text answers; a constrained label takes one token.")
    cache: bool | str = Field(True, description="Answers are kept in the user's cache folder, this file, or not.")

    def identity(self) -> tuple[str, ...]:
        """What of this section, sampling aside, changes the answer to a question: part of the cache key."""
        return (self.model, self.revision)

    def one_token_labels(self) -> bool:
        """Whether the first token of a labelled answer always begins a label."""
        return True


class Backend(Protocol):
    """Answers questions: a server over HTTP, or a model in this process. Called on one event loop only."""

    async def complete(self, question: Question) -> Answer:
        """Answer one question or raise `JudgeFailure`; never anything else."""
        ...

    async def prompt_end(self, messages: Sequence[Message]) -> str | None:
        """How the text ends that the model is given for these messages; None where that cannot be known.

        Raises:
            JudgeFailure: The judge does not answer.
        """
        ...

    async def close(self) -> None:
        """Release connections and memory."""
        ...


@dataclass(slots=True)
class Usage:
    """Counts since the judge was made. Rates come from the difference between two copies.

    Attributes:
        asked: Questions, cached ones included.
        cached: Answered from the cache, or by an identical question already on its way.
        failed: Questions that ended without an answer.
        retried: Attempts after a question's first.
        prompt_tokens: Tokens read, cached answers not counted.
        completion_tokens: Tokens written, likewise.
        seconds: Sum of answers' latencies, likewise.
    """

    asked: int = 0
    cached: int = 0
    failed: int = 0
    retried: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def since(self, earlier: "Usage") -> "Usage":
        """What was added after `earlier` was copied."""
        return Usage(*(getattr(self, name) - getattr(earlier, name) for name in self.__slots__))
