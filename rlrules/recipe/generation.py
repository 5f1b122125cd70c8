"""TRL's own ways to generate with vLLM: what cannot go together, on this machine, or with a server as it runs."""

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rlrules.engines.policy import configuration
from rlrules.judges.base import JudgeFailure, Usage
from rlrules.judges.http import ServerFields, Servers
from rlrules.recipe.load import LoadedRecipe, did_you_mean
from rlrules.recipe.schema import Recipe

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from trl import GRPOConfig

MODES = ("server", "colocate")
CORRECTIONS = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
# Fields that TRL reads in one mode only, and what says the same in server mode.
_OF_SERVER = ("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_group_port")
_OF_COLOCATE = {
    "vllm_tensor_parallel_size": "--tensor-parallel-size",
    "vllm_gpu_memory_utilization": "--gpu-memory-utilization",
    "vllm_max_model_length": "--max-model-len",
    "vllm_model_impl": "--model-impl",
    "vllm_enable_sleep_mode": "",
}
_START = """VLLM_SERVER_DEV_MODE=1 vllm serve … --weight-transfer-config '{"backend": "nccl"}'"""


def generation_problems(loaded: LoadedRecipe[Recipe], arguments: "TrainingArguments") -> list[str]:
    """A line for each combination of TRL's vLLM fields that cannot work anywhere, or in which one is not read."""
    served = getattr(arguments, "use_vllm", False)
    correction = _correction_problems(loaded, arguments) if served or getattr(loaded.recipe, "rollouts", None) else []
    if not served:
        return correction
    policy: GRPOConfig = arguments
    given = loaded.recipe.training
    if policy.vllm_mode not in MODES:
        message = f"is {policy.vllm_mode!r}: one of {', '.join(MODES)}{did_you_mean(policy.vllm_mode, MODES)}"
        return [_problem(loaded, "vllm_mode", message), *correction]
    told = _server(policy, given) if policy.vllm_mode == "server" else _colocate(policy, given)
    if given.get("use_cpu"):
        told["use_vllm"] = "TRL brings weights to vLLM on GPUs only, and use_cpu is set: set it to false"
    if policy.use_transformers_continuous_batching:
        told["use_transformers_continuous_batching"] = "vLLM generates where use_vllm is set: set one of them to false"
    return [_problem(loaded, key, message) for key, message in told.items()] + correction


def launch_problems(loaded: LoadedRecipe[Recipe], arguments: "TrainingArguments", ranks: int) -> list[str]:
    """What of the recipe's generation this machine and launch cannot do."""
    problems = rank_problems(loaded, arguments, ranks)
    if not getattr(arguments, "use_vllm", False):
        return problems
    if find_spec("vllm") is None:
        message = "vLLM is not installed beside TRL, which needs it in both modes: pip install 'rlrules[colocate]'"
        problems.append(_problem(loaded, "use_vllm", f"{message}, or set it to false"))
    import torch

    if not torch.cuda.is_available():
        message = "TRL brings weights to vLLM by NCCL or on its GPU, and this machine has none: set it to false"
        problems.append(_problem(loaded, "use_vllm", message))
    return problems


def rank_problems(loaded: LoadedRecipe[Recipe], arguments: "TrainingArguments", ranks: int) -> list[str]:
    """A line where so many ranks cannot be split among engines."""
    if not getattr(arguments, "use_vllm", False) or getattr(arguments, "vllm_mode", "") != "colocate":
        return []
    size: int = getattr(arguments, "vllm_tensor_parallel_size", 1)
    if size < 1 or ranks % size == 0:
        return []
    message = f"an engine spans {size} ranks, and {ranks} {'are' if ranks > 1 else 'is'} no multiple of that: "
    return [_problem(loaded, "vllm_tensor_parallel_size", f"{message}set it to a divisor, or launch other ranks")]


def trl_server_problems(loaded: LoadedRecipe[Recipe], arguments: "TrainingArguments", wait_s: float) -> list[str]:
    """Ask TRL's vLLM server, where there is one, whether it was started as TRL needs it; a line where it was not.

    Args:
        loaded: The recipe.
        arguments: TRL's.
        wait_s: Seconds for which a server that is still starting is waited for.
    """
    if getattr(arguments, "vllm_mode", "") != "server" or not getattr(arguments, "use_vllm", False):
        return []
    policy: Any = arguments
    url = policy.vllm_server_base_url or f"http://{policy.vllm_server_host}:{policy.vllm_server_port}"
    field = "vllm_server_base_url" if policy.vllm_server_base_url else "vllm_server_host"
    try:
        message = asyncio.run(_asked(url, policy, wait_s))
    except JudgeFailure as failure:
        message = f"the vLLM server does not answer: {failure}"
    return [_problem(loaded, field, message)] if message else []


async def _asked(url: str, policy: Any, wait_s: float) -> str:
    servers = Servers(ServerFields(urls=[url], timeout_s=max(1.0, wait_s), retries=0), Usage())
    try:
        config, _ = await servers.request(configuration)
    finally:
        await servers.close()
    if config is None:
        return f"the server at {url} has no route that TRL brings weights by: start it as {_START}"
    return _unfit(url, config, policy)


def _unfit(url: str, config: Any, policy: Any) -> str:
    model = config.get("model_config", {})
    if config.get("weight_transfer_config") is None:
        return f"the server at {url} takes no weights: start it as {_START}"
    if policy.vllm_importance_sampling_correction and model.get("logprobs_mode") != "processed_logprobs":
        told = (
            f"the server at {url} runs with --logprobs-mode {model.get('logprobs_mode')}, which biases the importance"
        )
        return f"{told} sampling: start it with processed_logprobs"
    if (bound := model.get("max_model_len")) and bound <= policy.max_completion_length:
        told = f"the server at {url} has --max-model-len {bound}, no room for a prompt beside max_completion_length"
        return f"{told} {policy.max_completion_length}: raise it"
    return ""


def _server(policy: "GRPOConfig", given: dict[str, Any]) -> dict[str, str]:
    told: dict[str, str] = {}
    url = policy.vllm_server_base_url
    for key, flag in _OF_COLOCATE.items():
        if key in given:
            remedy = f"give the server {flag}" if flag else "sleeping is for engines beside the trainer"
            told[key] = f"is of vllm_mode colocate: remove it; {remedy}"
    if url is None:
        if "vllm_server_host" not in given:
            told["vllm_mode"] = "server needs vllm_server_base_url, or vllm_server_host and vllm_server_port: name it"
        elif policy.vllm_server_host in ("0.0.0.0", "::"):
            told["vllm_server_host"] = f"{policy.vllm_server_host} is where a server listens: name the machine it is on"
        return told
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        told["vllm_server_base_url"] = f"{url!r} is no URL: write http://HOST:PORT"
    elif urlsplit(url).path.rstrip("/") == "/v1":
        told["vllm_server_base_url"] = "TRL adds /v1 itself: leave it out"
    for key in ("vllm_server_host", "vllm_server_port"):
        if key in given:
            told[key] = "is not read beside vllm_server_base_url: remove one of them"
    return told


def _colocate(policy: "GRPOConfig", given: dict[str, Any]) -> dict[str, str]:
    message = "is of vllm_mode server, and vllm_mode is colocate: set that, or remove this"
    told = dict.fromkeys((key for key in _OF_SERVER if key in given), message)
    if policy.vllm_tensor_parallel_size < 1:
        told["vllm_tensor_parallel_size"] = f"is {policy.vllm_tensor_parallel_size}: at least 1"
    if not 0 < policy.vllm_gpu_memory_utilization < 1:
        told["vllm_gpu_memory_utilization"] = "is a share of the GPU that training needs too: above 0 and below 1"
    bound = policy.vllm_max_model_length
    if bound is not None and bound <= policy.max_completion_length:
        told["vllm_max_model_length"] = (
            f"{bound} has no room for a prompt beside max_completion_length {policy.max_completion_length}: raise it"
        )
    return told


def _correction_problems(loaded: LoadedRecipe[Recipe], arguments: Any) -> list[str]:
    """How TRL weighs what its policy's and vLLM's probabilities differ by, wherever vLLM generates."""
    mode, field = arguments.vllm_importance_sampling_mode, "vllm_importance_sampling_mode"
    if not arguments.vllm_importance_sampling_correction:
        return []
    if mode not in CORRECTIONS:
        return [_problem(loaded, field, f"is {mode!r}: one of {', '.join(CORRECTIONS)}")]
    if arguments.loss_type == "vespo" and not mode.startswith("token_"):
        return [_problem(loaded, field, f"{mode} does not go with loss_type vespo: token_truncate does")]
    return []


def _problem(loaded: LoadedRecipe[Recipe], key: str, message: str) -> str:
    return loaded.problem(("training", key), message)
