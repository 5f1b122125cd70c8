"""The vLLM servers of a recipe, alone: kept running until they are to end."""

import logging
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

from rlrules.engines.vllm import VllmServer
from rlrules.engines.watch import WatchedServers
from rlrules.errors import RecipeError, RlrulesError
from rlrules.recipe.load import load_recipe
from rlrules.recipe.schema import GrpoRecipe


def keep_engines(path: str | Path, overrides: Sequence[str] = ()) -> None:
    """Start a recipe's `engines` and start them again when they end, until SIGTERM or SIGINT.

    Args:
        path: The YAML file.
        overrides: Dotted assignments.

    Raises:
        RlrulesError: There are none, or one cannot be started.
    """
    loaded = load_recipe(path, overrides).of(GrpoRecipe)
    if not loaded.recipe.engines:
        raise RecipeError([loaded.problem((), "`engines` is missing: it says which servers to start")])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    servers = {name: VllmServer(engine) for name, engine in loaded.recipe.engines.items()}
    engines, ending, failures = WatchedServers(servers), threading.Event(), list[RlrulesError]()

    def failed(error: RlrulesError) -> None:
        failures.append(error)
        ending.set()

    before = {number: signal.signal(number, lambda *_: ending.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        told = ", ".join(f"{name} at {server.url}" for name, server in servers.items())
        engines.start(lambda: print(f"serving {told}", flush=True), failed)
        ending.wait()
    finally:
        engines.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
    if failures:
        raise failures[0]
