"""The HTTP client, byte for byte: what is sent, and what is made of whatever comes back."""

import asyncio
import base64
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rlrules.errors import JudgeError
from rlrules.judges import JudgeFailure, connection
from rlrules.judges.connection import HttpClient, StatusError, Unreachable
from tests.fakes.raw_server import RawServer
from tests.judges.asking import backend, ready

pytestmark = pytest.mark.anyio
Say = Callable[[bytes], bytes]
YES = b'{"choices": [{"message": {"content": "Yes"}}]}'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def sized(body: bytes, status: bytes = b"200 OK", further: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (status, further, len(body), body)


class Server(RawServer):
    """Says `say(body)` to each request, and counts connections; where that ends in b"!", it hangs up after it."""

    def __init__(self, say: Say) -> None:
        self.connections = 0
        self.heads: list[bytes] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            while head := await head_of(reader):
                self.heads.append(head)
                said = say(await body_of(reader, head))
                writer.write(said.removesuffix(b"!"))
                await writer.drain()
                if said.endswith(b"!"):
                    return

        super().__init__(handler)


async def head_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def body_of(reader: asyncio.StreamReader, head: bytes) -> bytes:
    size = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return await reader.readexactly(size[0] if size else 0)


def client(url: str) -> HttpClient:
    return HttpClient(url, "key", 2.0)


async def post(url: str, body: object = None) -> bytes:
    asking = client(url)
    try:
        return await asking.post(f"{asking.url}/x?a=1", body)
    finally:
        await asking.close()


async def test_what_is_sent_on_one_connection_that_is_kept() -> None:
    server = Server(lambda body: sized(body))
    async with server as url:
        asking = client(url)
        sent = [await asking.post(f"{asking.url}/x?a=1", {"n": number, "t": "é"}, {"x-y": "z"}) for number in range(5)]
        assert await asking.get(f"{asking.root}/ready") == b""
        await asking.close()
    assert sent[3] == '{"n":3,"t":"é"}'.encode() and server.connections == 1
    lines = server.heads[0].lower().decode().split("\r\n")
    assert lines[0] == "post /v1/x?a=1 http/1.1" and f"host: {urlsplit(url).netloc}" in lines
    assert {"authorization: bearer key", "content-type: application/json", "x-y: z", "content-length: 16"} <= set(lines)
    assert server.heads[5].startswith(b"GET /ready HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("said", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n3\r\n   \r\n0\r\n\r\n", 1),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"{}   "), 1),
        (sized(b"{}   ", further=b"connection: close\r\n"), 2),
        (b"HTTP/1.0 200 OK\r\n\r\n{}   !", 2),
    ],
    ids=["chunked", "1xx before it", "connection: close", "until the end"],
)
async def test_every_framing_of_a_body(said: bytes, connections: int) -> None:
    server = Server(lambda _: said)
    async with server as url:
        asking = client(url)
        assert [await asking.post(asking.url, None) for _ in range(2)] == [b"{}   "] * 2
        await asking.close()
    assert server.connections == connections


async def test_a_connection_that_its_server_closed_meanwhile_is_not_used_again() -> None:
    server = Server(lambda body: sized(body) + b"!")
    async with server as url:
        asking = client(url)
        for number in range(3):
            assert await asking.post(asking.url, number) == str(number).encode()
            await asyncio.sleep(0.05)
        await asking.close()
    assert server.connections == 3


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"!", "Server disconnected"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}!", "payload is not completed"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n!", "Bad status line"),
    ],
)
async def test_what_is_cut_off_or_no_http_is_a_lost_connection(said: bytes, told: str) -> None:
    async with Server(lambda _: said) as url:
        asked, usage = backend(url, retries=1)
        with pytest.raises(JudgeFailure) as caught:
            await asked.complete(ready("?"))
        await asked.close()
    assert caught.value.kind == "connection" and told in str(caught.value) and usage.retried == 1


async def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one() -> None:
    late = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await head_of(reader):
            body = await body_of(reader, head)
            if body == b'"slow"':
                await late.wait()
            writer.write(sized(body))

    async with RawServer(handler) as url:
        asking = client(url)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asking.post(asking.url, "slow"), 0.1)
        late.set()
        assert await asking.post(asking.url, "quick") == b'"quick"'
        await asking.close()


async def test_a_refusal_before_the_question_was_read_is_heard() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(sized(b"too much", b"413 Content Too Large", b"retry-after: 7\r\n"))
        await writer.drain()
        await reader.read(100)

    async with RawServer(handler) as url:
        with pytest.raises(StatusError) as caught:
            await post(url, "x" * 200_000)
    assert (caught.value.status, caught.value.headers["retry-after"], caught.value.body) == (413, "7", b"too much")


async def test_a_server_that_has_moved_says_where_to() -> None:
    said = sized(b"", b"308 Permanent Redirect", b"location: https://other/v1\r\n")
    async with Server(lambda _: said) as url:
        asked, _ = backend(url)
        with pytest.raises(JudgeFailure, match="status 308: the server has moved to https://other/v1; give that"):
            await asked.complete(ready("?"))
        await asked.close()


async def test_a_refusal_in_each_servers_words() -> None:
    for body, told in (
        (b'{"error": {"message": "no such model"}}', "status 404: no such model"),
        (b'{"detail": "Not Found"}', "status 404: Not Found"),
        (b"<html>nothing here</html>", "status 404: <html>nothing here</html>"),
    ):
        async with Server(lambda _, body=body: sized(body, b"404 Not Found")) as url:  # type: ignore[misc]
            asked, _ = backend(url)
            with pytest.raises(JudgeFailure) as caught:
                await asked.complete(ready("?"))
            await asked.close()
        assert str(caught.value).endswith(told)


def test_a_key_that_no_header_can_carry_is_refused_unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret\n")
    with pytest.raises(JudgeError, match="JUDGE_KEY holds a line break") as caught:
        backend("http://x/v1", api_key_env="JUDGE_KEY")
    assert "secret" not in str(caught.value)


async def test_a_proxy_is_asked_for_other_machines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, direct = Server(lambda body: sized(b"proxied")), Server(lambda body: sized(b"direct"))
    async with proxy as by, direct as url:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{urlsplit(by).netloc}")
        assert await post("http://judge.invalid:81/v1") == b"proxied"
        assert await post(url) == b"direct"
        monkeypatch.setenv("no_proxy", "judge.invalid")
        with pytest.raises(Unreachable):
            await post("http://judge.invalid:81/v1")
    head = proxy.heads[0].decode()
    assert head.startswith("POST http://judge.invalid:81/v1/x?a=1 HTTP/1.1\r\n")
    assert "host: judge.invalid:81\r\n" in head.lower()
    assert base64.b64encode(b"me:p@ss").decode() in head and len(proxy.heads) == 1


async def test_a_proxy_that_is_not_http_is_a_typed_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    asked, _ = backend("http://judge.invalid/v1")
    with pytest.raises(JudgeFailure, match=r"http_proxy: only http://.* put judge\.invalid into no_proxy"):
        await asked.complete(ready("?"))


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """What serves the name `localhost` by a certificate that this process trusts."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,DNS:judge.invalid"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    connection._trusted.cache_clear()
    yield serving
    connection._trusted.cache_clear()


async def tls_server(context: ssl.SSLContext) -> tuple[asyncio.Server, int]:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await head_of(reader):
            await body_of(reader, head)
            writer.write(sized(YES))

    server = await asyncio.start_server(handler, "localhost", 0, ssl=context)
    return server, int(server.sockets[0].getsockname()[1])


async def test_tls_and_a_certificate_of_another_name(trusted: ssl.SSLContext) -> None:
    server, port = await tls_server(trusted)
    async with server:
        assert await post(f"https://localhost:{port}/v1") == YES
        with pytest.raises(Unreachable, match="certificate"):
            await post(f"https://127.0.0.1:{port}/v1")
        server.close()


async def test_tls_through_a_proxy_that_does_not_see_what_is_said(
    trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, port = await tls_server(trusted)
    passed: list[bytes] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            passed.append(data)
            writer.write(data)

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed.append(await head_of(reader))
        if b"refused.invalid" in passed[-1]:
            writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            return
        onward: Any = await asyncio.open_connection("localhost", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        work: list[Awaitable[None]] = [copy(reader, onward[1]), copy(onward[0], writer)]
        await asyncio.gather(*work)

    async with server, RawServer(proxy) as by:
        monkeypatch.setenv("https_proxy", by.removesuffix("/v1"))
        assert await post("https://judge.invalid/v1", "whisper") == YES
        with pytest.raises(Unreachable, match="the proxy answers status 403"):
            await post("https://refused.invalid/v1")
        server.close()
    assert passed[0].startswith(b"CONNECT judge.invalid:443 HTTP/1.1\r\n")
    assert not any(b"whisper" in part or b"Yes" in part or b"key" in part for part in passed)
