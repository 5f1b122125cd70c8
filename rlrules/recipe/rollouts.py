"""The section `rollouts`: vLLM servers that generate for the policy over HTTP; and what must hold where it is used."""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rlrules.engines.policy import Models, Sync, call_workers, configuration, models, post
from rlrules.errors import RlrulesError
from rlrules.judges.base import Usage
from rlrules.judges.connection import HttpClient, StatusError
from rlrules.judges.http import ServerFields, Servers, Url
from rlrules.recipe.served import is_at

if TYPE_CHECKING:
    from trl import GRPOConfig

    from rlrules.recipe.load import LoadedRecipe

_PING_S = 30.0
# Of a completion's request: what decides which tokens are whose.
_OWN_FIELDS = ("model", "prompt", "n", "seed", "stream", "echo", "logprobs", "return_token_ids", "cache_salt")


class RolloutsSection(ServerFields):
    """Where the policy generates, and how its weights get there."""

    urls: list[Url] = Field(min_length=1, description="Base URLs, with /v1; work goes to the least busy one.")
    sync: Sync = Field(description="lora: the adapter alone is sent; full: all weights.")
    shared_dir: str | None = Field(
        None, description="Folder through which weights go, at one place for all; null: runs/NAME/policy."
    )
    max_in_flight: int = Field(256, ge=1, le=1000, description="Completions of a rank on one server at a time.")
    timeout_s: float = Field(
        600.0,
        gt=0,
        description="Deadline of one completion, the loading of weights before it included; also how long an outage "
        "of all servers is waited out.",
    )


def rollouts_problems(loaded: "LoadedRecipe", arguments: "GRPOConfig | None") -> list[str]:
    """A line for all that does not go with `rollouts`."""
    section, model = loaded.recipe.rollouts, loaded.recipe.model
    if section is None:
        return []
    problems: list[str] = []
    peft: dict[str, Any] | None = model.peft if model else None
    if section.sync == "lora" and peft is None:
        message = "there is no adapter to send: set `model.peft`, or `sync: full`"
        problems.append(loaded.problem(("rollouts", "sync"), message))
    if section.sync == "full" and peft is not None:
        message = "`model.peft` trains an adapter alone: set `sync: lora`, or leave `model.peft` out"
        problems.append(loaded.problem(("rollouts", "sync"), message))
    for key, plain in (("modules_to_save", None), ("use_dora", False), ("bias", "none")) if peft else ():
        if peft and peft.get(key, plain) not in (plain, []):
            message = f"vLLM loads no adapter with {key}: leave it out"
            problems.append(loaded.problem(("model", "peft", key), message))
    for name, engine in loaded.recipe.engines.items():
        if engine.policy != section.sync and any(is_at(engine, url) for url in section.urls):
            message = f"is {engine.policy or 'not set'}, and rollouts.sync is {section.sync}: make them equal"
            problems.append(loaded.problem(("engines", name, "policy"), message))
    conflicts = _conflicts(arguments) if arguments is not None else {}
    return problems + [loaded.problem(("training", field), message) for field, message in conflicts.items()]


def _conflicts(arguments: "GRPOConfig") -> dict[str, str]:
    conflicts: dict[str, str] = {}
    if arguments.use_vllm:
        conflicts["use_vllm"] = "TRL's own way to vLLM and `rollouts` are two ways: set it to false, or drop `rollouts`"
    if arguments.use_transformers_continuous_batching:
        conflicts["use_transformers_continuous_batching"] = "the servers of `rollouts` generate: set it to false"
    if own := [key for key in _OWN_FIELDS if key in (arguments.generation_kwargs or {})]:
        conflicts["generation_kwargs"] = f"{', '.join(own)} is set for each completion: leave it out"
    return conflicts


def rollout_server_problems(loaded: "LoadedRecipe") -> list[str]:
    """Ask every server whether it answers and can do what it is to; a line for each that cannot."""
    section = loaded.recipe.rollouts
    if section is None:
        return []
    return asyncio.run(_asked(loaded, section))


async def _asked(loaded: "LoadedRecipe", section: RolloutsSection) -> list[str]:
    told = await asyncio.gather(*(_server_problem(loaded, section, url) for url in section.urls))
    return [loaded.problem(("rollouts", "urls"), f"{url}: {problem}") for url, problem in told if problem]


async def _server_problem(loaded: "LoadedRecipe", section: RolloutsSection, url: str) -> tuple[str, str]:
    alone = section.model_copy(update={"urls": [url], "timeout_s": min(section.timeout_s, _PING_S)})
    peft = (loaded.recipe.model.peft if loaded.recipe.model else None) or {}
    wanted = loaded.recipe.training.get("max_completion_length", 0)

    async def ask(client: HttpClient) -> str:
        served, config = await models(client), await configuration(client)
        return _length_problem(served, wanted) or await _sync_problem(client, section.sync, config, peft.get("r", 8))

    try:
        servers = Servers(alone, Usage())
    except RlrulesError as error:
        return url, str(error)
    try:
        return url, (await servers.request(ask))[0]
    except RlrulesError as error:
        return url, str(error).removeprefix(f"{url}: ")
    finally:
        await servers.close()


def _length_problem(served: Models, wanted: Any) -> str:
    bound = served.base.max_model_len
    if bound is None or not isinstance(wanted, int) or wanted < bound:
        return ""
    return f"its --max-model-len {bound} has no room for training.max_completion_length {wanted} behind a prompt"


async def _sync_problem(client: HttpClient, sync: Sync, config: dict[str, Any] | None, rank: int) -> str:
    mode = config["model_config"]["logprobs_mode"] if config else "processed_logprobs"
    if mode != "processed_logprobs":
        return f"it runs with --logprobs-mode {mode}: start it with processed_logprobs, as the policy is trained"
    try:
        if sync == "full":
            await call_workers(client, "policy_weights")
            return ""
        # Refused for want of a name where there is such a route.
        await post(client, "/v1/load_lora_adapter", {"lora_name": "", "lora_path": ""})
    except StatusError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            variable = "VLLM_SERVER_DEV_MODE" if sync == "full" else "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
            return f"it has no route to load weights by: start it with {variable}=1 ({client.root})"
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR and sync == "full":
            return "its workers know nothing of policies: start it with --worker-extension-cls, see docs/recipes.md"
        if error.status != HTTPStatus.BAD_REQUEST:
            raise
    if config is None:
        return ""
    lora = config.get("lora_config")
    if not lora:
        return "it takes no adapters: start it with --enable-lora"
    if lora["max_lora_rank"] < rank:
        return f"it takes adapters up to rank {lora['max_lora_rank']}, model.peft.r is {rank}: raise --max-lora-rank"
    return ""
