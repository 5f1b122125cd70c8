"""The sections of a recipe that only `rlrules serve` and `rlrules engines` read: server, and engines to start."""

import ipaddress
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from rlrules.engines.vllm import VllmConfig
from rlrules.errors import RecipeError

if TYPE_CHECKING:
    from rlrules.recipe.load import LoadedRecipe
    from rlrules.recipe.schema import GrpoRecipe

# What chat templates end an answer with: OpenRLHF's client sends texts that still hold it.
END_MARKERS = ("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<end_of_turn>", "</s>")


class ServerSection(BaseModel):
    """Where and how the rewards are served."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, lt=65536, description="0: any free one.")
    token_env: str | None = Field(None, description="Environment variable that holds the bearer token to ask for.")
    allow_anonymous: bool = Field(False, description="Listen beyond this machine although no token is asked for.")
    max_in_flight: int = Field(64, ge=1, description="Requests that are scored at a time.")
    max_queue: int = Field(256, ge=0, description="Requests that wait for their turn; more get 429.")
    deadline_s: float = Field(
        300.0, gt=0, description="Seconds from a request's arrival to its answer; a client's header may ask for less."
    )
    max_body_mib: float = Field(16.0, gt=0, description="Larger requests get 413.")
    drain_s: float = Field(60.0, gt=0, description="Seconds that requests are given to end in after SIGTERM.")
    label_column: str | None = Field(
        None,
        description="Column that the label of a single item is; default: the one that the rewards read, else `label`.",
    )
    end_markers: tuple[str, ...] = Field(
        END_MARKERS, description="Taken off the end of OpenRLHF's queries, which hold the policy's special tokens."
    )


class EngineSection(VllmConfig):
    """A vLLM server that is started with the reward server, or by itself."""

    port: int = Field(ge=1, lt=65536, description="The one that the `urls` of a judge, a reward or `rollouts` name.")


def served(loaded: "LoadedRecipe") -> ServerSection:
    """The server's section, by default everywhere."""
    return loaded.recipe.server or ServerSection()


def serving_problems(loaded: "LoadedRecipe") -> list[str]:
    """A line for all that shows to be wrong without starting anything."""
    problems: list[str] = []
    server = served(loaded)
    if not (_loopback(server.host) or server.token_env or server.allow_anonymous):
        message = f"{server.host} is open to other machines: name a `token_env`, or say `allow_anonymous: true`"
        problems.append(loaded.problem(("server", "host"), message))
    for name, engine in loaded.recipe.engines.items():
        asked = {model for url, model in _asked(loaded.recipe) if is_at(engine, url)}
        served_name = engine.served_model_name or engine.model
        if not asked:
            message = f"no judge and no reward asks it: add http://localhost:{engine.port}/v1 to their `urls`"
            problems.append(loaded.problem(("engines", name), message))
        elif asked != {served_name}:
            other = sorted(asked - {served_name})[0]
            message = f"serves {served_name!r}, but is asked for {other!r}; make them equal"
            problems.append(loaded.problem(("engines", name, "model"), message))
    return problems


def bearer_token(loaded: "LoadedRecipe") -> str | None:
    """The token that requests must carry; None where none is asked for.

    Raises:
        RecipeError: Its environment variable is not set, or holds what no header can carry.
    """
    name = served(loaded).token_env
    if name is None:
        return None
    token, problem = os.environ.get(name, ""), ""
    if not token:
        problem = f"the environment variable {name} is not set; export it"
    elif not re.fullmatch(r"[!-~]+", token):
        problem = f"the token in {name} holds blanks or letters beyond ASCII, which no client could send; take another"
    if problem:
        raise RecipeError([loaded.problem(("server", "token_env"), problem)])
    return token


def _asked(recipe: "GrpoRecipe") -> Iterator[tuple[str, str]]:
    """Every URL that a judge or a reward asks, and the model it asks for."""
    for section in (*recipe.judges.values(), *recipe.rewards.values()):
        for url in getattr(section, "urls", ()):
            yield url, getattr(section, "model", "")


def is_at(engine: EngineSection, url: str) -> bool:
    """Whether a URL leads to an engine."""
    place = urlsplit(url)
    return place.port == engine.port and place.hostname in {engine.host, "localhost", "127.0.0.1", "::1"}


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
