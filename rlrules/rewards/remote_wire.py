"""Requests to reward servers, and what is taken for an answer: a score is read strictly or not at all."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, FiniteFloat, Strict, TypeAdapter, ValidationError

from rlrules.judges.base import JudgeFailure
from rlrules.judges.images import image_url
from rlrules.judges.templates import encodable
from rlrules.types import Group, Message, Score, Scored, Status

T = TypeVar("T")
_Number = Annotated[FiniteFloat, Strict()]


class _ScoreIn(BaseModel):
    value: _Number | None
    status: Status
    reason: str = ""
    metrics: dict[str, _Number] = {}
    details: dict[str, Any] = {}


class _CompletionIn(BaseModel):
    reward: _Number | None
    scores: dict[str, _ScoreIn]

    def score(self) -> Score:
        reasons = "; ".join(f"{name}: {score.reason}" for name, score in self.scores.items() if score.reason)
        told = {
            name: score.model_dump(include={"value", "reason", "details"}, exclude_defaults=True)
            for name, score in self.scores.items()
        }
        metrics = {name: score.value for name, score in self.scores.items() if score.value is not None}
        for name, score in self.scores.items():
            metrics |= {f"{name}/{key}": value for key, value in score.metrics.items()}
        if self.reward is None:
            return Score(None, "unscored", reasons or "the server gave no reward", metrics, {"scores": told})
        malformed = any(score.status == "malformed" for score in self.scores.values())
        return Score(self.reward, "malformed" if malformed else "ok", reasons, metrics, {"scores": told})


class _GroupIn(BaseModel):
    completions: list[_CompletionIn]
    metrics: dict[str, _Number] = {}


class _V1Reply(BaseModel):
    groups: list[_GroupIn] = Field(min_length=1, max_length=1)


class _OpenRlhfReply(BaseModel):
    rewards: list[_Number | None] | _Number | None
    extra_logs: dict[str, Any] | None = None


_SINGLE_REPLY = TypeAdapter[Any](_Number | dict[str, Any] | None)


def v1_body(group: Group, columns: Sequence[str]) -> dict[str, Any]:
    """A group as a request to `/v1/score`, with these columns of its row.

    Raises:
        DataError: An image of the prompt cannot be had.
    """
    completions = [
        {
            "text": encodable(completion.text),
            # Counts may be left to the server; 0 for a text would be one.
            "tokens": None if completion.text and not completion.tokens else completion.tokens,
            "truncated": completion.truncated,
        }
        for completion in group.completions
    ]
    row = {name: group.row.get(name) for name in columns}
    asked = {"prompt": [_with_pixels(message) for message in group.prompt], "completions": completions, "row": row}
    return {"groups": [asked], "step": group.progress.step, "total_steps": group.progress.total_steps}


def _with_pixels(message: Message) -> Message:
    """A message whose images a server elsewhere can see: paths and references mean something here only."""
    content = message["content"]
    if isinstance(content, str):
        return message
    parts = [image_url(part) if part.get("type") == "image" else part for part in content]
    return {"role": message["role"], "content": parts}


def read_v1(count: int) -> Callable[[object], Scored]:
    """Reads the answer to a request with one group of `count`; raises JudgeFailure where it is none."""

    def read(reply: object) -> Scored:
        group = _checked(_V1Reply.model_validate, reply).groups[0]
        if len(group.completions) != count:
            raise JudgeFailure("empty", f"{len(group.completions)} scores for {count} completions")
        return Scored(tuple(completion.score() for completion in group.completions), metrics=group.metrics)

    return read


def read_openrlhf(reply: object) -> Score:
    """Read the answer to a request with one query.

    Raises:
        JudgeFailure: It is none.
    """
    answer = _checked(_OpenRlhfReply.model_validate, reply)
    values = answer.rewards if isinstance(answer.rewards, list) else [answer.rewards]
    if len(values) != 1:
        raise JudgeFailure("empty", f"{len(values)} rewards for one query")
    logs: dict[str, float] = {}
    for name, given in (answer.extra_logs or {}).items():
        number = given[0] if isinstance(given, list) and len(given) == 1 else given
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            logs[name] = float(number)
    return _of(values[0], logs)


def read_single(reply: object) -> Score:
    """Read the answer to one item: a number, or a mapping with a `score` or a `reward`.

    Raises:
        JudgeFailure: It is neither.
    """
    answer = _checked(_SINGLE_REPLY.validate_python, reply)
    if isinstance(answer, dict):
        named = next((name for name in ("score", "reward") if name in answer), None)
        if named is None:
            raise JudgeFailure("empty", f"is neither a number nor has it a score: {json.dumps(answer)[:120]}")
        answer = _checked(TypeAdapter[Any](_Number | None).validate_python, answer[named])
    return _of(answer, {})


def _of(value: float | None, metrics: Mapping[str, float]) -> Score:
    return Score.unscored("the server gave no reward") if value is None else Score(value, metrics=metrics)


def _checked(validate: Callable[[object], T], reply: object) -> T:
    try:
        return validate(reply)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise JudgeFailure("empty", f"{where or 'body'}: {first['msg']} in {str(reply)[:120]!r}") from error
