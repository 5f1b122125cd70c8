"""Grades of reasoning: what is asked, what is read, and that nothing unread becomes a number."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from rlrules.judges import Answer, JudgeFailure, LocalJudgeConfig, Question, build_judge
from rlrules.judges.thinking import (
    GRADE_TOKENS,
    LEVELS,
    Graded,
    grade_thinking,
    level_of,
    read_grade,
    thinking_messages,
)
from rlrules.types import Message
from tests.fakes.judge import Reply, scripted_judge

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/trust_grpo.json").read_text("utf-8"))
PROMPT: tuple[Message, ...] = (
    {"role": "system", "content": "Think first, then answer in tags."},
    {"role": "user", "content": "What is 6 times 7?"},
)


def likely(**shares: float) -> dict[str, float]:
    names = {"point": ".", "nought": "0", "one": "1"}
    return {names.get(name, name.removeprefix("d")): math.log(share) for name, share in shares.items()}


def graded(*replies: Reply) -> tuple[Graded, list[Question]]:
    waiting = iter(replies)
    judge, backend = scripted_judge(lambda question: next(waiting))
    return asyncio.run(grade_thinking(judge, PROMPT, (), "Six sevens are 42.")), backend.questions


@pytest.mark.parametrize(("text", "expected"), GOLDEN["grades"])
def test_grades_are_read_strictly(text: str, expected: float | None) -> None:
    assert read_grade(text) == expected
    found, _ = graded(text)
    if expected is None:
        assert found.outcome == "unparsed" and math.isnan(found.value) and found.reason
    else:
        assert (found.outcome, found.value) == ("value", expected)


def test_the_last_tag_counts_after_a_thought() -> None:
    assert read_grade("<think>0.1</think> <answer>0.2</answer> or <answer>0.3</answer>") == 0.3
    assert read_grade("<answer>0.3</answer> <answer>many</answer>") is None
    assert read_grade("٠.٥") is None


def test_what_a_judge_is_asked() -> None:
    messages, version = thinking_messages(PROMPT, (), "Six sevens are 42.")
    system, user = (str(message["content"]) for message in messages)
    assert version.startswith("thinking_system@") and all(level in system for level in LEVELS)
    assert user.index("What is 6 times 7?") < user.index("Six sevens are 42.")
    assert "Think first" not in system + user
    assert not any(word in user for word in ("User:", "Assistant:", "System:", "<answer>", "<think>"))
    # What a group shares comes first.
    other = str(thinking_messages(PROMPT, (), "Something else.")[0][1]["content"])
    shared = user.index("The reasoning to be graded:")
    assert user[:shared] == other[:shared] and "What is 6 times 7?" in user[:shared]


def test_images_come_before_the_question() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    prompt: tuple[Message, ...] = (
        {"role": "user", "content": [{"type": "image", "reference": "a.png"}, {"type": "text", "text": "What is it?"}]},
    )
    content: Any = thinking_messages(prompt, [picture], "A dog.")[0][1]["content"]
    assert content[0] == picture and [part["type"] for part in content] == ["image_url", "text"]
    assert "What is it?" in content[1]["text"] and "[image]" not in content[1]["text"]


def test_of_several_turns_it_is_told_whose_they_are() -> None:
    chat: tuple[Message, ...] = (*PROMPT, {"role": "assistant", "content": "42"}, {"role": "user", "content": "Why?"})
    assert "Assistant:\n" in str(thinking_messages(chat, (), "So.")[0][1]["content"])


def test_the_grade_is_the_mean_over_the_levels_probabilities() -> None:
    steps = [
        ("0", likely(nought=0.6, one=0.15, The=0.25)),  # Without the word: 0.8 and 0.2.
        (".", likely(point=1.0)),
        ("7", likely(d7=0.5, d2=0.5)),
    ]
    found, questions = graded(Answer("0.7", steps=steps))
    assert found.value == pytest.approx(0.2 * 1.0 + 0.4 * 0.7 + 0.4 * 0.2) and found.said == 0.7
    assert found.probabilities["0.2"] == pytest.approx(0.4) and sum(found.probabilities.values()) == pytest.approx(1)
    assert len(questions) == 1 and questions[0].labels == LEVELS and questions[0].max_tokens == GRADE_TOKENS


def test_what_it_might_have_begun_otherwise_is_asked_for() -> None:
    first = Answer(
        "1.0", steps=[("1", likely(one=0.7, nought=0.3)), (".", likely(point=1.0)), ("0", likely(nought=1.0))]
    )
    behind = Answer(".5", steps=[(".", likely(point=1.0)), ("5", likely(d5=0.5, d1=0.5))])
    found, questions = graded(first, behind)
    assert found.value == pytest.approx(0.7 + 0.15 * 0.5 + 0.15 * 0.1)
    assert questions[1].continues and questions[1].messages[-1]["content"] == "0"
    assert questions[1].labels == tuple(f".{tenth}" for tenth in range(10))
    refused = JudgeFailure("rejected", "no such thing")
    assert graded(first, refused)[0].value == 1


def test_whole_labels_and_a_leading_blank() -> None:
    assert graded(Answer("0.8", logprobs=likely(**{"d0.8": 0.6, "d0.4": 0.2})))[0].value == pytest.approx(0.7)
    steps = [(" 0", {" 0": 0.0}), (".", {".": 0.0}), ("3", {"3": 0.0})]
    assert graded(Answer(" 0.3", steps=steps))[0].value == pytest.approx(0.3)


def test_a_grade_in_a_tag_is_taken_as_it_is() -> None:
    steps = [("<", {"<": -0.1, "0": -3.0}), ("answer", {"answer": 0.0})]
    found, _ = graded(Answer("<answer>0.85</answer>", steps=steps))
    assert found.value == 0.85 and not found.probabilities and level_of(found.value) == "0.9"


def test_a_failed_judge_is_no_number() -> None:
    found, _ = graded(JudgeFailure("timeout", "no answer within 30 s"))
    assert found.outcome == "failed" and math.isnan(found.value) and "no answer within 30 s" in found.reason
    cut, _ = graded(Answer("Well, let me", finish_reason="length"))
    assert cut.outcome == "truncated" and math.isnan(cut.value)


def test_long_reasoning_loses_its_middle() -> None:
    def reply(question: Question) -> Reply:
        size = len(str(question.messages[-1]["content"]))
        return "0.5" if size < 2000 else JudgeFailure("overflow", "too long", 2000, size)

    judge, _ = scripted_judge(reply)
    found = asyncio.run(grade_thinking(judge, PROMPT, (), "so " * 2000))
    assert found.value == 0.5 and found.cut


def test_a_judge_in_this_process_reads_no_images() -> None:
    judge = build_judge("j", LocalJudgeConfig(model="none", cache=False))
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    found = asyncio.run(grade_thinking(judge, PROMPT, [picture], "A dog."))
    assert found.outcome == "failed" and "reads text only" in found.reason
