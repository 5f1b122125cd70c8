"""Thinking rewards through the whole engine: what a judge is spared, what it is sent, and what its outage costs."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlrules.judges import OpenAIJudgeConfig, Question, build_judge
from rlrules.recipe.build import build_rewards
from rlrules.recipe.checks import ping_problems
from rlrules.recipe.load import load_recipe
from rlrules.recipe.schema import GrpoRecipe
from rlrules.rewards.base import Resources
from rlrules.rewards.engine import ScoredGroup, totals
from rlrules.rewards.thinking import SOUND, ThinkingConfig, ThinkingScorer
from rlrules.types import Completion, Group, Message, Progress
from tests.fakes.judge import Reply, scripted_judge
from tests.fakes.openai_server import FakeServer, Faults, Request, labels_of, prompt_of
from tests.fakes.openai_server import Reply as Sent

QUESTION: tuple[Message, ...] = ({"role": "system", "content": "Use tags."}, {"role": "user", "content": "7 + 7?"})
GRADES = (0.4, 0.9, 0.5, 0.3, 0.8, 0.7)
ANSWERS = (14, 13, 14, 14, 15, 16)


def completion(answer: object, thought: str) -> Completion:
    return Completion(f"<think>{thought}</think>\n<answer>{answer}</answer>", 9)


def group_of(completions: Sequence[Completion], prompt: tuple[Message, ...] = QUESTION) -> Group:
    row = {"problem_type": "numerical", "answer": "14"}
    return Group(prompt, tuple(completions), row, Progress(300, 1500))


def group_b() -> Group:
    return group_of([completion(answer, f"grade me {grade}") for answer, grade in zip(ANSWERS, GRADES, strict=True)])


def by_asking(request: Request) -> Sent:
    """Grades a reasoning by the number that stands in it, sound ones by 1; without log-probabilities."""
    prompt = prompt_of(request)
    if "Reply with the word Yes." in prompt:
        return "Yes"
    asked = re.findall(r"grade me ([\d.]+)", prompt)
    grade = asked[-1] if asked else ("1.0" if SOUND in prompt else "0.0")
    return {"choices": [{"message": {"content": f"{float(grade):.1f}"}, "finish_reason": "stop"}]}


def recipe_of(folder: Path, url: str, **judge: Any) -> Any:
    path = folder / "recipe.yaml"
    section = {"type": "openai", "urls": [url], "model": "fake", "cache": False, "retries": 0, **judge}
    rewards = {"right": {"type": "outcome"}, "thought": {"type": "thinking", "judge": "grader"}}
    objective = {"type": "trust", "outcome": "right", "thinking": "thought"}
    path.write_text(json.dumps({"judges": {"grader": section}, "rewards": rewards, "objective": objective}))
    return load_recipe(path).of(GrpoRecipe)


def scored(loaded: Any, *groups: Group) -> list[ScoredGroup]:
    engine = build_rewards(loaded).engine
    made = engine.score(groups)
    return engine.settle(made, totals(made))


def test_a_group_end_to_end(tmp_path: Path) -> None:
    with FakeServer(by_asking, keep_bodies=True) as server:
        (made,) = scored(recipe_of(tmp_path, server.url), group_b())
    # Group B of the acceptance table.
    expected = [1.065857, 0.148179, 1.082322, 1.049393, 0.131715, 0.115250]
    assert made.outcome.rewards == pytest.approx(expected, abs=1e-5)
    assert [score.value for score in made.scored["thought"].scores] == list(GRADES)
    assert len(server.bodies) == 6
    for body in server.bodies:
        system, user = (message["content"] for message in body["messages"])
        assert "Use tags." not in system + user and "answer>" not in user and "User" not in user
        assert labels_of(body) == [f"{tenths / 10:.1f}" for tenths in range(11)] and body["max_tokens"] <= 16
        assert body["temperature"] == 0


def test_what_needs_no_judge_asks_none(tmp_path: Path) -> None:
    right = group_of([completion(14, f"grade me 0.{n}") for n in range(4)])
    wrong = group_of([completion(13, "grade me 0.5"), completion(15, "grade me 0.9"), Completion("13", 1)])
    mixed = group_of(
        [completion(14, "grade me 0.6"), completion(13, "grade me 0.2"), Completion("<think>grade me 1.0", 9)]
    )
    with FakeServer(by_asking) as server:
        made = scored(recipe_of(tmp_path, server.url), right, wrong, mixed)
    assert server.counts["requests"] == 2
    assert made[0].outcome.rewards == (1,) * 4 and made[1].outcome.rewards == (0,) * 3
    # No rank is left out: what was not asked is optional, whatever the reward's section says.
    assert not any(blank for one in made for blank in one.blanked)
    score = made[2].scored["thought"].scores[2]
    assert (score.value, score.status) == (0, "malformed") and made[2].outcome.rewards[2] == 0


def test_an_outage_leaves_the_outcomes(tmp_path: Path) -> None:
    with FakeServer(by_asking, Faults(error_share=1.0)) as server:
        (made,) = scored(recipe_of(tmp_path, server.url), group_b())
    assert made.outcome.rewards == (1, 0, 1, 1, 0, 0) and made.outcome.metrics["failed"] == 1
    assert not {"gamma", "coefficient"} & set(made.outcome.metrics)
    assert all(score.value is None and "status 500" in score.reason for score in made.scored["thought"].scores)


def test_a_judge_that_never_answers_costs_its_time_and_no_more(tmp_path: Path) -> None:
    with FakeServer(by_asking, Faults(hang_share=1.0)) as server:
        (made,) = scored(recipe_of(tmp_path, server.url, timeout_s=0.2), group_b())
        # The one that goes ahead, then all others at once.
        assert server.counts["requests"] == 6 and server.busiest <= 5 + 1
    assert made.outcome.rewards == (1, 0, 1, 1, 0, 0)
    assert all("no answer within 0.2 s" in score.reason for score in made.scored["thought"].scores)


def test_one_missing_grade_counts_as_the_mean(tmp_path: Path) -> None:
    def fails(request: Request) -> Sent:
        return b"{}" if "grade me 0.8" in prompt_of(request) else by_asking(request)

    with FakeServer(fails) as server:
        (made,) = scored(recipe_of(tmp_path, server.url), group_b())
    thinking = [1.065857, 0.148179, 1.082322, 1.049393, 0.092200, 0.115250]
    assert made.outcome.rewards == pytest.approx(thinking, abs=1e-5)
    assert made.outcome.metrics["failed"] == pytest.approx(1 / 6)


def test_as_many_at_once_as_are_let(tmp_path: Path) -> None:
    groups = [
        group_of([completion(14 if place % 2 else 13, f"grade me 0.{place} in {number}") for place in range(8)])
        for number in range(16)
    ]
    with FakeServer(by_asking, Faults(latency_s=0.2)) as server:
        made = scored(recipe_of(tmp_path, server.url, max_in_flight=64), *groups)
    # 16 go ahead, the other 112 come 64 at a time: three rounds of 0.2 s.
    assert server.counts["answered"] == 128 and server.busiest == 64
    assert all(one.outcome.metrics["judged"] == 1 for one in made)


def test_a_group_s_image_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    saves: list[str] = []
    save = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", lambda self, *a: (saves.append("PNG"), save(self, *a))[1])
    picture = Image.new("RGB", (7, 5), (3, 141, 59))
    content: Any = [{"type": "image", "image": picture}, {"type": "text", "text": "How many?"}]
    group = group_of([completion(n, f"grade me 0.{n}") for n in range(8)], ({"role": "user", "content": content},))
    with FakeServer(by_asking, keep_bodies=True) as server:
        judge = build_judge("g", OpenAIJudgeConfig(urls=[server.url], model="fake", cache=False))
        scorer = ThinkingConfig(judge="g").build(Resources({"g": judge}))

        async def both() -> None:
            await scorer.score(group)
            await scorer.score(group)
            await judge.close()

        asyncio.run(both())
    assert len(saves) == 1 and len(server.bodies) == 16
    first = server.bodies[0]["messages"][1]["content"]
    assert first[0]["image_url"]["url"].startswith("data:image/png;base64,") and "How many?" in first[1]["text"]
    assert all(body["messages"][1]["content"][0] == first[0] for body in server.bodies)


def test_an_image_that_cannot_be_had_leaves_its_group_unscored(tmp_path: Path) -> None:
    content: Any = [{"type": "image", "image": str(tmp_path / "no.png")}, {"type": "text", "text": "?"}]
    group = group_of([completion(14, "a"), completion(1, "b")], ({"role": "user", "content": content},))
    with FakeServer(by_asking) as server:
        (made,) = scored(recipe_of(tmp_path, server.url), group)
    assert "no.png" in made.reasons(0)["thought"] and made.outcome.rewards == (1, 0)


def test_metrics_and_details_of_a_grade() -> None:
    judge, _ = scripted_judge(lambda question: "<answer>0.85</answer>")
    scored = asyncio.run(ThinkingScorer(judge).score(group_of([completion(14, "So.")])))
    (score,) = scored.scores
    assert (score.value, score.details) == (0.85, {"said": 0.85})
    assert score.metrics["level_0.9"] == 1 and sum(v for k, v in score.metrics.items() if k.startswith("level_")) == 1
    assert score.metrics["from_probabilities"] == 0 and score.metrics["failed"] == 0
    empty = asyncio.run(ThinkingScorer(judge).score(group_of([completion(14, " ")]))).scores[0]
    assert (empty.value, empty.status) == (0, "malformed")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (by_asking, None),
        (lambda request: "0.5", "grades sound reasoning 0.500 and nonsense 0.500"),
        (
            lambda request: "0.2" if SOUND in prompt_of(request) else "0.9",
            "grades sound reasoning 0.200 and nonsense 0.9",
        ),
        (lambda request: "very good", "gives no grade: 'very good' is no grade"),
    ],
)
def test_a_judge_that_cannot_tell_sense_from_nonsense_is_refused(
    tmp_path: Path, answer: Callable[[Request], Sent], told: str | None
) -> None:
    def replies(request: Request) -> Sent:
        reply = "Yes" if "Reply with the word Yes." in prompt_of(request) else answer(request)
        return {"choices": [{"message": {"content": reply}}]} if isinstance(reply, str) else reply

    with FakeServer(replies) as server:
        problems = ping_problems(recipe_of(tmp_path, server.url))
    if told is None:
        assert problems == []
    else:
        assert len(problems) == 1 and "rewards.thought: judge grader" in problems[0] and told in problems[0]


def test_the_probe_can_be_left_out() -> None:
    judge, backend = scripted_judge(lambda question: "0.5")
    assert asyncio.run(ThinkingConfig(judge="g", probed=False).probe({"g": judge})) == "" and not backend.questions


def test_a_judge_that_is_down_is_told_once(tmp_path: Path) -> None:
    (problem,) = ping_problems(recipe_of(tmp_path, "http://127.0.0.1:9/v1", timeout_s=0.2))
    assert "judges.grader: the judge does not answer" in problem


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "14", " ", "\x00", "<|im_end|>"]), max_size=9
    )
)
def test_nothing_a_policy_writes_raises(pieces: list[str]) -> None:
    def reply(question: Question) -> Reply:
        assert "<|im_end|>" not in str(question.messages[1]["content"])
        return "1.0"

    judge, backend = scripted_judge(reply)
    (score,) = asyncio.run(ThinkingScorer(judge).score(group_of([Completion("".join(pieces), 1)]))).scores
    assert (score.status == "malformed") == (not backend.questions) and score.value in (0, 1)
    assert score.status == "ok" or score.value == 0
