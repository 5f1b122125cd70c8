"""What all tests share: a cache folder of their own, one vLLM server for a whole run, no errors left in event loops."""

import logging
import os
from collections.abc import Iterator

import pytest

from rlrules.environment import prepare_environment

prepare_environment()
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def no_errors_in_event_loops(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What fails in a callback or in a task that nobody awaits is only logged: here it fails the test."""
    yield
    logged = [record for record in caplog.get_records("call") if record.name == "asyncio"]
    assert not [record.getMessage() for record in logged if record.levelno >= logging.ERROR]


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["VllmServer"]:  # noqa: F821
    """One real vLLM server of the embedded default model, started when the first test asks for it."""
    from rlrules.engines.vllm import VllmConfig, VllmServer
    from rlrules.models import DEFAULT_MODEL

    config = VllmConfig(model=DEFAULT_MODEL, max_model_len=4096)
    with VllmServer(config, tmp_path_factory.mktemp("vllm") / "server.log") as server:
        yield server
