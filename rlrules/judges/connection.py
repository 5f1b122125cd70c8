"""Many small requests to one server, by aiohttp: the OpenAI client took four times what a whole verdict takes now."""

import asyncio
import json
import ssl
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from rlrules import __version__
from rlrules.judges.base import JudgeFailure

if TYPE_CHECKING:
    import aiohttp

_SCHEMES = ("http", "https")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CLOSE_S = 2.0


class Unreachable(OSError):
    """No connection was made, so that nothing was sent."""


class StatusError(Exception):
    """An answer whose status is not 2xx.

    Args:
        status: The status.
        headers: Names in lower case.
        body: As it came.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status, self.headers, self.body = status, headers, body


class HttpClient:
    """Requests to one server, over connections that are kept; used on one event loop.

    It goes through the proxy that the environment names (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), not to this machine.
    Redirects are not followed. A deadline is the caller's: who gives up closes the connection.

    Args:
        url: Base URL.
        api_key: Sent as the bearer token.
        connect_s: Seconds within which a connection must be made.
    """

    def __init__(self, url: str, api_key: str, connect_s: float) -> None:
        self.url = url.rstrip("/")
        self._connect_s = connect_s
        self._proxy = _proxy(urlsplit(self.url))
        self._headers = {
            "user-agent": f"rlrules/{__version__}",
            "accept": "application/json",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "authorization": f"Bearer {api_key}",
        }
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def root(self) -> str:
        """The URL without /v1: some routes stand beside it, not below it."""
        return self.url.removesuffix("/v1")

    async def get(self, url: str) -> bytes:
        """The body at `url`, of this server; raises as `post` does."""
        return await self._request("GET", url, None, {})

    async def post(self, url: str, body: object, headers: Mapping[str, str] | None = None) -> bytes:
        """Post `body` as JSON and return the answer's body.

        Args:
            url: Whole URL, of this server.
            body: What is sent.
            headers: Further ones.

        Raises:
            Unreachable: No connection was made.
            StatusError: The status is not 2xx.
            ConnectionError: The connection was lost, or what came is not HTTP.
            ValueError: The body cannot be written as JSON, or as UTF-8.
        """
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return await self._request("POST", url, text.encode(), headers or {})

    async def close(self) -> None:
        """Close all connections, also those in use."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _request(self, method: str, url: str, content: bytes | None, headers: Mapping[str, str]) -> bytes:
        # Imported here, so that the core does without it.
        import aiohttp

        if self._closed:
            raise RuntimeError("the client has been closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=_trusted()),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_s),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            weakref.finalize(self, _abandon, self._session, asyncio.get_running_loop())
        try:
            # As the session's own headers they would go to a proxy too, the key among them.
            sent = {**self._headers, **headers}
            async with self._session.request(
                method, url, data=content, headers=sent, proxy=self._proxy, allow_redirects=False
            ) as response:
                body = await response.read()
        except aiohttp.ClientHttpProxyError as error:
            raise Unreachable(f"the proxy answers status {error.status}") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise Unreachable(f"no connection within {self._connect_s:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        if not 200 <= response.status < 300:
            raise StatusError(response.status, {name.lower(): value for name, value in response.headers.items()}, body)
        return body


def _abandon(session: "aiohttp.ClientSession", loop: asyncio.AbstractEventLoop) -> None:
    """Close what its owner has dropped, or has when the process ends: aiohttp would complain of it."""
    if session.closed or not loop.is_running():
        return
    closing = asyncio.run_coroutine_threadsafe(session.close(), loop)
    if asyncio._get_running_loop() is not loop:
        with suppress(TimeoutError):
            closing.result(_CLOSE_S)


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _proxy(place: SplitResult) -> str | None:
    named = getproxies()
    told = named.get(place.scheme) or named.get("all")
    if not told or place.hostname in _LOOPBACK or proxy_bypass(place.netloc):
        return None
    proxy = urlsplit(told if "://" in told else f"http://{told}")
    if proxy.scheme not in _SCHEMES or not proxy.hostname:
        told = f"{place.scheme}_proxy: only http:// and https:// proxies are spoken to, not {proxy.scheme}://"
        raise JudgeFailure("rejected", f"{told}; name another, or put {place.hostname} into no_proxy")
    return proxy.geturl()
