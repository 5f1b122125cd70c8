"""A client for many small requests to one server: h11 speaks HTTP/1.1, asyncio's streams carry it.

What general clients do besides costs one to two milliseconds of a core a request, which is more than scoring does; a
few judges answer hundreds a second.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import h11

from rlrules import __version__
from rlrules.judges.base import JudgeFailure

_CHUNK = 2**16
_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
        self._place = urlsplit(self.url)
        self._proxy = _proxy(self._place)
        self._headers = [
            ("host", self._place.netloc),
            ("user-agent", f"rlrules/{__version__}"),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("content-type", "application/json"),
            ("authorization", f"Bearer {api_key}"),
        ]
        forwarded = self._proxy is not None and self._place.scheme == "http"
        self._origin = f"http://{self._place.netloc}" if forwarded else ""
        if self._proxy is not None and forwarded:
            self._headers += _proxy_authorization(self._proxy)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._closed = False

    @property
    def root(self) -> str:
        """The URL without /v1: some routes stand beside it, not below it."""
        return self.url.removesuffix("/v1")

    async def get(self, url: str) -> bytes:
        """The body at `url`, of this server; raises as `post` does."""
        return await self._request("GET", url, b"", {})

    async def post(self, url: str, body: object, headers: Mapping[str, str] | None = None) -> bytes:
        """Post `body` as JSON and return the answer's body.

        Args:
            url: Whole URL, of this server.
            body: What is sent.
            headers: Further ones.

        Raises:
            Unreachable: No connection was made.
            StatusError: The status is not 2xx.
            OSError: The connection was lost.
            h11.RemoteProtocolError: What came is not HTTP.
            ValueError: The body cannot be written as JSON, or as UTF-8.
        """
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return await self._request("POST", url, text.encode(), headers or {})

    async def close(self) -> None:
        """Close all connections, also those in use."""
        self._closed = True
        for connection in (*self._open, *self._idle):
            connection.close()

    async def _request(self, method: str, url: str, content: bytes, headers: Mapping[str, str]) -> bytes:
        if self._closed:
            raise RuntimeError("the client has been closed")
        place = urlsplit(url)
        target = f"{self._origin}{place.path or '/'}" + (f"?{place.query}" if place.query else "")
        sent = [*self._headers, *headers.items(), ("content-length", str(len(content)))]
        request = h11.Request(method=method, target=target, headers=sent)
        connection = await self._connection()
        self._open.add(connection)
        try:
            response, body = await connection.ask(request, content)
        except BaseException:
            connection.close()
            raise
        finally:
            self._open.discard(connection)
        if connection.reusable() and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()
        if not 200 <= response.status_code < 300:
            told = {name.decode(): value.decode("latin-1") for name, value in response.headers}
            raise StatusError(response.status_code, told, body)
        return body

    async def _connection(self) -> "_Connection":
        while self._idle:
            # The last one that was used: others may rest until their server closes them.
            connection = self._idle.pop()
            if connection.alive():
                return connection
            connection.close()
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._connect()
        except (OSError, h11.RemoteProtocolError) as error:
            told = f": {error}" if str(error) else f": no connection within {self._connect_s:g} s"
            raise Unreachable(type(error).__name__ + told) from error

    async def _connect(self) -> "_Connection":
        secure = _trusted() if self._place.scheme == "https" else None
        if self._proxy is None:
            return await _open(self._place, secure)
        connection = await _open(self._proxy, _trusted() if self._proxy.scheme == "https" else None)
        if secure is not None:
            try:
                await connection.tunnel(self._place, _proxy_authorization(self._proxy), secure)
            except BaseException:
                connection.close()
                raise
        return connection


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT)

    async def ask(self, request: h11.Request, content: bytes) -> tuple[h11.Response, bytes]:
        """Send a request and read the whole answer."""
        http = self._http
        sent = [http.send(request), http.send(h11.Data(data=content)), http.send(h11.EndOfMessage())]
        self._writer.write(b"".join(part for part in sent if part))
        with suppress(ConnectionError):  # It may refuse, and close, before it has read all: its answer is still read.
            await self._writer.drain()
        response, parts = await self._response(), []
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            parts.append(bytes(cast(h11.Data, event).data))
        return response, b"".join(parts)

    async def tunnel(self, place: SplitResult, authorization: list[tuple[str, str]], secure: ssl.SSLContext) -> None:
        """Let a proxy connect this to `place`, and speak TLS from there on."""
        address = f"{place.hostname}:{_port(place)}"
        request = h11.Request(method="CONNECT", target=address, headers=[("host", address), *authorization])
        self._writer.write((self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        status = (await self._response()).status_code
        if not 200 <= status < 300:
            raise ConnectionError(f"the proxy answers status {status}")
        await self._writer.start_tls(secure, server_hostname=place.hostname)
        self._http = h11.Connection(h11.CLIENT)

    def alive(self) -> bool:
        """Whether the server has not closed it, as far as is known."""
        return not (self._reader.at_eof() or self._reader.exception() or self._writer.is_closing())

    def reusable(self) -> bool:
        """Whether another request may be sent; called once, after an answer."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        # At once: a TLS goodbye or unsent bytes would be waited for.
        self._writer.transport.abort()

    async def _response(self) -> h11.Response:
        while not isinstance(event := await self._event(), h11.Response):
            pass  # 1xx: the answer is still to come.
        return event

    async def _event(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(_CHUNK)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise ConnectionError("the server disconnected without an answer")
            self._http.receive_data(data)
        return cast(h11.Event, event)


async def _open(place: SplitResult, secure: ssl.SSLContext | None) -> _Connection:
    # A name may stand for an IPv6 address that leads nowhere: the next one is tried beside it.
    opened = asyncio.open_connection(place.hostname, _port(place), ssl=secure, happy_eyeballs_delay=0.25)
    return _Connection(*await opened)


def _port(place: SplitResult) -> int:
    return place.port or _PORTS[place.scheme]


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _proxy(place: SplitResult) -> SplitResult | None:
    named = getproxies()
    told = named.get(place.scheme) or named.get("all")
    if not told or place.hostname in _LOOPBACK or proxy_bypass(place.netloc):
        return None
    proxy = urlsplit(told if "://" in told else f"http://{told}")
    if proxy.scheme not in _PORTS or not proxy.hostname:
        told = f"{place.scheme}_proxy: only http:// and https:// proxies are spoken to, not {proxy.scheme}://"
        raise JudgeFailure("rejected", f"{told}; name another, or put {place.hostname} into no_proxy")
    return proxy


def _proxy_authorization(proxy: SplitResult) -> list[tuple[str, str]]:
    if proxy.username is None:
        return []
    known = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return [("proxy-authorization", f"Basic {base64.b64encode(known.encode()).decode()}")]
