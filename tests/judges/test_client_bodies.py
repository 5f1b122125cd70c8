"""Whatever a server sends: an answer or a typed failure, never another exception."""

import json
from typing import Any

import pytest

from rlrules.judges import Answer, JudgeFailure
from tests.fakes.openai_server import FakeServer
from tests.fakes.raw_server import RawServer, answering
from tests.judges.asking import backend, ready

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ask(url: str) -> Answer:
    asked, _ = backend(url, retries=0)
    try:
        return await asked.complete(ready("?"))
    finally:
        await asked.close()


def completion(**changes: Any) -> dict[str, Any]:
    choice = {"message": {"content": "Yes"}, "finish_reason": "stop"} | changes
    return {"choices": [choice]}


GARBLED: list[dict[str, Any] | bytes] = [
    b"",
    b"null",
    b"17",
    b'"Yes"',
    b"[]",
    b"<html>Bad gateway</html>",
    b'{"choices": [{"message": {"content": "Yes"',
    b"[" * 100_000,
    b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
    {},
    {"choices": None},
    {"choices": []},
    {"choices": {"0": "Yes"}},
    {"choices": "Yes"},
    {"choices": [None]},
    {"choices": ["Yes"]},
    {"choices": [{}]},
    {"choices": [{"message": None}]},
    {"choices": [{"message": "Yes"}]},
    completion(message={"content": 1}),
    completion(message={"content": {"verdict": "Yes"}}),
    completion(message={"content": ["Yes"]}),
    completion(finish_reason=3),
    completion(logprobs="none"),
    completion(logprobs={"content": [{"top_logprobs": [{"token": "Yes", "logprob": "sure"}]}]}),
    completion(logprobs={"content": [{"top_logprobs": [{"logprob": -1}]}]}),
    completion() | {"usage": {"prompt_tokens": "many"}},
]


@pytest.mark.parametrize("body", GARBLED, ids=lambda body: str(body)[:40])
async def test_a_garbled_body_is_a_typed_failure(body: dict[str, Any] | bytes) -> None:
    with FakeServer(lambda _: body) as server, pytest.raises(JudgeFailure) as caught:
        await ask(server.url)
    assert caught.value.kind == "empty" and server.url in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("body", "text", "logprobs"),
    [
        (completion(), "Yes", {}),
        (completion(message={"content": None}), "", {}),
        (completion(finish_reason=None, logprobs={"content": None}), "Yes", {}),
        (completion(logprobs={"content": []}) | {"usage": None}, "Yes", {}),
        (completion() | {"usage": {"prompt_tokens": None}}, "Yes", {}),
        (
            b'{"choices": [{"message": {"content": "Yes"}, "logprobs": {"content": [{"top_logprobs": ['
            b'{"token": "Yes", "logprob": 0.001}, {"token": "No", "logprob": -9999.0}, {"token": "a", "logprob": NaN}, '
            b'{"token": "b", "logprob": -Infinity}, {"token": "c", "logprob": null}, {"token": "Yes", "logprob": -7}'
            b"]}]}}]}",
            "Yes",
            {"Yes": 0.0, "No": -9999.0},
        ),
    ],
)
async def test_what_servers_leave_out_is_no_failure(
    body: dict[str, Any] | bytes, text: str, logprobs: dict[str, float]
) -> None:
    with FakeServer(lambda _: body) as server:
        answer = await ask(server.url)
    assert (answer.text, answer.logprobs, answer.prompt_tokens) == (text, logprobs, 0)


async def test_json_that_is_not_called_json_is_read() -> None:
    body = json.dumps(completion()).encode()
    async with RawServer(answering(b"HTTP/1.1 200 OK", body, b"text/plain")) as url:
        assert (await ask(url)).text == "Yes"
