"""Warm-up data of a judge that thinks (T18): what is kept, what is left out and why, what is asked again."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.data.preferences import JsonlPreferencesConfig, Preferences
from rlrules.data.think_rm import Outcome, ThinkRmConfig, ThinkRmData, Trajectory, build_think_rm, choose, target
from rlrules.data.tokenizers import load_tokenizer
from rlrules.errors import DataError, JudgeError
from rlrules.judges import Answer, JudgeFailure, Question
from rlrules.models import DEFAULT_MODEL, resolve_model
from tests.fakes.judge import Reply, scripted_judge
from tests.fakes.openai_server import FakeServer, labels_of

JUDGE = {"type": "openai", "urls": ["http://x/v1"], "model": "reasoner", "temperature": 0.6, "cache": False}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(resolve_model(DEFAULT_MODEL))


def preferences(folder: Path, count: int, strength: int | None = 2) -> Preferences:
    rows = [
        {"id": f"p{n}", "prompt": f"Question {n}?", "chosen": f"good {n}", "rejected": f"bad {n}"}
        | ({} if strength is None else {"strength": strength})
        for n in range(count)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JsonlPreferencesConfig(path=str(folder / "rows.jsonl"), seed=None).load()


def config(folder: Path, **fields: object) -> ThinkRmConfig:
    data = {"type": "jsonl", "path": str(folder / "rows.jsonl"), "seed": None}
    made = {"judge": JUDGE, "tokenizer": DEFAULT_MODEL, "data": data, "samples": 4, "max_length": 2000}
    return ThinkRmConfig.model_validate(made | fields)


def right(messages: Any) -> str:
    """The letter of the good reply."""
    text = messages[1]["content"]
    return "A" if text.index("good") < text.index("bad") else "B"


def wrong(messages: Any) -> str:
    return "AB"[right(messages) == "A"]


def number(question: Question) -> int:
    found = re.search(r"Question (\d+)", str(question.messages[1]["content"]))
    assert found
    return int(found[1])


def build(
    folder: Path, tokenizer: Any, reply: Callable[[Question], Reply], count: int = 4, **fields: object
) -> tuple[ThinkRmData, list[Question]]:
    strength = fields.pop("strength", 2)
    found = preferences(folder, count, strength)  # type: ignore[arg-type]
    judge, backend = scripted_judge(reply)
    made = asyncio.run(build_think_rm(config(folder, **fields), found, judge, tokenizer, folder / "out"))
    counts = made.counts
    # What comes in comes out.
    assert counts["preferences"] == counts["accepted"] + sum(v for k, v in counts.items() if k.startswith("skipped"))
    outcomes = [v for k, v in counts.items() if k.startswith("samples_") and k != "samples_forced"]
    assert counts["samples"] == sum(outcomes)
    return made, backend.questions


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"out/{name}.jsonl").read_text().splitlines()]


def trajectory(draw: int, outcome: Outcome, tokens: int) -> Trajectory:
    return Trajectory(config_sha="x", id="p", draw=draw, outcome=outcome, label="A", tokens=tokens)


def test_selection_among_ten() -> None:
    lengths = [120, 900, 300, 80, 450, 700, 60, 310, 500, 40]
    outcomes: list[Outcome] = ["correct", "wrong", "correct", "wrong", "correct", "truncated", "correct", "wrong"]
    ten = [trajectory(n, outcome, lengths[n]) for n, outcome in enumerate([*outcomes, "unparsed", "failed"])]  # type: ignore[list-item]
    # The longest of all is 900, of the correct ones 450; the shortest of all is 40, of the correct ones 60.
    assert [choose(ten, how, 0).draw for how in ("longest", "shortest")] == [4, 6]  # type: ignore[union-attr]
    drawn = {choose(ten, "random", seed).draw for seed in range(40)}  # type: ignore[union-attr]
    assert drawn == {0, 2, 4, 6}
    assert choose(ten, "random", 3) == choose(ten, "random", 3)
    assert choose([line for line in ten if line.outcome != "correct"], "longest", 0) is None


def mixed(question: Question) -> Reply:
    """Preference 0: draws 1 and 2 right; 1: never right; 2: never readable; 3: right at once."""
    label, draw = right(question.messages), question.draw
    thought = "word " * (draw + 1)
    match number(question), draw:
        case (0, 1 | 2):
            return f"<think>\n{thought}</think>\n\nSo <answer>{label}</answer>"
        case (0 | 1, _):
            return f"<think>\n{'longer ' * 20}</think>\n\n<answer>{wrong(question.messages)}</answer>"
        case (2, 0):
            return Answer(f"<think>\n{thought}", finish_reason="length")
        case (2, _):
            return f"<think>\n{thought}</think>\n\n<answer>Both</answer>"
    return Answer(f"So <answer>{label}</answer>", reasoning=20 * thought)


def test_accepted_skipped_and_trajectories(tmp_path: Path, tokenizer: Any) -> None:
    made, questions = build(tmp_path, tokenizer, mixed)
    assert len(questions) == 16
    assert Counter(question.draw for question in questions) == {0: 4, 1: 4, 2: 4, 3: 4}
    accepted, skipped = lines(tmp_path, "accepted"), lines(tmp_path, "skipped")
    assert [row["id"] for row in accepted] == ["p0", "p3"]
    first = accepted[0]
    label = first["label"]
    assert first["completion"] == f"<think>\nword word word\n</think>\n\n<answer>{label}</answer>"
    assert label == right(first["prompt"])
    assert (first["samples"], first["correct"], first["chosen"]) == (4, 2, 2)
    assert first["lengths"][1:3] == [2, 3] and first["lengths"][0] > 3
    assert [(row["id"], row["reason"]) for row in skipped] == [("p1", "none correct"), ("p2", "no verdict")]
    assert skipped[1]["outcomes"] == {"truncated": 1, "unparsed": 3}
    outcomes = Counter(line["outcome"] for line in lines(tmp_path, "trajectories"))
    assert outcomes == {"correct": 6, "wrong": 6, "truncated": 1, "unparsed": 3}
    assert made.counts["samples_correct"] == 6 and made.counts["skipped: none correct"] == 1


def test_the_other_arms(tmp_path: Path, tokenizer: Any) -> None:
    build(tmp_path, tokenizer, mixed)
    _, questions = build(tmp_path, tokenizer, mixed, choose="shortest")
    assert questions == [], "another choice asks for nothing"
    assert [row["chosen"] for row in lines(tmp_path, "accepted")] == [1, 0]
    _, questions = build(tmp_path, tokenizer, mixed, choose="shortest", samples=6)
    assert {question.draw for question in questions} == {4, 5}, "more samples ask only for these"


def test_a_thought_that_the_template_opened(tmp_path: Path, tokenizer: Any) -> None:
    def reply(question: Question) -> str:
        return f"Hm.\n</think>\n\n<answer>{right(question.messages)}</answer>"

    build(tmp_path, tokenizer, reply, count=1)
    [row] = lines(tmp_path, "accepted")
    assert row["completion"] == f"<think>\nHm.\n</think>\n\n<answer>{row['label']}</answer>"


def test_multiclass_wants_the_exact_strength(tmp_path: Path, tokenizer: Any) -> None:
    def reply(question: Question) -> str:
        sign = -1 if right(question.messages) == "A" else 1
        return f"<think>\nHm.\n</think>\n\n<answer>{sign * (question.draw + 1)}</answer>"

    build(tmp_path, tokenizer, reply, verdict="multiclass", samples=3)
    accepted = lines(tmp_path, "accepted")
    assert len(accepted) == 4
    for row in accepted:
        assert (row["correct"], row["chosen"]) == (1, 1)
        assert row["label"] == ("-2" if right(row["prompt"]) == "A" else "2")


def test_preferences_without_strength_are_skipped_for_numbers(tmp_path: Path, tokenizer: Any) -> None:
    made, questions = build(tmp_path, tokenizer, mixed, strength=None, verdict="multiclass")
    assert questions == [] and made.accepted == 0
    assert {row["reason"] for row in lines(tmp_path, "skipped")} == {"no strength"}


def test_rows_that_are_too_long_are_dropped_whole(tmp_path: Path, tokenizer: Any) -> None:
    build(tmp_path, tokenizer, mixed)
    exact = lines(tmp_path, "accepted")[1]["tokens"]
    build(tmp_path, tokenizer, mixed, max_length=exact)
    assert [row["id"] for row in lines(tmp_path, "accepted")] == ["p0", "p3"]
    made, _ = build(tmp_path, tokenizer, mixed, max_length=exact - 1)
    accepted, skipped = lines(tmp_path, "accepted"), lines(tmp_path, "skipped")
    assert [row["id"] for row in accepted] == ["p0"]
    assert skipped[-1] | {"outcomes": {}} == {
        "id": "p3", "reason": "too long", "samples": 4, "outcomes": {}, "tokens": exact,
    }  # fmt: skip
    assert made.counts["skipped: too long"] == 1


def test_thoughts_that_cannot_be_imitated(tmp_path: Path, tokenizer: Any) -> None:
    thoughts = ["", "one </think> more", "an end <|im_end|> inside", "fine"]

    def reply(question: Question) -> str:
        return f"<think>\n{thoughts[question.draw]}\n</think>\n\n<answer>{right(question.messages)}</answer>"

    build(tmp_path, tokenizer, reply, count=1)
    outcomes = {line["draw"]: line["outcome"] for line in lines(tmp_path, "trajectories")}
    assert outcomes == {0: "no_thought", 1: "marked", 2: "marked", 3: "correct"}


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_forcing_closes_the_thought_and_decodes_behind_it(tmp_path: Path, tokenizer: Any, kind: str) -> None:
    shapes = ["<think>\nI wonder", "I wonder", "<think>\nI wonder\n</think>\n\nWell, both."]

    def reply(question: Question) -> Reply:
        if not question.continues:
            return Answer(shapes[question.draw], finish_reason="length")
        # The tag is left for the label to close, as tokenizers cut it.
        assert question.messages[-1]["content"] == "<think>\nI wonder\n</think>\n\n<answer"
        label = right(question.messages)
        return f">{label}" if kind == "binary" else (">-2" if label == "A" else ">2</answer>, I think")

    made, questions = build(tmp_path, tokenizer, reply, verdict=kind, samples=3, force=True)
    assert made.accepted == 4 and made.counts["samples_forced"] == 12 == made.counts["samples_correct"]
    asked = [question for question in questions if question.continues]
    labels = (">A", ">B") if kind == "binary" else (">-3", ">-2", ">-1", ">1", ">2", ">3")
    assert {question.labels for question in asked} == {labels}
    [row, *_] = lines(tmp_path, "accepted")
    assert row["completion"] == target("I wonder", row["label"])
    (tmp_path / "without").mkdir()
    without, _ = build(tmp_path / "without", tokenizer, reply, verdict=kind, samples=3)
    assert without.accepted == 0 and without.counts["samples_forced"] == 0


def test_a_verdict_of_its_own_is_not_forced(tmp_path: Path, tokenizer: Any) -> None:
    _, questions = build(tmp_path, tokenizer, mixed, force=True)
    assert {number(question) for question in questions if question.continues} == {2}


def test_what_failed_is_asked_again_and_nothing_else(tmp_path: Path, tokenizer: Any) -> None:
    def flaky(question: Question) -> Reply:
        if number(question) == 3 and question.draw < 3:
            return JudgeFailure("timeout", "no answer within 5 s")
        return mixed(question) if number(question) != 3 else f"x</think><answer>{wrong(question.messages)}</answer>"

    made, _ = build(tmp_path, tokenizer, flaky)
    assert made.counts["samples_failed"] == 3
    assert [row["reason"] for row in lines(tmp_path, "skipped")] == ["none correct", "no verdict", "unanswered"]
    made, questions = build(tmp_path, tokenizer, mixed)
    assert [(number(question), question.draw) for question in questions] == [(3, 0), (3, 1), (3, 2)]
    assert "samples_failed" not in made.counts
    assert [row["id"] for row in lines(tmp_path, "accepted")] == ["p0", "p3"]
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    _, questions = build(tmp_path, tokenizer, mixed)
    assert questions == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_judge_that_answers_nothing(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(JudgeError, match=r"none of 16 questions was answered; the first: judge verifier: down"):
        build(tmp_path, tokenizer, lambda _: JudgeFailure("connection", "down"))
    assert build(tmp_path, tokenizer, mixed)[0].accepted == 2


def test_another_configuration_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    build(tmp_path, tokenizer, mixed)
    for fields in ({"seed": 1}, {"force": True}, {"judge": JUDGE | {"temperature": 1.0}}):
        with pytest.raises(DataError, match=r"trajectories.jsonl:1: config_sha: made with another configuration"):
            build(tmp_path, tokenizer, mixed, **fields)


def test_samples_at_temperature_0_would_all_be_the_same(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"at judge.temperature 0 all are the same"):
        config(tmp_path, judge=JUDGE | {"temperature": 0})
    assert config(tmp_path, judge=JUDGE | {"temperature": 0}, samples=1).samples == 1


def answer(request: dict[str, Any]) -> str:
    label = right(request["messages"])
    return label if labels_of(request) else f"<think>\nA thought.\n</think>\n\n<answer>{label}</answer>"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    preferences(tmp_path, 6)

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["data", "think-rm", "c.yaml", *arguments], env={"COLUMNS": "160"})
        assert result.exit_code == code, result.output + result.stderr
        return " ".join((result.output + result.stderr).split())

    with FakeServer(answer) as server:
        fields = config(tmp_path, judge=JUDGE | {"urls": [server.url]}).model_dump()
        Path("c.yaml").write_text(json.dumps(fields))
        assert "6 preferences, nothing asked" in call("--dry-run", "-o", "out")
        assert "questions │ 24, about" in call("--dry-run") and not Path("out").exists()
        told = call("-o", "out", "--limit", "5", "samples=2")
        assert "5 rows to imitate -> out/accepted.jsonl" in told and "samples │ 10" in told
        assert server.counts["answered"] == 10
        call("-o", "out", "--limit", "5", "samples=2")
        assert server.counts["answered"] == 10
    assert "c.yaml: samples: at judge.temperature 0 all are the same" in call("judge.temperature=0", code=2)
    assert "override chose: chose: unknown key; did you mean 'choose'?" in call("chose=1", code=2)
    assert "gone.jsonl does not exist" in call("data.path=gone.jsonl", code=2)
    assert "none of 12 questions was answered" in call("-o", "new", "samples=2", "judge.timeout_s=1", code=2)
