"""What a trainer asks of a vLLM server that generates for its policy, beside completions."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from rlrules.judges.connection import HttpClient, StatusError

Sync = Literal["lora", "full"]
"""How a version of the policy gets to a server: as an adapter, or as all its weights."""

WORKER_FOLDER = Path(__file__).parent / "worker"
_WORKER_CLASS = "rlrules_policy_worker.PolicyWorker"


def policy_arguments(sync: Sync) -> list[str]:
    """Arguments of a vLLM server that a policy's versions are put on."""
    # The adapter that answers, and the next one while it is loaded.
    return ["--enable-lora", "--max-loras=2"] if sync == "lora" else [f"--worker-extension-cls={_WORKER_CLASS}"]


def policy_environment(sync: Sync) -> dict[str, str]:
    """Environment variables of such a server, its path for Python left out."""
    # The development routes are what weights are put in by, and what says how log-probabilities are computed.
    routes = {"VLLM_SERVER_DEV_MODE": "1"}
    return routes | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if sync == "lora" else routes


class Held(BaseModel):
    """What one worker computes with; see `PolicyWorker`."""

    process: str
    version: str
    loaded: bool = False
    problem: str = ""


class _Model(BaseModel):
    id: str
    parent: str | None = None
    max_model_len: int | None = None


class Models(BaseModel):
    """The models that a server answers for: its own, and adapters on it."""

    data: list[_Model] = Field(min_length=1)

    @property
    def base(self) -> _Model:
        """The server's own model."""
        return next((model for model in self.data if model.parent is None), self.data[0])


class _Results(BaseModel):
    results: list[Held] = Field(min_length=1)


async def post(client: HttpClient, route: str, body: Mapping[str, Any]) -> object:
    """The server's answer to `body` at a route, which begins with /v1 or stands beside it."""
    return _read(await client.post(client.root + route, body))


async def models(client: HttpClient) -> Models:
    """The models that the server answers for."""
    return Models.model_validate(await _get(client, "/v1/models"))


async def load_adapter(client: HttpClient, name: str, folder: Path) -> bool:
    """Load an adapter under a name; whether it was this call that did it, and no other rank's."""
    try:
        await post(client, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
    except StatusError as error:
        # Who comes second is refused.
        if error.status != HTTPStatus.BAD_REQUEST or name not in {m.id for m in (await models(client)).data}:
            raise
        return False
    return True


async def unload_adapters(client: HttpClient, prefix: str, keep: str = "") -> None:
    """Unload every adapter whose name begins with `prefix`, but for `keep`."""
    for model in (await models(client)).data:
        if model.id.startswith(prefix) and model.id != keep:
            try:
                await post(client, "/v1/unload_lora_adapter", {"lora_name": model.id})
            except StatusError as error:
                if error.status != HTTPStatus.NOT_FOUND:  # Another rank was faster.
                    raise


async def call_workers(client: HttpClient, method: str, **arguments: str) -> list[Held]:
    """Call a method of all workers' `PolicyWorker`."""
    told = await post(client, "/collective_rpc", {"method": method, "kwargs": arguments})
    return _Results.model_validate(told).results


async def configuration(client: HttpClient) -> dict[str, Any] | None:
    """The server's whole configuration, by vLLM's names; None where it has no development routes."""
    try:
        told: Any = await _get(client, "/server_info?config_format=json")
    except StatusError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
    config: dict[str, Any] = told["vllm_config"]
    return config


async def _get(client: HttpClient, route: str) -> object:
    return _read(await client.get(client.root + route))


def _read(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        # Loading an adapter is answered by a sentence.
        return body.decode()
