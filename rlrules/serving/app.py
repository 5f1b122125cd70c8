"""The routes."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from rlrules.recipe.build import Rewards
from rlrules.recipe.load import LoadedRecipe
from rlrules.recipe.served import served
from rlrules.serving import wire
from rlrules.serving.admission import DEADLINE_HEADER, OPEN_ROUTES, Admission, Gate
from rlrules.serving.health import Health
from rlrules.serving.metrics import Metrics
from rlrules.serving.service import Answered, Invalid, Service
from rlrules.types import Group

SCORING = frozenset({"/v1/score", "/get_reward", "/score"})
OTHERS = frozenset({*OPEN_ROUTES, "/metrics", "/v1/info", "/openapi.json"})
_PROBLEMS_SHOWN = 20
# As in nginx's logs: the client went away, and nobody reads the answer.
_GONE = 499

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": wire.Problem, "description": "The body is no JSON."},
    401: {"model": wire.Problem, "description": "The bearer token is missing or wrong."},
    413: {"model": wire.Problem, "description": "The body is too large."},
    429: {"model": wire.Problem, "description": "Too many requests wait; `Retry-After` says when to come again."},
    503: {"model": wire.Problem, "description": "The server is starting, or about to end."},
    504: {"model": wire.Problem, "description": "The deadline passed before there was an answer."},
}
_SINGLE = {**_REFUSALS, 503: {"model": wire.Problem, "description": "Unscored, with the reason; or starting, ending."}}
_OPENRLHF = {**_REFUSALS, 503: {"model": wire.Unscored | wire.Problem, "description": "Some query is unscored."}}


class Json(Response):
    """JSON of a model or of plain values, whatever texts they hold."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode."""
        if isinstance(content, BaseModel):
            try:
                return content.model_dump_json(warnings=False).encode()
            except PydanticSerializationError:
                # A judge's words may hold half a character, and a scorer's details anything.
                content = content.model_dump(warnings=False)
        plain = json.loads(json.dumps(content, default=str), parse_constant=lambda _: None)
        return json.dumps(plain, separators=(",", ":")).encode()


def no_engines() -> Mapping[str, str]:
    """No engine has a problem where none was started."""
    return {}


def make_app(
    loaded: LoadedRecipe,
    rewards: Rewards,
    token: str | None = None,
    engines: Callable[[], Mapping[str, str]] = no_engines,
) -> FastAPI:
    """The application.

    Args:
        loaded: The recipe; its `server` section holds the limits.
        rewards: Made of it.
        token: What requests must carry; None lets all in.
        engines: Why engines do not answer, by name.
    """
    app = FastAPI(title="rlrules", summary=f"Rewards of {loaded.recipe.name}", docs_url=None, redoc_url=None)
    server = served(loaded)
    admission = Admission(server.max_in_flight, server.max_queue)
    metrics = Metrics(rewards.judges, admission)
    app.state.admission = admission
    app.state.service = Service(loaded, rewards)
    app.state.metrics = metrics
    app.state.health = Health(rewards, engines)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(Invalid, _invalid)
    app.add_middleware(
        Gate,
        admission=admission,
        token=token,
        max_body_bytes=int(server.max_body_mib * 2**20),
        deadline_s=server.deadline_s,
        scoring=SCORING,
        others=OTHERS,
        count=metrics.answered,
    )
    _add_scoring(app)
    _add_others(app)
    return app


async def _deadline(
    seconds: Annotated[
        float | None,
        Header(alias=DEADLINE_HEADER, gt=0, description="Seconds that the client waits; at most the server's own."),
    ] = None,
) -> None:
    """Read by the gate; here it is documented, and refused where it is no number."""


def _add_scoring(app: FastAPI) -> None:
    waits = [Depends(_deadline)]

    @app.post("/v1/score", response_model=wire.ScoreResponse, responses=_REFUSALS, dependencies=waits)
    async def score(request: Request, body: wire.ScoreRequest) -> Response:
        """Score groups: typed scores of every reward, and what the objective makes of them."""
        answered = await _scored(request, await _service(request).groups(body))
        if answered is None:
            return Response(status_code=_GONE)
        groups = [wire.GroupOut.of(group, advantages) for group, advantages in answered]
        return Json(wire.ScoreResponse.model_construct(groups=groups))

    @app.post("/get_reward", response_model=wire.OpenRlhfResponse, responses=_OPENRLHF, dependencies=waits)
    async def get_reward(request: Request, body: wire.OpenRlhfRequest) -> Response:
        """OpenRLHF's protocol; the completion is the query without its prompt."""
        answered = await _scored(request, await _service(request).items(body))
        if answered is None:
            return Response(status_code=_GONE)
        rewards = [group.outcome.rewards[0] for group, _ in answered]
        logs = _extra_logs(answered)
        if None not in rewards:
            return Json(wire.OpenRlhfResponse(rewards=rewards, scores=rewards, extra_logs=logs))
        told = wire.Unscored(rewards=rewards, scores=rewards, extra_logs=logs, detail=_reasons(answered))
        return Json(told, 503, {"retry-after": "1"})

    @app.post("/score", response_model=float, responses=_SINGLE, dependencies=waits)
    async def score_single(request: Request, body: wire.SingleRequest) -> Response:
        """Score one item: prompt, response, label. The answer is the reward, a bare number, as slime takes it."""
        answered = await _scored(request, await _service(request).item(body))
        if answered is None:
            return Response(status_code=_GONE)
        reward = answered[0][0].outcome.rewards[0]
        if reward is None:
            return Json({"detail": _reasons(answered)}, 503, {"retry-after": "1"})
        return Json(reward)


def _add_others(app: FastAPI) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @app.get("/ready", response_model=wire.Readiness, responses={503: {"model": wire.Readiness}})
    async def ready(request: Request) -> Response:
        """All judges answer a question, and the server is not about to end."""
        state = request.app.state
        problems = {"server": state.admission.closed} if state.admission.closed else await state.health.problems()
        made = wire.Readiness(ready=not problems, problems=problems)
        return Json(made, 503 if problems else 200)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics(request: Request) -> Response:
        """Counts for Prometheus."""
        return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/info", response_model=wire.Info)
    async def info(request: Request) -> Response:
        """What is served."""
        return Json(_service(request).info())


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _scored(request: Request, groups: list[Group]) -> list[Answered] | None:
    """Score and count; None where the client has gone meanwhile."""
    if await request.is_disconnected():
        return None
    remaining = request.state.until - asyncio.get_running_loop().time()
    answered = await _service(request).score(groups, remaining)
    request.app.state.metrics.scored(group for group, _ in answered)
    return answered


def _extra_logs(answered: Sequence[Answered]) -> dict[str, list[float]]:
    logs: dict[str, list[float]] = {}
    for name in answered[0][0].scored:
        values = [group.scored[name].scores[0].value for group, _ in answered]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            logs[name] = known
    return logs


def _reasons(answered: Sequence[Answered]) -> str:
    """Why items are unscored, in one line."""
    told = [
        f"item {number}: " + "; ".join(f"{name}: {reason}" for name, reason in group.reasons(0).items())
        for number, (group, _) in enumerate(answered)
        if group.outcome.rewards[0] is None
    ]
    return " | ".join(told[:_PROBLEMS_SHOWN])


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Without the input, which may be large and hold anything.
    shown = [{key: entry[key] for key in ("loc", "msg", "type")} for entry in error.errors()[:_PROBLEMS_SHOWN]]
    return Json({"detail": shown}, 422)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, Invalid)
    return Json({"detail": [{"loc": error.place, "msg": error.told, "type": "unscorable"}]}, 422)
