"""Requests to servers that serve the same model, with the only layer of retries there is."""

import asyncio
import json
import os
import re
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import tenacity
from pydantic import BaseModel, ConfigDict, Field

from rlrules.errors import JudgeError
from rlrules.judges.base import WANTED, FailureKind, JudgeFailure, Usage
from rlrules.judges.connection import HttpClient, StatusError, Unreachable
from rlrules.judges.pool import Endpoint, EndpointPool

T = TypeVar("T")
Url = Annotated[str, Field(pattern=r"^https?://[^/@\s]+(/\S*)?$")]
"""Without a name and password in it: messages and logs name URLs, and keys have `api_key_env`."""

CONNECT_S = 10.0
LONGEST_WAIT_S = 60.0
_OVERFLOW = re.compile(
    r"context.{0,10}(?:length|size|window)|maximum model length|max_model_len|too (?:long|many tokens)", re.IGNORECASE
)
_TRANSIENT_STATUS = {408, 409, 429}
_BACKOFF = tenacity.wait_exponential_jitter(multiplier=0.1, max=10.0, jitter=0.2)


class ServerFields(BaseModel):
    """How servers are reached: a part of the sections that name any."""

    model_config = ConfigDict(extra="forbid")

    urls: list[Url] = Field(default_factory=list, description="Base URLs, with /v1; work goes to the least busy one.")
    api_key_env: str | None = Field(None, description="Environment variable that holds the key.")
    max_in_flight: int = Field(64, ge=1, le=1000, description="Requests on their way to one endpoint at a time.")
    timeout_s: float = Field(
        120.0, gt=0, description="Deadline of one attempt, from sending; also how long an outage is waited out."
    )
    retries: int = Field(
        3,
        ge=0,
        description="Further attempts after 408, 409, 429, 5xx, a lost connection, a deadline or a garbled answer.",
    )


class _Transient(Exception):
    """An attempt that failed in a way that another attempt may mend, not before `wait_s` seconds have passed."""

    def __init__(self, failure: JudgeFailure, endpoint: Endpoint, wait_s: float = 0.0) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.endpoint = endpoint
        self.wait_s = wait_s


class _Refused(Exception):
    """No connection was made: nothing was sent, so that it is no attempt yet."""


class Servers:
    """A pool of endpoints; used on one event loop.

    Args:
        fields: Where they are and how to ask.
        usage: Where retries are counted.

    Raises:
        JudgeError: `api_key_env` names a variable that is not set.
    """

    def __init__(self, fields: ServerFields, usage: Usage) -> None:
        if fields.api_key_env and not os.environ.get(fields.api_key_env):
            raise JudgeError(f"api_key_env: the environment variable {fields.api_key_env} is not set; export it")
        self._api_key = os.environ[fields.api_key_env] if fields.api_key_env else "none"
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise JudgeError(f"api_key_env: {fields.api_key_env} holds a line break, or another character no key has")
        self._fields = fields
        self._usage = usage
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool = EndpointPool([], 0, 0.0)
        self._clients: dict[str, HttpClient] = {}
        self._left: list[dict[str, HttpClient]] = []

    async def request(self, send: Callable[[HttpClient], Awaitable[T]]) -> tuple[T, float]:
        """Send one request, again on another endpoint where one fails.

        Args:
            send: Sends it with the client of the endpoint that was chosen, and may raise `JudgeFailure` where the
                answer is not what it must be.

        Returns:
            What `send` returned, and the seconds that the last attempt took, waiting for a slot not counted.

        Raises:
            JudgeFailure: All attempts failed, or the server refuses the request.
        """
        self._open()
        failed: Endpoint | None = None
        attempts = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._fields.retries + 1),
            wait=_pause,
            retry=tenacity.retry_if_exception_type(_Transient),
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    self._usage.retried += attempt.retry_state.attempt_number > 1
                    try:
                        return await self._attempt(send, failed)
                    except _Transient as transient:
                        failed = transient.endpoint
                        raise
        except _Transient as last:
            raise last.failure from last
        raise AssertionError("tenacity ends with a result or an exception")

    async def close(self) -> None:
        """Close all connections."""
        clients, self._clients, self._loop = self._clients, {}, None
        for client in clients.values():
            await client.close()

    def _open(self) -> None:
        # Made on first use, because both belong to the event loop that uses them: a forked process has another one.
        if self._loop is asyncio.get_running_loop():
            return
        fields = self._fields
        # Dropped, they would close connections of a loop, or of the parent process, that may still use them.
        self._left.append(self._clients)
        # A server that takes connections may be slow; one that does not is down, and waiting longer tells no more.
        connect_s = min(CONNECT_S, fields.timeout_s / 2)
        self._pool = EndpointPool(fields.urls, fields.max_in_flight, fields.timeout_s)
        self._clients = {
            endpoint.url: HttpClient(endpoint.url, self._api_key, connect_s) for endpoint in self._pool.endpoints
        }
        self._loop = asyncio.get_running_loop()

    async def _attempt(self, send: Callable[[HttpClient], Awaitable[T]], avoid: Endpoint | None) -> tuple[T, float]:
        """Send to the first endpoint that lets itself be connected to.

        The pool ends this once all have been down for too long; the clock here, where one is up only for others.
        """
        pool, clients = self._pool, self._clients
        until = float("inf")
        while True:
            async with pool.endpoint(avoid) as endpoint:
                # Nothing was sent yet. Where a judge is slower than those who ask it, the questions of those who have
                # given up would keep it from the others', ever more of them.
                if not WANTED.get()():
                    raise JudgeFailure("timeout", "nobody waits for the answer any more, and it was not asked")
                try:
                    return await self._send(pool, endpoint, clients, send)
                except _Refused as refused:
                    avoid = endpoint
                    if time.monotonic() >= until:
                        failure = JudgeFailure("connection", f"{endpoint.url}: {refused}")
                        raise _Transient(failure, endpoint) from refused
                    until = min(until, time.monotonic() + self._fields.timeout_s)

    async def _send(
        self,
        pool: EndpointPool,
        endpoint: Endpoint,
        clients: dict[str, HttpClient],
        send: Callable[[HttpClient], Awaitable[T]],
    ) -> tuple[T, float]:
        def failure(kind: FailureKind, told: str) -> JudgeFailure:
            return JudgeFailure(kind, f"{endpoint.url}: {_line(told)}")

        started = time.monotonic()
        try:
            # Of the whole attempt: an answer that trickles in would never meet a bound on each read.
            async with asyncio.timeout(self._fields.timeout_s):
                reply = await send(clients[endpoint.url])
        except StatusError as error:
            pool.reached(endpoint)
            raise _status_failure(endpoint, error) from error
        except Unreachable as error:
            pool.unreachable(endpoint, str(error))
            raise _Refused(str(error)) from error
        except TimeoutError as error:
            late = failure("timeout", f"no answer within {self._fields.timeout_s:g} s")
            raise _Transient(late, endpoint) from error
        except OSError as error:
            told = f"{type(error).__name__}: {error}"
            pool.unreachable(endpoint, told)
            raise _Transient(failure("connection", told), endpoint) from error
        except UnicodeEncodeError as error:
            raise failure("rejected", f"the question cannot be sent as UTF-8: {error}") from error
        except (JudgeFailure, ValueError, RecursionError) as error:
            pool.reached(endpoint)
            garbled = failure("empty", f"not an answer that was asked for: {error}")
            raise _Transient(garbled, endpoint) from error
        except Exception as error:
            raise failure("rejected", f"{type(error).__name__}: {error}") from error
        pool.reached(endpoint)
        return reply, time.monotonic() - started


def _pause(state: tenacity.RetryCallState) -> float:
    failed = state.outcome.exception() if state.outcome else None
    return max(_BACKOFF(state), failed.wait_s if isinstance(failed, _Transient) else 0.0)


def _status_failure(endpoint: Endpoint, error: StatusError) -> Exception:
    status, message = error.status, _line(_told(error))
    if status in _TRANSIENT_STATUS or status >= 500:
        asked = error.headers.get("retry-after", "")
        wait_s = min(LONGEST_WAIT_S, float(asked)) if asked.isdecimal() else 0.0
        return _Transient(JudgeFailure("connection", f"{endpoint.url}: status {status}: {message}"), endpoint, wait_s)
    if status in (400, 413, 422) and _OVERFLOW.search(message):
        return JudgeFailure("overflow", f"{endpoint.url}: {message}", *_limit_and_size(message))
    return JudgeFailure("rejected", f"{endpoint.url}: status {status}: {message}")


def _told(error: StatusError) -> str:
    """What a refusal says: OpenAI's `error.message`, FastAPI's `detail`, or the body as it is."""
    if 300 <= error.status < 400:
        return f"the server has moved to {error.headers.get('location', 'nowhere')}; give that address"
    text = error.body.decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(found, dict):
        found = found.get("error", found)
    if isinstance(found, dict):
        found = found.get("message", found.get("detail"))
    return found if isinstance(found, str) and found else text


def _limit_and_size(message: str) -> tuple[int, int]:
    """What fits and what came, in one unit: a server that does not even tokenise a long text counts characters."""
    if characters := re.search(r"contains (\d+) characters \(more than (\d+)", message):
        return int(characters[2]), int(characters[1])
    numbers = sorted({int(number) for number in re.findall(r"\d+", message) if int(number) > 64})
    return (numbers[0], numbers[-1]) if len(numbers) > 1 else (0, 0)


def _line(message: str) -> str:
    text = " ".join(message.split())
    return text if len(text) <= 300 else f"{text[:300]}…"
