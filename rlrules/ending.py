"""How a process of several ranks ends."""

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_finalization() -> Iterator[None]:
    """End the process with the status that the block leaves, once all is done that is to be done at its exit.

    Threads are joined and exit handlers run as ever; only the interpreter is not taken down. Threads of gloo that still
    hold a tensor then would ask for the interpreter's lock, which aborts the process now and then, and with it all
    other ranks (pytorch/pytorch#179291). Enter it early: handlers that were registered before it do not run.
    """
    status = 1  # What an exception that nobody catches leaves.

    def end() -> None:
        try:
            logging.shutdown()
            sys.stderr.flush()
            sys.stdout.flush()
        finally:  # Whoever read what is printed may be gone.
            os._exit(status)

    atexit.register(end)
    try:
        yield
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        raise
