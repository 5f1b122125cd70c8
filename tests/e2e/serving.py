"""What a vLLM server says of its own work."""

import urllib.request

from rlrules.engines.vllm import VllmServer


def counted(server: VllmServer, metric: str) -> float:
    """The sum of one of vLLM's counters over all its labels."""
    with urllib.request.urlopen(server.url.removesuffix("/v1") + "/metrics") as reply:
        lines = reply.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"vllm:{metric}"))
