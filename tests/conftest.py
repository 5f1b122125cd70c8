"""What all tests share: a cache folder of their own, one vLLM server for a whole run, no errors left in event loops."""

import asyncio
import logging
import os
from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from rlrules.environment import prepare_environment

prepare_environment()
os.environ.setdefault("HF_HUB_OFFLINE", "1")


class ByServer(LoadScopeScheduling):
    """Among several workers, files are not split, and those that ask the one vLLM server stay together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "vllm_server" if "vllm_server" in (self.config.rootpath / file).read_text("utf-8") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """For `--dist loadscope`; what stands elsewhere under xdist's names is left to it."""
    return ByServer(config, log) if config.getvalue("dist") == "loadscope" else None


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
