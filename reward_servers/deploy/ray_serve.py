"""The reward server on Ray Serve: replicas on several machines behind one address.

    serve run reward_servers.deploy.ray_serve:rewards profile=reward_servers/autorule.yaml

Each replica has limits, a queue and an answer cache of its own; the judges' vLLM servers run beside Ray (`engines` of
the profile are not started here). The token's variable must be set on all nodes (`runtime_env`).
"""

from collections.abc import Mapping

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from rlrules.serving.run import application

CPUS_PER_REPLICA = 2
"""One event loop for requests, one for judges."""


def rewards(arguments: Mapping[str, str]) -> Application:
    """The application of a profile, for `serve run` and `serve deploy`.

    Args:
        arguments: `profile`, a YAML file; all others are dotted assignments to it.
    """
    overrides = [f"{key}={value}" for key, value in arguments.items() if key != "profile"]

    def made() -> FastAPI:
        # On the replica: what it holds cannot travel.
        return application(arguments["profile"], overrides)

    @serve.deployment(
        ray_actor_options={"num_cpus": CPUS_PER_REPLICA},
        max_ongoing_requests=1024,  # The server's own queue is the bound.
        graceful_shutdown_timeout_s=90,
        autoscaling_config={"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 64},
    )
    @serve.ingress(made)
    class Rewards:
        pass

    return Rewards.bind()
