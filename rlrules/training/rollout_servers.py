"""Completions from vLLM servers, none of them from other weights than the policy's current ones.

A server is not asked to be told apart from its successor: it may be killed and started again at any moment, and then
answers as the base model. An adapter has a name of its own for each version, which a server that does not hold it
refuses. All weights have none in a request, so that the workers are asked what they hold before a completion is begun
and after it has come: processes and version must be the same.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from rlrules.engines.policy import Held, call_workers, load_adapter, models, post, unload_adapters
from rlrules.errors import RlrulesError
from rlrules.judges.base import JudgeFailure, Usage
from rlrules.judges.connection import HttpClient, StatusError
from rlrules.judges.http import Servers
from rlrules.recipe.rollouts import RolloutsSection

Finished = Callable[[int, list[int]], object]
"""Told of each completion as soon as it is there, on the event loop: its request's number, and its tokens."""

Stamp = list[tuple[str, str]]
"""Process and version of each worker of a server."""

COMPLETIONS = "/v1/completions"
LEAVE_S = 60.0
"""Seconds that a server is given, at the end of a run, to go back to what it was."""


@dataclass(frozen=True, slots=True)
class Version:
    """The policy as it was at one moment.

    Attributes:
        name: No other version of any run has it.
        folder: Where its weights lie, as the servers see it.
    """

    name: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Sampled:
    """One completion.

    Attributes:
        ids: Its T tokens, the one that ended it included.
        logprobs: Their log-probabilities, of shape (T,), under the distribution that they were drawn from.
    """

    ids: list[int]
    logprobs: list[float]


class RolloutServers:
    """The servers of a recipe's `rollouts`; used on one event loop.

    Args:
        section: Where they are.
        run: What the names of all versions of this run begin with.

    Attributes:
        run: As given.
        usage: Counts requests that were sent again.
        loads: Versions put on servers by this process.

    Raises:
        JudgeError: `api_key_env` names a variable that is not set.
    """

    def __init__(self, section: RolloutsSection, run: str) -> None:
        self.usage = Usage()
        self.loads = 0
        self.run = run
        self._section = section
        self._servers = Servers(section, self.usage)
        self._links: dict[str, _Adapters | _Weights] = {}

    async def complete(self, version: Version, body: Mapping[str, Any]) -> Sampled:
        """One completion by `version`.

        Args:
            version: The current one.
            body: The request, without the model's name.

        Raises:
            JudgeFailure: No server gave one within the deadline and the retries.
        """

        async def send(client: HttpClient) -> Sampled:
            # Versions share prompts, but not what was computed of them.
            return _read(await self._link(client).complete(client, version, {**body, "cache_salt": version.name}))

        return (await self._servers.request(send))[0]

    async def complete_all(
        self, version: Version, bodies: Sequence[Mapping[str, Any]], finished: Finished | None = None
    ) -> list[Sampled]:
        """One completion for each request, in their order; the first failure ends the others.

        Args:
            version: The current one.
            bodies: The requests.
            finished: Called as soon as a completion is there.

        Raises:
            JudgeFailure: As `complete`.
        """

        async def one(number: int, body: Mapping[str, Any]) -> Sampled:
            sampled = await self.complete(version, body)
            if finished is not None:
                finished(number, sampled.ids)
            return sampled

        tasks = [asyncio.ensure_future(one(number, body)) for number, body in enumerate(bodies)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def leave(self) -> list[str]:
        """Bring all servers back to what they were before the run; a line for each that did not heed."""
        return [line for line in await asyncio.gather(*map(self._left, self._section.urls)) if line]

    async def close(self) -> None:
        """Close all connections."""
        await self._servers.close()

    async def _left(self, url: str) -> str:
        servers = Servers(self._section.model_copy(update={"urls": [url], "retries": 0}), Usage())
        try:
            async with asyncio.timeout(LEAVE_S):
                await servers.request(lambda client: self._link(client).leave(client))
        except (RlrulesError, TimeoutError) as error:
            told = str(error) or f"no answer within {LEAVE_S:g} s"
            return f"{url} may still hold weights of this run, start it again before others ask it: {told}"
        finally:
            await servers.close()
        return ""

    def _link(self, client: HttpClient) -> "_Adapters | _Weights":
        url = client.url
        if url not in self._links:
            self._links[url] = _Adapters(self) if self._section.sync == "lora" else _Weights(self)
        return self._links[url]


class _Adapters:
    """One server that takes adapters."""

    def __init__(self, servers: RolloutServers) -> None:
        self._servers = servers
        self._lock = asyncio.Lock()
        self._held = ""

    async def complete(self, client: HttpClient, version: Version, body: dict[str, Any]) -> object:
        await self._hold(client, version)
        body["model"] = version.name
        try:
            return await post(client, COMPLETIONS, body)
        except StatusError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
        # It was started again since.
        async with self._lock:
            self._held = ""
        await self._hold(client, version)
        return await post(client, COMPLETIONS, body)

    async def _hold(self, client: HttpClient, version: Version) -> None:
        async with self._lock:
            if self._held != version.name:
                self._servers.loads += await load_adapter(client, version.name, version.folder)
                await unload_adapters(client, self._servers.run, keep=version.name)
                self._held = version.name

    async def leave(self, client: HttpClient) -> None:
        await unload_adapters(client, self._servers.run)


class _Weights:
    """One server whose weights are replaced."""

    def __init__(self, servers: RolloutServers) -> None:
        self._servers = servers
        self._lock = asyncio.Lock()
        self._version = ""
        self._held: Stamp = []
        self._model = ""
        self._asking: asyncio.Task[Stamp] | None = None
        self._next: asyncio.Task[Stamp] | None = None

    async def complete(self, client: HttpClient, version: Version, body: dict[str, Any]) -> object:
        before = await self._hold(client, version)
        body["model"] = self._model
        reply = await post(client, COMPLETIONS, body)
        if await self._holds_now(client) != before:
            async with self._lock:
                if self._held == before:
                    self._version = ""
            raise JudgeFailure("empty", "the server was started again meanwhile; who answered is not known")
        return reply

    async def _hold(self, client: HttpClient, version: Version) -> Stamp:
        async with self._lock:
            if self._version != version.name:
                held = await call_workers(client, "load_policy", folder=str(version.folder), version=version.name)
                if problems := [worker.problem for worker in held if worker.problem]:
                    raise JudgeFailure("rejected", problems[0])
                if any(worker.version != version.name for worker in held):
                    raise JudgeFailure("rejected", f"not all of its workers hold {version.name}")
                self._servers.loads += any(worker.loaded for worker in held)
                self._model = (await models(client)).base.id
                self._version, self._held = version.name, _stamp(held)
            return self._held

    async def _holds_now(self, client: HttpClient) -> Stamp:
        """What the workers hold, asked after this call was made; calls that wait share one question."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._ask(client, self._asking))
            # Whoever waited may have been cancelled: then nobody looks at what went wrong.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next)

    async def _ask(self, client: HttpClient, earlier: "asyncio.Task[Stamp] | None") -> Stamp:
        if earlier is not None:
            await asyncio.wait([earlier])
        # Whoever comes from here on needs a question of its own.
        self._asking, self._next = self._next, None
        return _stamp(await call_workers(client, "policy_weights"))

    async def leave(self, client: HttpClient) -> None:
        held = await call_workers(client, "policy_weights")
        # Another run may have put its own in.
        if any(worker.version.startswith(self._servers.run) for worker in held):
            await call_workers(client, "restore_policy")


def _stamp(held: Sequence[Held]) -> Stamp:
    return [(worker.process, worker.version) for worker in held]


class _Logprobs(BaseModel):
    token_logprobs: list[float]


class _Choice(BaseModel):
    token_ids: list[int] = Field(min_length=1)
    logprobs: _Logprobs
    finish_reason: str


class _Reply(BaseModel):
    """A completion, as far as it is read."""

    choices: list[_Choice] = Field(min_length=1, max_length=1)


def _read(reply: object) -> Sampled:
    try:
        choice = _Reply.model_validate(reply).choices[0]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise JudgeFailure("empty", f"{where or 'body'}: {first['msg']}") from error
    ids, logprobs = choice.token_ids, choice.logprobs.token_logprobs
    if choice.finish_reason not in ("stop", "length"):
        raise JudgeFailure("empty", f"the completion ended by {choice.finish_reason!r}")
    if len(ids) != len(logprobs) or not all(map(math.isfinite, logprobs)):
        raise JudgeFailure("empty", f"{len(ids)} tokens with {len(logprobs)} log-probabilities, all to be finite")
    return Sampled(ids, logprobs)
