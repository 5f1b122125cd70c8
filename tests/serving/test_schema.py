"""The OpenAPI schema is true: whatever is generated from it, or against it, is answered as it says and never by 500."""

import tempfile
from pathlib import Path

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from rlrules.serving.app import OTHERS, SCORING
from tests.serving.shared import FORM, application

APP = application(Path(tempfile.mkdtemp()), FORM)
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)


@SCHEMA.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_is_answered_by_500(case: schemathesis.Case) -> None:
    # 503 and 504 are in the schema: a deadline of a moment is met by the latter.
    reply = case.call_and_validate(checks=[status_code_conformance, response_schema_conformance])
    assert reply.status_code != 500


def test_every_route_is_in_the_schema_and_every_request_has_an_example() -> None:
    schema = TestClient(APP).get("/openapi.json").json()
    assert set(schema["paths"]) == (SCORING | OTHERS) - {"/openapi.json"}
    client = TestClient(APP)
    for path in SCORING:
        [media] = schema["paths"][path]["post"]["requestBody"]["content"].values()
        name = media["schema"]["$ref"].rpartition("/")[2]
        for example in schema["components"]["schemas"][name]["examples"]:
            assert client.post(path, json=example).status_code == 200


@pytest.mark.parametrize("path", sorted(SCORING))
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{oops",
        b"null",
        b"[" * 100_000,
        b'{"groups": ' + b"[" * 100_000,
        b"\xff\xfe",
        b"1e999",
        b"9" * 5000,
        b'{"groups": [{"prompt": "a", "completions": ["x"], "row": {"n": 1e999, "m": NaN}}]}',
        b'{"groups": [{"prompt": [], "completions": [null]}]}',
        b'{"query": [], "prompts": [], "labels": []}',
        b'{"prompt": {"role": "user"}, "response": "x"}',
    ],
)
def test_bodies_that_no_client_should_send(path: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert TestClient(APP, raise_server_exceptions=False).post(path, content=body, headers=headers).status_code < 500
