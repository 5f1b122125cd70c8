"""vLLM servers that are to run as long as something else does: started together, started again when they end."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from rlrules.engines.vllm import VllmServer
from rlrules.errors import RlrulesError

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
CALM_S = 300.0
"""A server that ran for so long is not one that fails at once: the next pause is a short one again."""
HUNG_S = 120.0
"""A process that answers nothing for so long is taken for dead."""
_LOOK_S, _ASK_S = 0.5, 10.0


class WatchedServers:
    """Servers, each with a thread that starts it and looks after it.

    A server that cannot be started at all ends everything: its configuration is wrong. One that ran is started
    again, after a pause that grows.

    Args:
        servers: By name, none of them started.
    """

    def __init__(self, servers: Mapping[str, VllmServer]) -> None:
        self._servers = dict(servers)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._states = dict.fromkeys(servers, "is starting")
        self.restarts = dict.fromkeys(servers, 0)
        self._threads: dict[str, threading.Thread] = {}

    def start(self, on_started: Callable[[], object], on_failure: Callable[[RlrulesError], object]) -> None:
        """Begin to start all of them; returns at once.

        Args:
            on_started: Called once, from another thread, when all answer for the first time.
            on_failure: Called, from another thread, with the reason where one cannot be started the first time.
        """
        waiting = set(self._servers)

        def answers(name: str) -> None:
            with self._lock:
                waiting.discard(name)
                if waiting:
                    return
            on_started()

        for name in self._servers:
            arguments = (name, partial(answers, name), on_failure)
            thread = threading.Thread(target=self._keep, args=arguments, name=f"engine-{name}", daemon=True)
            self._threads[name] = thread
            thread.start()

    def problems(self) -> dict[str, str]:
        """Why servers do not answer now, by name; those that do are left out."""
        return {name: state for name, state in self._states.items() if state}

    def stop(self) -> None:
        """End all processes of all servers and wait for that."""
        self._stopping.set()
        for name, thread in self._threads.items():
            while thread.is_alive():
                # Again and again: a thread may be about to start one.
                self._servers[name].stop()
                thread.join(0.2)
            self._servers[name].stop()

    def _keep(self, name: str, answers: Callable[[], object], on_failure: Callable[[RlrulesError], object]) -> None:
        server, pause, ever = self._servers[name], FIRST_PAUSE_S, False
        while True:
            try:
                server.start()
            except RlrulesError as error:
                self._states[name] = str(error).splitlines()[0]
                if not ever and not self._stopping.is_set():
                    on_failure(error)
                    return
            else:
                ever, self._states[name], since = True, "", time.monotonic()
                logger.info("engine %s answers at %s; log: %s", name, server.url, server.log_file)
                answers()
                self._states[name] = self._watch(server)
                if time.monotonic() - since > CALM_S:
                    pause = FIRST_PAUSE_S
            server.stop()
            if self._stopping.is_set():
                return
            logger.warning("engine %s %s; started again in %g s", name, self._states[name], pause)
            if self._stopping.wait(pause):
                return
            pause = min(LONGEST_PAUSE_S, 2 * pause)
            self.restarts[name] += 1

    def _watch(self, server: VllmServer) -> str:
        """Return, with the reason, once a server is dead, or is to stop."""
        answered = asked = time.monotonic()
        while not self._stopping.wait(_LOOK_S):
            if not server.running:
                return f"has ended; log: {server.log_file}"
            now = time.monotonic()
            if now - asked >= _ASK_S:
                asked = now
                if server.healthy:
                    answered = time.monotonic()
                elif now - answered > HUNG_S:
                    return f"has not answered for {HUNG_S:g} s; log: {server.log_file}"
        return "is stopping"
