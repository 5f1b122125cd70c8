"""The main job on one machine: start a vLLM judge, train recipes/cpu/autorule.yaml against it, stop the judge.

python scripts/quickstart.py [key.path=value …] [--resume auto]
"""

import signal
import subprocess
import sys
from types import FrameType

from rlrules.engines.vllm import VllmConfig, VllmServer
from rlrules.environment import prepare_environment
from rlrules.errors import RlrulesError
from rlrules.models import DEFAULT_MODEL

RECIPE = "recipes/cpu/autorule.yaml"
STOP_S = 60


def main() -> int:
    """Serve, train, stop; returns the training's exit status."""
    prepare_environment()
    # SIGTERM ends this program as Ctrl-C does, so that the server is stopped either way.
    signal.signal(signal.SIGTERM, _interrupt)
    print("starting the judge: vLLM needs about half a minute", flush=True)
    try:
        with VllmServer(VllmConfig(model=DEFAULT_MODEL, max_model_len=4096)) as server:
            print(f"the judge answers at {server.url}; its log: {server.log_file}", flush=True)
            return _train(server.url)
    except RlrulesError as error:
        print(error, file=sys.stderr)
        return 1


def _train(url: str) -> int:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu.yaml"]
    command += ["scripts/train.py", RECIPE, f"judges.verifier.urls=[{url}]", *sys.argv[1:]]
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # A terminal's Ctrl-C reached the training too; a SIGTERM did not. It saves and stops.
            process.terminate()
            return process.wait(timeout=STOP_S)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
