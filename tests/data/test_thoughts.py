"""Thoughts to imitate: the gates one by one, what is kept of a prompt, and what is asked again."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.data.conversations import FileConversationsConfig
from rlrules.data.thought_gates import checks, depth, mentions
from rlrules.data.thoughts import Sample, Thoughts, ThoughtsConfig, build_thoughts, chosen, read_grade
from rlrules.errors import DataError, JudgeError
from rlrules.judges import Answer, JudgeFailure, Question
from rlrules.models import DEFAULT_MODEL
from tests.fakes.judge import Reply, scripted_judge
from tests.fakes.openai_server import FakeServer

pytest.importorskip("if_verifiable", reason="if-verifiable is not installed: pip install 'rlrules[ifeval]'")

MODEL = {"type": "openai", "urls": ["http://x/v1"], "model": "policy", "temperature": 1.0, "cache": False}
WORDS = ("length_constraints:number_words", {"relation": "less than", "num_words": 9})
COMMA: tuple[str, dict[str, Any]] = ("punctuation:no_comma", {})
PLAN = (
    "They want fewer than nine words and no comma in it. So I keep it short and leave out whatever nobody asked for. "
)
CHECK = "Now let me count the words: six, which is below 9. Good, that is all there is to it, I can answer."


def filled(extra: int = 0) -> str:
    return PLAN + "I think. " * extra + CHECK


def told(thought: str = "", answer: str = "Six words are enough for this.") -> str:
    return f"<think>\n{thought or filled()}\n</think>\n\n{answer}"


def data(folder: Path, count: int = 1) -> str:
    rows = [
        {
            "key": n,
            "prompt": f"Say {n}.",
            "instruction_id_list": [COMMA[0], WORDS[0]],
            "kwargs": [COMMA[1], WORDS[1]],
        }
        for n in range(count)
    ]
    path = folder / "pass.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def build(
    folder: Path,
    reply: Callable[[Question], Reply],
    grade: Callable[[Question], Reply] | None = None,
    count: int = 1,
    **fields: Any,
) -> tuple[Thoughts, list[Question]]:
    made = {"model": MODEL, "tokenizer": "x", "data": {"path": data(folder, count)}, "samples": 2, "min_thought": 20}
    config = ThoughtsConfig.model_validate(made | fields)
    model, backend = scripted_judge(reply)
    judge = scripted_judge(grade)[0] if grade else None
    rows = config.data.load(len).rows
    found = asyncio.run(build_thoughts(config, rows, model, judge, lambda text: len(text.split()), folder / "out"))
    counts = found.counts
    # What comes in comes out.
    rejected = sum(number for name, number in counts.items() if name.startswith("rejected"))
    assert counts["samples"] == counts["accepted"] + counts["accepted, not kept"] + rejected
    assert counts["samples"] == len(read(folder, "accepted")) + len(read(folder, "rejected"))
    return found, backend.questions


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "name", "given", "expected"),
    [
        ("under 40 words", *("length_constraints:number_words", {"num_words": 40, "relation": "less than"}), True),
        ("under 140 words", *("length_constraints:number_words", {"num_words": 40, "relation": "less than"}), False),
        ("it says at least one", "x:y", {"relation": "at least", "num": 2}, False),
        ("three bullets then", "detectable_format:number_bullet_lists", {"num_bullets": 3}, True),
        ("要写三段", "zh:paragraph_count", {"low": 3, "high": 3}, True),
        ("the word Garden", "keywords:existence", {"keywords": ["garden", "river"]}, True),
        ("the word", "keywords:existence", {"keywords": ["garden"]}, False),
        ("No commas!", *COMMA, True),
        ("nothing", *COMMA, False),
        ("all upper-case", "change_case:english_capital", {}, True),
        ("no whitespace", "format:no_whitespace", {}, True),
        ("spaces", "format:no_whitespace", {}, False),
    ],
)
def test_what_a_thought_speaks_of(text: str, name: str, given: dict[str, Any], expected: bool) -> None:
    assert mentions(text, name, given) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Count: 9 words.", True),
        ("nine? yes, that is verified", True),
        ("There are 9 words.", False),  # Nothing is checked.
        ("Let me count. There are 19 words.", False),  # Another number.
        ("I check it. " + "x" * 100 + " 9", False),  # Too far.
    ],
)
def test_what_a_thought_checks(text: str, expected: bool) -> None:
    assert checks(text, [COMMA, WORDS]) == expected


def test_without_anything_to_count_a_thought_still_checks() -> None:
    assert checks("I check for commas.", [COMMA]) and not checks("No commas.", [COMMA])


def test_each_half_has_its_part() -> None:
    good = depth(PLAN + CHECK, 50, [COMMA, WORDS], 50, 60, 0.8)
    assert (good.length, good.preview, good.self_check, good.mentioned) == (True, True, True, 1.0)
    backwards = depth(CHECK + PLAN, 49, [COMMA, WORDS], 50, 60, 0.8)
    assert (backwards.length, backwards.preview, backwards.self_check) == (False, False, False)
    assert not depth("a", 61, [COMMA], 50, 60, 0).length
    assert depth("no comma, then " + CHECK, 50, [COMMA, ("zh:opening", {"text": "好"})], 1, 60, 0.5).preview


def test_an_accepted_row_can_be_learned_from(tmp_path: Path) -> None:
    found, questions = build(tmp_path, lambda question: told())
    assert [question.draw for question in questions] == [0, 1]
    assert found.accepted == 1 and found.counts["accepted, not kept"] == 1
    [row] = read(tmp_path, "accepted")
    assert row["completion"] == told() and row["prompt"] == [{"role": "user", "content": "Say 0."}]
    assert row["followed"] == {COMMA[0]: True, WORDS[0]: True} and row["key"] == 0
    [conversation] = FileConversationsConfig(path=str(tmp_path / "out" / "accepted.jsonl")).load(len).items
    assert conversation.answer == told()
    [other] = read(tmp_path, "rejected")
    assert (other["outcome"], other["problem"]) == ("not kept", "the prompt has longer thoughts that are kept")


def test_a_thought_that_the_server_sets_apart(tmp_path: Path) -> None:
    build(tmp_path, lambda question: Answer("Six words are enough for this.", reasoning=filled()))
    assert read(tmp_path, "accepted")[0]["completion"] == told()


@pytest.mark.parametrize(
    ("text", "outcome", "problem"),
    [
        (told(answer="One, two."), "wrong", "not followed: punctuation:no_comma"),
        (told(answer="a " * 9), "wrong", "not followed: length_constraints:number_words"),
        (told("Fine."), "shallow", "of the thought: length, preview, self_check"),
        (told(PLAN * 3), "shallow", "of the thought: self_check"),
        (told(CHECK * 2), "shallow", "of the thought: preview"),
        (told(filled(600)), "shallow", "of the thought: length"),
        ("<think>" + filled(), "cut off", "the answer is cut off"),
        ("Six words are enough for this.", "shallow", "of the thought: length, preview, self_check"),
    ],
)
def test_each_gate_says_why(tmp_path: Path, text: str, outcome: str, problem: str) -> None:
    found, _ = build(tmp_path, lambda question: text, samples=1, max_length=1000)
    assert found.accepted == 0
    [row] = read(tmp_path, "rejected")
    assert (row["outcome"], row["problem"], row["completion"]) == (outcome, problem, text)


def test_a_model_that_does_not_think(tmp_path: Path) -> None:
    open_gates = {"min_thought": 0, "preview": 0, "self_check": False}
    found, _ = build(tmp_path, lambda question: "Six words are enough for this.", samples=1, **open_gates)
    assert found.accepted == 1
    assert read(tmp_path, "accepted")[0]["completion"] == "Six words are enough for this."


def test_the_fluency_gate(tmp_path: Path) -> None:
    def grade(question: Question) -> Reply:
        text = str(question.messages[0]["content"])
        assert "Say " in text and "Six words" in text and "They want fewer" not in text
        if "Say 3." in text:
            return JudgeFailure("timeout", "too slow")
        if "Say 4." in text:
            return "no idea"
        grades = {"Say 0.": "[[6]]", "Say 1.": "[[5]]", "Say 2.": "[[2]] no: [[10]]"}
        return next(said for prompt, said in grades.items() if prompt in text)

    found, _ = build(tmp_path, lambda question: told(), grade, 5, samples=1)
    assert {row["key"]: row["grade"] for row in read(tmp_path, "accepted")} == {0: 6, 2: 10}
    problems = {row["key"]: (row["outcome"], row["problem"]) for row in read(tmp_path, "rejected")}
    assert problems[1] == ("not fluent", "grade 5 of at least 6")
    assert problems[3] == ("ungraded", "verifier: too slow")
    assert problems[4] == ("ungraded", "verifier: no grade in 'no idea'")
    # Only what has no grade is asked again.
    found, questions = build(tmp_path, lambda question: told(), lambda question: "[[8]]", 5, samples=1)
    assert sorted(str(question.messages[0]["content"]) for question in questions) == ["Say 3.", "Say 4."]
    assert found.accepted == 4


def test_grades() -> None:
    assert [read_grade(text) for text in ("[[10]]", "[[ 3 ]]", "[[0]]", "[[11]]", "7", "<think>[[2]]</think>")] == [
        10, 3, None, None, None, None,
    ]  # fmt: skip


def test_the_longest_thoughts_are_kept() -> None:
    def line(row: int, draw: int, tokens: int, grade: int) -> Sample:
        return Sample(config_sha="x", row=row, draw=draw, outcome="accepted", tokens=tokens, grade=grade)

    lines = [line(0, 0, 5, 9), line(0, 1, 7, 6), line(0, 2, 7, 8), line(1, 0, 1, 6)]
    kept, over = chosen(lines, 2)
    assert [(one.row, one.draw) for one in kept] == [(0, 2), (0, 1), (1, 0)]
    assert [(one.row, one.draw) for one in over] == [(0, 0)]


def test_what_cannot_be_built(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="none of 2 questions was answered; the first: verifier: too slow"):
        build(tmp_path, lambda question: JudgeFailure("timeout", "too slow"))
    with pytest.raises(ValidationError, match=r"at model\.temperature 0 all are the same"):
        build(tmp_path, lambda question: told(), model=MODEL | {"temperature": 0})
    with pytest.raises(DataError, match="made with another configuration"):
        build(tmp_path, lambda question: told(), min_thought=3)
    path = tmp_path / "bare.jsonl"
    path.write_text('{"prompt": "Say so."}\n')
    with pytest.raises(DataError, match=r"row 1: no column 'instruction_id_list'"):
        build(tmp_path, lambda question: told(), data={"path": str(path)})


def test_the_command(tmp_path: Path) -> None:
    with FakeServer(lambda request: told()) as server:
        model = MODEL | {"urls": [server.url], "model": "fake"}
        config = {"model": model, "tokenizer": DEFAULT_MODEL, "data": {"type": "prompts", "path": data(tmp_path, 3)}}
        (tmp_path / "t.yaml").write_text(json.dumps(config | {"min_thought": 10}))
        command = [
            "data",
            "thoughts",
            str(tmp_path / "t.yaml"),
            "samples=2",
            "-o",
            str(tmp_path / "out"),
            "--limit",
            "2",
        ]
        said = CliRunner().invoke(app, [*command, "--dry-run"])
        assert said.exit_code == 0 and "4" in said.output and not (tmp_path / "out").exists()
        said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output + said.stderr
    assert len(read(tmp_path, "accepted")) == 2 and len(read(tmp_path, "rejected")) == 2
