"""What all tests share: a cache folder of their own, one vLLM server for a whole run, no errors left in event loops."""

import asyncio
import logging
import os
from collections.abc import Iterator

import pytest

from rlrules.environment import prepare_environment

prepare_environment()
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Among several workers, the end-to-end tests that share a server or a module's fixtures stay on one."""
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("e2e"):
            shared = "vllm_server" if "vllm_server" in item.fixturenames else item.module.__name__
            item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture(autouse=True)
def no_errors_in_event_loops(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What fails in a callback or in a task that nobody awaits is only logged: here it fails the test."""
    yield
    errors = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name == "asyncio" and record.levelno >= logging.ERROR and not _cancelled(record)
    ]
    assert not errors


def _cancelled(record: logging.LogRecord) -> bool:
    """Whether a server's connection was cancelled, which Python 3.11 logs as an error."""
    return record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["VllmServer"]:  # noqa: F821
    """One real vLLM server of the embedded default model, started when the first test asks for it."""
    from rlrules.engines.vllm import VllmConfig, VllmServer
    from rlrules.models import DEFAULT_MODEL

    config = VllmConfig(model=DEFAULT_MODEL, max_model_len=4096)
    with VllmServer(config, tmp_path_factory.mktemp("vllm") / "server.log") as server:
        yield server
