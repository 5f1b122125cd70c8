"""Judges behind an OpenAI-compatible server: vLLM, or any other."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from rlrules.judges.base import Answer, JudgeConfig, JudgeFailure, Question, Usage
from rlrules.judges.connection import HttpClient
from rlrules.judges.http import ServerFields, Servers, Url
from rlrules.types import Message

TOP_LOGPROBS = 20
PROMPT_END_TOKENS = 32


class OpenAIJudgeConfig(JudgeConfig, ServerFields):
    """A judge behind one or more OpenAI-compatible servers that serve the same model."""

    type: Literal["openai"] = "openai"
    urls: list[Url] = Field(min_length=1, description="Base URLs, with /v1; work goes to the least busy one.")
    constrained: bool = Field(
        True, description="The server takes vLLM's `structured_outputs`; false: labels are only parsed."
    )

    def identity(self) -> tuple[str, ...]:
        """The server's model, and whether it is held to the labels."""
        return ("openai", *super().identity(), "constrained" if self.constrained else "free")

    def one_token_labels(self) -> bool:
        """Only where the server is held to the labels: a free answer may need words, or a thought, around its label."""
        return self.constrained


class OpenAIBackend:
    """Sends questions as chat completions.

    Args:
        config: Where and how to ask.
        usage: Where retries are counted.

    Raises:
        JudgeError: `api_key_env` names a variable that is not set.
    """

    def __init__(self, config: OpenAIJudgeConfig, usage: Usage) -> None:
        self._config = config
        self._servers = Servers(config, usage)

    async def complete(self, question: Question) -> Answer:
        """Answer `question`, on another endpoint where one fails.

        Raises:
            JudgeFailure: All attempts failed, or the server refuses the request.
        """
        body = self._body(question)

        async def send(client: HttpClient) -> "_Reply":
            return _read(await client.post(f"{client.url}/chat/completions", body))

        reply, seconds = await self._servers.request(send)
        return reply.answer(seconds)

    async def prompt_end(self, messages: Sequence[Message]) -> str | None:
        """The last tokens of the served template's prompt, by vLLM's /tokenize; None where there is no such route.

        Raises:
            JudgeFailure: The server does not answer.
        """
        asked = {"model": self._config.model, "messages": messages, "add_generation_prompt": True}

        async def send(client: HttpClient) -> str:
            tokens = _Tokens.model_validate_json(await client.post(f"{client.root}/tokenize", asked)).tokens
            body = {"model": self._config.model, "tokens": tokens[-PROMPT_END_TOKENS:]}
            return _Text.model_validate_json(await client.post(f"{client.root}/detokenize", body)).prompt

        try:
            return (await self._servers.request(send))[0]
        except JudgeFailure as failure:
            if failure.kind in ("rejected", "empty"):
                return None
            raise

    async def close(self) -> None:
        """Close all connections."""
        await self._servers.close()

    def _body(self, question: Question) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._config.model,
            "messages": question.messages,
            "max_tokens": question.max_tokens,
            "temperature": question.temperature,
            "seed": question.draw,
        }
        if question.continues:
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        if question.labels:
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
            if self._config.constrained:
                body["structured_outputs"] = {"choice": question.labels}
        if question.schema is not None:
            schema = {"name": "answer", "schema": question.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


class _Likely(BaseModel):
    token: str
    logprob: float | None = None


class _Token(_Likely):
    token: str = ""
    top_logprobs: list[_Likely] | None = None

    def likely(self, further: Sequence[_Likely] = ()) -> dict[str, float]:
        """Log-probabilities by token, the likeliest last, so that it is the one kept where two tokens read the same."""
        return {
            entry.token: min(0.0, entry.logprob)
            for entry in (*further, *reversed(self.top_logprobs or []))
            if entry.logprob is not None and math.isfinite(entry.logprob)
        }


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Message(BaseModel):
    content: str | None = None
    # Servers with a reasoning parser use one name or the other.
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(BaseModel):
    """A chat completion, as far as it is read."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None

    def answer(self, seconds: float) -> Answer:
        choice, usage = self.choices[0], self.usage or _Usage()
        tokens = (choice.logprobs.content if choice.logprobs else None) or []
        return Answer(
            text=choice.message.content or "",
            reasoning=choice.message.reasoning or choice.message.reasoning_content or "",
            finish_reason=choice.finish_reason or "stop",
            logprobs=tokens[0].likely() if tokens else {},
            # With the token that was written, which need not be among the likeliest.
            steps=[(token.token, token.likely((token,))) for token in tokens] if len(tokens) > 1 else [],
            prompt_tokens=usage.prompt_tokens or 0,
            completion_tokens=usage.completion_tokens or 0,
            seconds=seconds,
        )


class _Tokens(BaseModel):
    tokens: list[int]


class _Text(BaseModel):
    prompt: str


def _read(body: bytes) -> _Reply:
    try:
        return _Reply.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        shown = body[:120].decode("utf-8", "replace")
        raise JudgeFailure("empty", f"{where or 'body'}: {first['msg']} in {shown!r}") from error
