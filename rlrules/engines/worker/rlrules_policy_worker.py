"""What workers of a vLLM server can do for a policy in training: take in all its weights, and say which they hold.

vLLM mixes the class into its workers (`--worker-extension-cls rlrules_policy_worker.PolicyWorker`) and calls its
methods for `/collective_rpc`. That happens in the serving environment: this folder alone is on its path, so that
nothing of the trainer's environment shadows its own packages, and the file imports nothing of this package.
"""

import uuid
from pathlib import Path
from typing import Any

_PROCESS = uuid.uuid4().hex


class PolicyWorker:
    """Mixed into vLLM's worker, whose `reload_weights`, `vllm_config` and `model_runner` it uses."""

    vllm_config: Any
    model_runner: Any
    reload_weights: Any
    _policy_version = ""
    _policy_base = ""

    def policy_weights(self) -> dict[str, str]:
        """What this worker computes with.

        Returns:
            `process`, which no two processes have in common; `version`, the name of the weights that were put in last,
            empty where none were or where it failed under way.
        """
        return {"process": _PROCESS, "version": self._policy_version}

    def load_policy(self, folder: str, version: str) -> dict[str, str | bool]:
        """Take in the weights in `folder` under a name; nothing happens where they are in already.

        Returns:
            As `policy_weights`; with `loaded` where they were not in before, with `problem` where the folder is not to
            be seen from here.
        """
        if version == self._policy_version:
            return {**self.policy_weights()}
        if not Path(folder).is_dir():
            return {**self.policy_weights(), "problem": f"{folder} does not exist where the server runs"}
        self._policy_base = self._policy_base or self.vllm_config.model_config.model
        self._policy_reload(folder)
        self._policy_version = version
        return {**self.policy_weights(), "loaded": True}

    def restore_policy(self) -> dict[str, str]:
        """Take in what the server was started with."""
        if self._policy_base:
            self._policy_reload(self._policy_base)
        return self.policy_weights()

    def _policy_reload(self, folder: str) -> None:
        self._policy_version = ""
        self.reload_weights(weights_path=folder)
        head = getattr(self.model_runner.get_model(), "lm_head", None)
        if hasattr(head, "cpu_linear"):
            # vLLM's CPU build computes with a packed copy of the head, which a reload leaves as it was where head and
            # embedding are one: the policy would go on speaking through its old head.
            from vllm.model_executor.layers.utils import (  # type: ignore[import-not-found]
                dispatch_cpu_unquantized_gemm,
            )

            dispatch_cpu_unquantized_gemm(head, remove_weight=False)
