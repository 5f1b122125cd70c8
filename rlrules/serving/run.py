"""From a YAML file to a running server, and to its end."""

import logging
import math
import signal
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from rlrules.engines.vllm import VllmServer
from rlrules.engines.watch import WatchedServers
from rlrules.errors import EngineError, RecipeError, RlrulesError
from rlrules.recipe.arguments import scale_problems
from rlrules.recipe.build import Rewards
from rlrules.recipe.checks import made_rewards
from rlrules.recipe.load import LoadedRecipe, load_recipe
from rlrules.recipe.schema import GrpoRecipe
from rlrules.recipe.served import bearer_token, served, serving_problems
from rlrules.serving.admission import Admission
from rlrules.serving.app import make_app, no_engines

# Longer than the clients' own: a connection that the server closes first may swallow a request.
_KEEP_ALIVE_S = 120
_STARTING, _ENDING = "the engines are starting; ask /ready", "the server is about to end; ask another"


def serve(path: str | Path, overrides: Sequence[str] = ()) -> None:
    """Serve a recipe's rewards until SIGTERM or SIGINT; requests that were let in are answered first.

    Args:
        path: The YAML file: judges, rewards and objective, and where wanted `server` and `engines`.
        overrides: Dotted assignments.

    Raises:
        RlrulesError: The recipe is wrong, the address cannot be used, or an engine does not start.
    """
    loaded = load_recipe(path, overrides).of(GrpoRecipe)
    rewards, token = _checked(loaded)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    section = served(loaded)
    failures: list[RlrulesError] = []
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(section.host, section.port))
        engines = _engines(loaded)
        app = make_app(loaded, rewards, token, engines.problems if engines else no_engines)
        admission: Admission = app.state.admission
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(section.drain_s),
        )
        server = _Server(config, admission, f"{loaded.recipe.name} at http://{_shown(listener)}")
        for number in (signal.SIGTERM, signal.SIGINT):
            # uvicorn raises what it has caught again, once it has ended: the engines still have to be.
            stack.callback(signal.signal, number, signal.signal(number, server.leave_before_start))
        if engines:

            def failed(error: RlrulesError) -> None:
                failures.append(error)
                server.should_exit = True

            def started() -> None:
                admission.closed = ""

            admission.closed = _STARTING
            stack.callback(engines.stop)
            engines.start(started, failed)
        server.run(sockets=[listener])
    if failures:
        raise failures[0]


def application(path: str | Path, overrides: Sequence[str] = ()) -> FastAPI:
    """The application alone, for other servers to run; engines are not started.

    Raises:
        RecipeError: All that is wrong with the recipe.
    """
    loaded = load_recipe(path, overrides).of(GrpoRecipe)
    rewards, token = _checked(loaded)
    return make_app(loaded, rewards, token)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, admission: Admission, place: str) -> None:
        super().__init__(config)
        self._admission = admission
        self._place = place

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"serving {self._place}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Who waits already is answered; who comes now is sent on.
        self._admission.closed = _ENDING
        super().handle_exit(sig, frame)

    def leave_before_start(self, sig: int, frame: FrameType | None) -> None:
        """The handler outside uvicorn's own time."""
        if not self.started:
            raise SystemExit(128 + sig)


def _checked(loaded: LoadedRecipe) -> tuple[Rewards, str | None]:
    """The recipe's rewards and the token, or all that is wrong with it."""
    rewards, problems = made_rewards(loaded)
    problems += scale_problems(loaded) + serving_problems(loaded)
    token: str | None = None
    try:
        token = bearer_token(loaded)
    except RecipeError as error:
        problems += error.problems
    if problems or rewards is None:
        raise RecipeError(problems)
    return rewards, token


def _engines(loaded: LoadedRecipe) -> WatchedServers | None:
    servers = {name: VllmServer(engine) for name, engine in loaded.recipe.engines.items()}
    return WatchedServers(servers) if servers else None


def _listener(host: str, port: int) -> socket.socket:
    """A bound socket, so that a taken port is told before anything is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, or asyncio leaves Nagle's algorithm on: a head and a body, 40 ms apart.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        told = error.strerror or str(error)
        raise EngineError(f"server.port: {host}:{port} cannot be used ({told}); set another, or 0 for any") from error
    return listener


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
