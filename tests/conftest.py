"""What all tests share: a cache folder of their own, one vLLM server for a whole run."""

import os
from collections.abc import Iterator

import pytest

from rlrules.environment import prepare_environment

prepare_environment()
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["VllmServer"]:  # noqa: F821
    """One real vLLM server of the embedded default model, started when the first test asks for it."""
    from rlrules.engines.vllm import VllmConfig, VllmServer
    from rlrules.models import DEFAULT_MODEL

    config = VllmConfig(model=DEFAULT_MODEL, max_model_len=4096)
    with VllmServer(config, tmp_path_factory.mktemp("vllm") / "server.log") as server:
        yield server
