"""Settings of libraries that must be in the environment before they are loaded."""

import os


def prepare_environment() -> None:
    """Set what the user has not; call before torch is imported."""
    # OpenMP's threads wait by spinning. Where a judge shares the cores, each wait then burns a whole time slice:
    # measured on two cores beside a busy vLLM server, generation took 30 s spinning and 1.7 s sleeping.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
