"""OpenRLHF's client, byte for byte: what it sends, and what it can read of what comes back."""

import json
from pathlib import Path
from typing import Any

from tests.fakes.openai_server import FakeServer, Faults
from tests.serving.shared import FORM, judged, raw, serving

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/openrlhf.json").read_text())


def sent(body: str) -> bytes:
    """The bytes of a request, on a connection that is closed behind it so that the answer's end is seen."""
    content = body.encode()
    head = (GOLDEN["head"] % len(content)).replace("Accept: */*", "Connection: close\r\nAccept: */*")
    return head.encode() + content


def parted(reply: bytes) -> tuple[bytes, bytes]:
    head, _, body = reply.partition(b"\r\n\r\n")
    return head, body


def read_as_openrlhf(answer: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """What its executor takes from an answer: a falsy `scores` is replaced by `rewards`."""
    return answer.get("rewards"), answer.get("scores") or answer.get("rewards"), answer.get("extra_logs") or {}


def test_the_exchange_byte_for_byte(tmp_path: Path) -> None:
    with serving(tmp_path, FORM) as url:
        for exchange in GOLDEN["exchanges"]:
            head, body = parted(raw(url, sent(exchange["request"])))
            assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"content-type: application/json" in head
            assert body == exchange["answer"].encode()
            rewards, scores, logs = read_as_openrlhf(json.loads(body))
            # It makes tensors of them, of any shape that holds one number.
            assert rewards == scores == [2 * logs["form"][0]]


def test_an_unscored_sample_is_an_error_that_the_client_asks_again(tmp_path: Path) -> None:
    with (
        FakeServer(faults=Faults(error_share=1.0)) as judge,
        serving(tmp_path, judged(tmp_path, judge.url), "judges.v.retries=0") as url,
    ):
        head, body = parted(raw(url, sent(GOLDEN["exchanges"][0]["request"])))
    assert head.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in head
    told = json.loads(body)
    assert told["rewards"] == [None] and "status 500" in told["detail"]
