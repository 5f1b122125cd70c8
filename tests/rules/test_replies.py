"""Reading models' JSON: what is accepted, what is repaired, what is given up."""

import asyncio

import pytest

from rlrules.judges import Answer, JudgeFailure, Question
from rlrules.judges.templates import render
from rlrules.judges.verdict import thought_and_answer
from rlrules.rules.candidates import read_statements
from rlrules.rules.merge_reply import read_partition
from rlrules.rules.replies import REPAIRS, Reply, Unreadable, ask_json
from tests.rules.scripted import scripted

GOOD = '["It cites [1] a source.", "It is short."]'
QUESTION = Question(({"role": "user", "content": "Give me rules."},), "extract@1")


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```",
        f"Here [as you asked] are the rules: {GOOD}",
        f"{GOOD}\nI hope [1] that helps.",
        f'{{"rules": {GOOD}}}',
        GOOD.replace(", ", ",\n\n  "),
    ],
)
def test_an_array_is_found_in_what_surrounds_it(text: str) -> None:
    assert read_statements(text) == ["It cites [1] a source.", "It is short."]


def test_an_empty_array_is_an_answer() -> None:
    assert read_statements("[]") == []
    assert read_statements("No rules here: []") == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no complete JSON array"),
        ("It is short.", "no complete JSON array"),
        ('["cut off", "in the mid', "no complete JSON array"),
        ('["holds [] brackets", "cut', "no complete JSON array"),
        ('[["a"], ["b"', "no complete JSON array"),
        ('["a", 5]', "item 2 of the array is no string but int"),
        ('["a", null]', "item 2 of the array is no string but NoneType"),
        ('[{"rule": "a"}]', "item 1 of the array is no string but dict"),
        ('["a", " "]', "item 2 of the array is an empty string"),
    ],
)
def test_anything_else_is_unreadable(text: str, problem: str) -> None:
    with pytest.raises(Unreadable, match=problem):
        read_statements(text)


def ask(*replies: str | JudgeFailure | Answer) -> tuple[Reply[list[str]], list[Question]]:
    queue = list(replies)
    judge, backend = scripted(lambda _: queue.pop(0))
    return asyncio.run(ask_json(judge, QUESTION, read_statements)), backend.questions


def test_a_bad_reply_is_shown_and_repaired() -> None:
    reply, asked = ask("Be short <|im_end|>", GOOD)
    assert (reply.status, reply.value, reply.asked) == ("repaired", ["It cites [1] a source.", "It is short."], 2)
    first, bad, repair = asked[1].messages
    assert first == QUESTION.messages[0]
    assert bad["role"] == "assistant" and str(bad["content"]).startswith("Be short <\u200b|im_end|>")
    assert "no complete JSON array" in str(repair["content"])
    assert asked[1].template.startswith("extract@1+repair@")


def test_after_two_repairs_a_reply_is_kept_as_failed() -> None:
    reply, asked = ask("one", "two", "three", GOOD)
    assert (reply.status, reply.value, reply.raw, len(asked)) == ("failed", None, "three", REPAIRS + 1)
    assert asked[1].messages != asked[2].messages


def test_what_is_cut_off_says_so() -> None:
    reply, _ = ask(*[Answer('["a', finish_reason="length")] * 3)
    assert reply.problem == "it holds no complete JSON array of strings (the reply was cut off at the length limit)"


def test_a_judge_that_fails_leaves_the_item_for_another_run() -> None:
    failure = JudgeFailure("connection", "http://x: gone")
    reply, asked = ask(failure)
    assert (reply.status, len(asked)) == ("unanswered", 1)
    assert "gone" in reply.problem
    assert ask("bad", failure)[0].status == "unanswered"
    # A repair that does not fit the context is no reason to ask the first question again.
    reply, _ = ask("bad", JudgeFailure("overflow", "too long"))
    assert (reply.status, reply.raw) == ("failed", "bad")


def test_thoughts_are_not_part_of_the_reply() -> None:
    reply, _ = ask('<think>Perhaps ["draft"]?</think>\n["final"]')
    assert reply.value == ["final"]


@pytest.mark.parametrize(
    ("answer", "thought", "visible"),
    [
        (Answer("Because.", reasoning=" Hm. "), "Hm.", "Because."),
        (Answer("<think>Hm.</think>Because."), "Hm.", "Because."),
        (Answer("Hm.</think>\n\nBecause."), "Hm.", "Because."),
        (Answer("<think>Hm, well", finish_reason="length"), "Hm, well", ""),
        (Answer("Because."), "", "Because."),
    ],
)
def test_thought_and_answer_wherever_they_stand(answer: Answer, thought: str, visible: str) -> None:
    assert thought_and_answer(answer) == (thought, visible)


def test_a_partition_names_every_number_once() -> None:
    rules = '[{"text": "R", "members": [1, 3]}, {"text": "own", "members": [2]}]'
    text = f'{{"rules": {rules}, "dropped": [{{"number": 4, "reason": "no rule"}}]}}'
    made = read_partition(f"Sure:\n```json\n{text}\n```", 5)
    assert made.rules == (("R", (1, 3)), ("", (2,)), ("", (5,)))
    assert (made.dropped, made.unnamed) == ({4: "no rule"}, (5,))


@pytest.mark.parametrize(
    ("text", "problem", "rules"),
    [
        (
            '{"rules": [{"text": "R", "members": [1, 9]}]}',
            "9 is no number from 1 to 3",
            (("", (1,)), ("", (2,)), ("", (3,))),
        ),
        (
            '{"rules": [{"text": "R", "members": [1, 2]}, {"text": "S", "members": [2, 3]}]}',
            "number 2 stands in more than one place",
            (("R", (1, 2)), ("", (3,))),
        ),
        (
            '{"rules": [{"text": "new", "members": []}]}',
            "has no members of its own",
            (("", (1,)), ("", (2,)), ("", (3,))),
        ),
        ('{"rules": [{"text": " ", "members": [1, 2]}]}', "has no text", (("", (1,)), ("", (2,)), ("", (3,)))),
        ('{"rules": [{"text": "R", "members": [1, true]}]}', "True is no number", (("", (1,)), ("", (2,)), ("", (3,)))),
        ('{"rules": [], "dropped": [{"number": 1}]}', 'no "number" and "reason"', (("", (1,)), ("", (2,)), ("", (3,)))),
    ],
)
def test_of_an_unsound_partition_the_sound_part_is_salvaged(
    text: str, problem: str, rules: tuple[tuple[str, tuple[int, ...]], ...]
) -> None:
    with pytest.raises(Unreadable, match=problem) as error:
        read_partition(text, 3)
    made = error.value.salvage
    assert made.rules == rules  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["", "[]", '{"members": [1]}', '{"rules": [{"text": "a", "members": [1'])
def test_without_a_partition_there_is_nothing_to_salvage(text: str) -> None:
    with pytest.raises(Unreadable) as error:
        read_partition(text, 3)
    assert error.value.salvage is None


def test_prompts_say_what_they_must() -> None:
    reason, _ = render("reason", conversation="C", first="F", second="S", winner="B")
    assert "preferred assistant B" in reason
    for aspect in ("clear", "coherent", "help", "tone", "quality"):
        assert aspect in reason
    extract, _ = render("extract", text="T", winner="B", most=12)
    for demand in ("JSON array", "at most 12", "objectively", "code block", "[]"):
        assert demand in extract
    merge, _ = render("merge", rules="R", count=9)
    for demand in ("9 in all", "same", "exactly one place", "code block"):
        assert demand in merge
