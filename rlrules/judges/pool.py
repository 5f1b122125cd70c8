"""Which endpoint the next request goes to: the least busy one that is up, under one bound per endpoint."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rlrules.judges.base import JudgeFailure

FIRST_REST_S, LONGEST_REST_S = 0.25, 15.0


@dataclass(slots=True, eq=False)
class Endpoint:
    """One server, and what is known of its health.

    Attributes:
        url: Base URL, with /v1.
        in_flight: Requests on their way to it.
        failures: Rests it was given since it last answered; 0: it is up.
        rests_until: Monotonic time before which a failing endpoint is left alone.
        down_since: Monotonic time of the first of these failures.
        last_error: What the last one said.
        probe: The grant of the one request that tries it while it is failing.
    """

    url: str
    in_flight: int = 0
    failures: int = 0
    rests_until: float = 0.0
    down_since: float = 0.0
    last_error: str = ""
    probe: "asyncio.Future[Endpoint] | None" = None


@dataclass(slots=True, eq=False)
class _Waiter:
    avoid: Endpoint | None
    granted: asyncio.Future[Endpoint]


class EndpointPool:
    """Hands out endpoints, first come, first served; all methods run on one event loop.

    An endpoint that cannot be reached rests, longer each time, and then gets one request as a probe. While others
    are up the work goes to them; when all are down, requests wait for a probe to succeed, but no longer than
    `patience_s` after the last endpoint went down, and then fail at once.

    Args:
        urls: Base URLs.
        max_in_flight: Bound on requests to one endpoint at a time.
        patience_s: How long, in seconds, an outage of all endpoints is waited out.
    """

    def __init__(self, urls: Sequence[str], max_in_flight: int, patience_s: float) -> None:
        self.endpoints = [Endpoint(url.rstrip("/")) for url in urls]
        self._max_in_flight = max_in_flight
        self._patience_s = patience_s
        self._waiting: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def endpoint(self, avoid: Endpoint | None = None) -> AsyncIterator[Endpoint]:
        """Wait for a free slot and hold it; `avoid` (where the last try failed) is taken only if no other is up.

        Raises:
            JudgeFailure: All endpoints have been down for longer than the patience.
        """
        waiter = _Waiter(avoid, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._serve()
        try:
            chosen = await waiter.granted
        except asyncio.CancelledError:
            # The slot may have been granted in the very moment in which the wait was given up.
            if waiter.granted.done() and not waiter.granted.cancelled() and not waiter.granted.exception():
                self._release(waiter.granted)
            raise
        try:
            yield chosen
        finally:
            self._release(waiter.granted)

    def reached(self, endpoint: Endpoint) -> None:
        """Note that `endpoint` answered, whatever it said."""
        if endpoint.failures:
            endpoint.failures = 0
            self._serve()

    def unreachable(self, endpoint: Endpoint, error: str) -> None:
        """Note that no connection to `endpoint` could be had or kept."""
        now = time.monotonic()
        endpoint.last_error = error
        if not endpoint.failures:
            endpoint.down_since = now
        elif now < endpoint.rests_until:
            return  # One of those on their way when it went down: the same outage, no reason to rest longer.
        endpoint.failures += 1
        endpoint.rests_until = now + min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(endpoint.failures - 1, 16))
        self._serve()

    def _release(self, granted: asyncio.Future[Endpoint]) -> None:
        endpoint = granted.result()
        endpoint.in_flight -= 1
        if endpoint.probe is granted:
            endpoint.probe = None
        self._serve()

    def _serve(self) -> None:
        """Grant what can be granted. Called whenever that may have changed, so no waiter has to look for itself."""
        passed: list[_Waiter] = []
        while self._waiting and self._choose(None) is not None:
            waiter = self._waiting.popleft()
            if waiter.granted.done():
                continue
            chosen = self._choose(waiter.avoid)
            if chosen is None:
                passed.append(waiter)  # It waits for another endpoint; those behind it need not.
                continue
            chosen.in_flight += 1
            if chosen.failures:
                chosen.probe = waiter.granted
            waiter.granted.set_result(chosen)
        self._waiting.extendleft(reversed(passed))
        self._give_up_or_wait()

    def _choose(self, avoid: Endpoint | None) -> Endpoint | None:
        now = time.monotonic()
        up = [endpoint for endpoint in self.endpoints if not endpoint.failures]
        free = [endpoint for endpoint in up if endpoint.in_flight < self._max_in_flight]
        probes = [e for e in self.endpoints if e.failures and e.probe is None and e.rests_until <= now]
        others = [endpoint for endpoint in free if endpoint is not avoid]
        for probe in probes:
            if probe is not avoid or not up:
                return probe
        # Where the request failed before, it goes again only when nothing else is up.
        if others or (free and len(up) == 1):
            return min(others or free, key=lambda endpoint: endpoint.in_flight)
        return None

    def _give_up_or_wait(self) -> None:
        """When all are down: fail those who wait, or look again when the next rest or the patience ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        now = time.monotonic()
        times = [endpoint.rests_until for endpoint in self.endpoints if endpoint.failures]
        if len(times) == len(self.endpoints) and not any(endpoint.probe for endpoint in self.endpoints):
            end = max(endpoint.down_since for endpoint in self.endpoints) + self._patience_s
            if now >= end:
                told = "; ".join(f"{endpoint.url}: {endpoint.last_error}" for endpoint in self.endpoints)
                while self._waiting:
                    waiter = self._waiting.popleft()
                    if not waiter.granted.done():
                        waiter.granted.set_exception(JudgeFailure("connection", f"no endpoint answers ({told})"))
                return
            times.append(end)
        if later := [moment for moment in times if moment > now]:
            # A timer may fire a tick early, and what it is for would then be missed.
            self._timer = asyncio.get_running_loop().call_later(min(later) - now + 0.001, self._serve)
