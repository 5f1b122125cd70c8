"""Runs a command, and ends its whole process tree when the command or this program's starter ends.

A model server is a tree of processes that holds a machine's memory. `finally` and `atexit` do not run in a starter
that is killed, and a death signal set on the server does not reach the server's children. So this small program
stands between the two: it watches its starter, and the kernel hands it every process that the server orphans. It also
gives the server a temporary folder of its own, as servers leave sockets and the like behind.

It is run as a file (`python supervisor.py STARTER_PID GRACE_S COMMAND...`), so that it starts in milliseconds and
depends on psutil only. Linux only.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LIBC = ctypes.CDLL(None, use_errno=True)


def end_processes(processes: Sequence[psutil.Process], grace_s: float) -> None:
    """Send SIGTERM to all, SIGKILL after `grace_s` seconds to those that are left, and wait for their end."""
    for send in (psutil.Process.terminate, psutil.Process.kill):
        alive = [process for process in processes if process.is_running()]
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                send(process)
        psutil.wait_procs(alive, timeout=grace_s)


def supervise(starter: int, grace_s: float, command: Sequence[str]) -> int:
    """Run `command` until it ends, the process `starter` ends, or SIGTERM, SIGINT or SIGHUP comes.

    Args:
        starter: This process's parent.
        grace_s: Seconds between SIGTERM and SIGKILL.
        command: Program and arguments.

    Returns:
        The command's exit status, as a shell gives it (128 + signal); 0 where it was ended from here.
    """
    for number in _ENDING:
        signal.signal(number, _leave)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    starter_fd = os.pidfd_open(starter)
    # The number may already belong to another process; only a parent that is still ours is the starter.
    if os.getppid() != starter:
        return 0
    with tempfile.TemporaryDirectory(prefix="rlrules-server-", ignore_cleanup_errors=True) as scratch:
        try:
            server = subprocess.Popen(command, env={**os.environ, "TMPDIR": scratch}, preexec_fn=_die_with_parent)
            poll = select.poll()
            poll.register(starter_fd, select.POLLIN)
            poll.register(os.pidfd_open(server.pid), select.POLLIN)
            poll.poll()
            status = server.poll()
            return 0 if status is None else status if status >= 0 else 128 - status
        finally:
            for number in _ENDING:
                signal.signal(number, signal.SIG_IGN)
            _end_descendants(grace_s)


def _end_descendants(grace_s: float) -> None:
    """End everything below this process: orphans included, as they become its children."""
    own = psutil.Process()
    while descendants := _alive(own.children(recursive=True)):
        end_processes(descendants, grace_s)


def _alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    alive = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _die_with_parent() -> None:
    """Have the kernel send SIGTERM to the server should this supervisor itself be killed."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


if __name__ == "__main__":
    sys.exit(supervise(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
