"""Rewards of a server: this project's, OpenRLHF's, or one that takes single items as slime's do.

Requests go through the judges' pool: the least busy endpoint that is up, again on another one where one fails. What
fails for good leaves its completions unscored.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from rlrules.judges.base import Usage
from rlrules.judges.connection import HttpClient
from rlrules.judges.http import ServerFields, Servers, Url
from rlrules.judges.templates import encodable, plain_text
from rlrules.models import resolve_model
from rlrules.rewards.base import Resources, ScorerConfig, unscored
from rlrules.rewards.remote_wire import read_openrlhf, read_single, read_v1, v1_body
from rlrules.types import Group, Message, Score, Scored

T = TypeVar("T")
DEADLINE_HEADER = "x-deadline-s"
# Of the seconds that are waited: the server counts from when a request has come to it.
_TOLD = 0.95


class RemoteConfig(ScorerConfig, ServerFields):
    """The value is the server's reward."""

    type: Literal["remote"] = "remote"
    protocol: Literal["v1", "openrlhf", "single"] = Field(
        "v1", description="Of `rlrules serve`, of OpenRLHF's reward servers, or of servers for one item at a time."
    )
    urls: list[Url] = Field(
        min_length=1, description="v1: where the server is. Otherwise whole addresses, as those trainers take them."
    )
    row: list[str] = Field(
        default_factory=list, description="Columns to send; of protocols with a label one column, which it is."
    )
    tokenizer: str | None = Field(
        None, description="Its chat template makes the text of a prompt; otherwise it is the messages' own text."
    )

    @model_validator(mode="after")
    def _fields_fit(self) -> "RemoteConfig":
        if self.protocol != "v1" and len(self.row) > 1:
            raise ValueError(f"row: protocol {self.protocol} has one label, and {len(self.row)} columns are given")
        if self.protocol == "v1" and self.tokenizer is not None:
            raise ValueError("tokenizer: protocol v1 sends messages, no text; remove it")
        return self

    def columns(self) -> tuple[str, ...]:
        """What is sent along."""
        return tuple(self.row)

    def build(self, resources: Resources) -> "RemoteScorer":
        """Make the scorer.

        Raises:
            JudgeError: `api_key_env` names a variable that is not set.
            ModelError: The tokenizer's name leads nowhere.
        """
        return RemoteScorer(self)


class RemoteScorer:
    """Sends groups, or where the protocol has none their completions one by one, to the servers.

    Args:
        config: Where they are and what they speak.
    """

    def __init__(self, config: RemoteConfig) -> None:
        self._config = config
        self._servers = Servers(config, Usage())
        self._prompts = PromptTexts(config.tokenizer)
        self._headers = {DEADLINE_HEADER: f"{_TOLD * config.timeout_s:.3f}"}

    async def score(self, group: Group) -> Scored:
        """Score a group; on the judges' loop."""
        if self._config.protocol == "v1":
            # Images are encoded on the way.
            body = await asyncio.to_thread(v1_body, group, self._config.row)
            return await self._post(self._address, body, read_v1(len(group.completions)))
        prompt = await asyncio.to_thread(self._prompts.of, group.prompt)
        label = group.row.get(self._config.row[0]) if self._config.row else None
        ask = self._openrlhf if self._config.protocol == "openrlhf" else self._single
        answers = await asyncio.gather(
            *(ask(prompt, encodable(completion.text), label) for completion in group.completions),
            return_exceptions=True,
        )
        return Scored(tuple(unscored(answer) if isinstance(answer, BaseException) else answer for answer in answers))

    async def ping(self) -> None:
        """Ask whether a server is ready; only `v1` has a way to.

        Raises:
            JudgeFailure: None is.
        """
        if self._config.protocol == "v1":
            await self._servers.request(lambda client: client.get(f"{client.root}/ready"))

    async def close(self) -> None:
        """Close all connections."""
        await self._servers.close()

    async def _openrlhf(self, prompt: str, text: str, label: object) -> Score:
        # One sample a request, as OpenRLHF's own client does: what fails takes no other along.
        body = {"query": [prompt + text], "prompts": [prompt], "labels": [label]}
        return await self._post(str, body, read_openrlhf)

    async def _single(self, prompt: str, text: str, label: object) -> Score:
        return await self._post(str, {"prompt": prompt, "response": text, "label": label}, read_single)

    async def _post(self, address: Callable[[str], str], body: Mapping[str, Any], read: Callable[[object], T]) -> T:
        async def send(client: HttpClient) -> T:
            return read(json.loads(await client.post(address(client.url), body, self._headers)))

        return (await self._servers.request(send))[0]

    def _address(self, url: str) -> str:
        return url.removesuffix("/v1") + "/v1/score"


class PromptTexts:
    """Prompts as text.

    Args:
        tokenizer: Hub id or folder; None: the messages' own text.
    """

    def __init__(self, tokenizer: str | None) -> None:
        self._path = resolve_model(tokenizer) if tokenizer is not None else None
        self._lock = threading.Lock()

    def of(self, prompt: Sequence[Message]) -> str:
        """The text of a prompt, up to where the answer begins."""
        if self._path is not None:
            with self._lock:
                templated: str = self._tokenizer.apply_chat_template(
                    list(prompt), tokenize=False, add_generation_prompt=True
                )
            return encodable(templated)
        if len(prompt) == 1:
            return encodable(plain_text(prompt[0]))
        return encodable("\n".join(f"{message['role'].capitalize()}: {plain_text(message)}" for message in prompt))

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._path)
