"""Who is let in: the token, the body's size, a bounded queue, deadlines.

All of it stands before the routes and before a body is read, so that what is refused costs next to nothing.
"""

import asyncio
import hashlib
import hmac
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEADLINE_HEADER = "x-deadline-s"
OPEN_ROUTES = ("/health", "/ready")
"""Asked by probes, which have no token; they tell nothing but whether all is well."""
LONGEST_RETRY_S = 60
_WEIGHT = 0.1


class Full(Exception):
    """Nobody else may wait; `retry_after_s` says when it may be worth another try."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class Admission:
    """A bounded number of requests at work and a bounded number that waits, first come, first served.

    Args:
        max_in_flight: At work at a time.
        max_queue: Waiting; the next one is refused.

    Attributes:
        in_flight: At work now.
        queued: Waiting now.
        closed: Why nobody is let in at all; empty where that is not so.
    """

    def __init__(self, max_in_flight: int, max_queue: int) -> None:
        self.in_flight = 0
        self.queued = 0
        self.closed = ""
        self._max_in_flight, self._max_queue = max_in_flight, max_queue
        self._free = asyncio.Semaphore(max_in_flight)
        self._usual_s = 1.0

    @asynccontextmanager
    async def slot(self, until: float) -> AsyncIterator[None]:
        """Wait for a turn, and hold it.

        Args:
            until: Time of the event loop's clock up to which it is waited.

        Raises:
            Full: Too many wait already.
            TimeoutError: No turn came in time.
        """
        if self._free.locked() and self.queued >= self._max_queue:
            raise Full(self.retry_after_s())
        self.queued += 1
        try:
            async with asyncio.timeout_at(until):
                await self._free.acquire()
        finally:
            self.queued -= 1
        clock = asyncio.get_running_loop().time
        started, self.in_flight = clock(), self.in_flight + 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._usual_s += _WEIGHT * (clock() - started - self._usual_s)
            self._free.release()

    def retry_after_s(self) -> int:
        """Seconds until those who wait now will probably have had their turn; whole, as the header has it."""
        return min(LONGEST_RETRY_S, max(1, math.ceil(self.queued * self._usual_s / self._max_in_flight)))


class Count(Protocol):
    """Told of every request: its route, the status of its answer, the seconds it took."""

    def __call__(self, route: str, status: int, seconds: float) -> None:
        """Count it."""
        ...


class Gate:
    """Stands before the application.

    Args:
        app: What is behind it.
        admission: Turns.
        token: What requests must carry; None lets all in.
        max_body_bytes: Of a request.
        deadline_s: Longest time from arrival to answer; the header asks for less.
        scoring: Routes that need a turn.
        others: Routes that do not; every other path is counted as one.
        count: Told of every request.
    """

    def __init__(
        self,
        app: ASGIApp,
        admission: Admission,
        token: str | None,
        max_body_bytes: int,
        deadline_s: float,
        scoring: frozenset[str],
        others: frozenset[str],
        count: Count,
    ) -> None:
        self._app = app
        self._admission = admission
        # As hashes: comparing those takes the same time whatever was sent, its length included.
        self._token = None if token is None else _digest(f"Bearer {token}")
        self._max_body_bytes = max_body_bytes
        self._deadline_s = deadline_s
        self._scoring, self._known = scoring, scoring | others
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clock = asyncio.get_running_loop().time
        arrived, status = clock(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            status = status or message.get("status", 0)
            await send(message)

        try:
            await self._answer(scope, receive, noted, arrived, lambda: status > 0)
        finally:
            route = scope["path"] if scope["path"] in self._known else "other"
            self._count(route, status, clock() - arrived)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, arrived: float, begun: Callable[[], bool]
    ) -> None:
        path, headers = scope["path"], Headers(scope=scope)
        if self._token is not None and path not in OPEN_ROUTES:
            sent = headers.get("authorization", "")
            if not hmac.compare_digest(_digest(sent), self._token):
                told = "this server asks for a bearer token"
                await _refuse(401, told, {"www-authenticate": "Bearer"})(scope, receive, send)
                return
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            await _refuse(413, self._too_large(), {"connection": "close"})(scope, receive, send)
            return
        receive = self._bounded(receive)
        if path not in self._scoring or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        until = arrived + _asked_for(headers.get(DEADLINE_HEADER), self._deadline_s)
        scope.setdefault("state", {})["until"] = until
        refusal = await self._in_turn(scope, receive, send, until, begun)
        if refusal is not None:
            await refusal(scope, receive, send)

    async def _in_turn(
        self, scope: Scope, receive: Receive, send: Send, until: float, begun: Callable[[], bool]
    ) -> JSONResponse | None:
        """Hand the request on when its turn comes; or what is to be said in place of that."""
        admission = self._admission
        if admission.closed:
            return _refuse(503, admission.closed, {"retry-after": "5"})
        try:
            async with admission.slot(until), asyncio.timeout_at(until):
                await self._app(scope, receive, send)
        except Full as full:
            return _refuse(429, "too many requests wait already", {"retry-after": str(full.retry_after_s)})
        except TimeoutError:
            if begun():
                raise  # Half an answer is none: the connection is closed.
            return _refuse(504, "out of time: the deadline passed before there was an answer")
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """`receive`, for bodies whose size is not told beforehand."""
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body_bytes:
                raise HTTPException(413, self._too_large(), {"connection": "close"})
            return message

        return bounded

    def _too_large(self) -> str:
        return f"the body is larger than {self._max_body_bytes} bytes; send fewer groups at a time"


def _asked_for(header: str | None, most: float) -> float:
    """Seconds that a request has; the routes refuse a header that is no such number."""
    try:
        seconds = float(header) if header else most
    except ValueError:
        return most
    return min(most, seconds) if seconds > 0 else most


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _refuse(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
