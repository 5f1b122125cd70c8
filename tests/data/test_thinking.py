"""The training set of a judge of reasoning: what is kept, what is left out and why, what is asked again."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.data.conversations import FileConversationsConfig
from rlrules.data.thinking import ThinkingData, ThinkingDataConfig, build_thinking
from rlrules.data.tokenizers import load_tokenizer
from rlrules.data.tokens import conversation_rows
from rlrules.data.vision_rows import vision_rows
from rlrules.errors import DataError, JudgeError
from rlrules.judges import JudgeFailure, Question
from rlrules.judges.thinking import thinking_messages
from rlrules.models import DEFAULT_MODEL, TINY_VLM, resolve_model
from tests.fakes.judge import Reply, scripted_judge
from tests.fakes.openai_server import FakeServer, Request
from tests.fakes.openai_server import Reply as Sent

JUDGE = {"type": "openai", "urls": ["http://x/v1"], "model": "labeller", "cache": False}


def completion(thought: str) -> str:
    return f"<think>{thought}</think><answer>4</answer>"


def rows_of(count: int, per_question: int = 2) -> list[dict[str, Any]]:
    """Completions graded 0.0, 0.1 … in turn, several of a question."""
    return [
        {"prompt": f"Question {n // per_question}?", "completion": completion(f"reasoning {n} worth {n % 11 / 10}")}
        for n in range(count)
    ]


def by_worth(question: Question) -> Reply:
    found = re.search(r"worth ([\d.]+)", str(question.messages[1]["content"]))
    return found[1] if found else "no idea"


def build(
    folder: Path, rows: list[dict[str, Any]], reply: Callable[[Question], Reply] = by_worth, **fields: Any
) -> tuple[ThinkingData, list[Question]]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"type": "conversations", "path": str(path)}
    config = ThinkingDataConfig.model_validate({"judge": JUDGE, "data": data, "held_out": 0.3, **fields})
    judge, backend = scripted_judge(reply)
    made = asyncio.run(build_thinking(config, config.data.load(len), judge, folder / "out"))
    # What comes in comes out.
    skipped = sum(count for name, count in made.counts.items() if name.startswith("skipped"))
    assert made.counts["completions"] == len(rows) == sum(made.rows.values()) + skipped
    assert sum(count for name, count in made.counts.items() if name.startswith("level ")) == sum(made.rows.values())
    assert {name: len(lines(folder, name)) for name in made.rows} == made.rows
    return made, backend.questions


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"out/{name}.jsonl").read_text().splitlines()]


def test_rows_are_what_the_scorer_asks_and_the_level_it_was_given(tmp_path: Path) -> None:
    made, questions = build(tmp_path, rows_of(22))
    assert len(questions) == 22 and made.rows["train"] > made.rows["held_out"] > 0
    row = next(row for row in lines(tmp_path, "train") if "worth 0.7" in row["prompt"][1]["content"])
    question = re.search(r"Question \d+\?", row["prompt"][1]["content"])
    assert question and row["completion"] == "0.7" and row["grade"] == 0.7
    thought = re.search(r"reasoning \d+ worth 0.7", row["prompt"][1]["content"])
    assert thought
    asked, _ = thinking_messages(({"role": "user", "content": question[0]},), (), thought[0])
    assert row["prompt"] == list(asked)


def test_a_question_is_on_one_side(tmp_path: Path) -> None:
    build(tmp_path, rows_of(60, per_question=3))
    train, held_out = ({row["question"] for row in lines(tmp_path, name)} for name in ("train", "held_out"))
    assert train and held_out and not train & held_out and len(train | held_out) == 20


def test_no_level_has_more_than_its_share(tmp_path: Path) -> None:
    rows = rows_of(33) + [{"prompt": f"Easy {n}?", "completion": completion(f"plain {n} worth 1.0")} for n in range(20)]
    made, _ = build(tmp_path, rows, per_level=4)
    levels = Counter(row["completion"] for name in ("train", "held_out") for row in lines(tmp_path, name))
    assert levels["1.0"] == 4 and all(count == 3 for level, count in levels.items() if level != "1.0")
    assert made.counts["skipped: level full"] == 19 and made.counts["graded 1.0"] == 23
    # The same ones, whenever they are drawn.
    kept = lines(tmp_path, "train")
    build(tmp_path, rows, per_level=4)
    assert lines(tmp_path, "train") == kept


def test_what_is_left_out_and_why(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Use tags."}, {"role": "user", "content": "Q?"}]
    rows: list[dict[str, Any]] = [
        {"prompt": "Q?", "completion": completion("worth 0.5")},
        {"prompt": "Q?", "completion": completion(" worth 0.5\n")},
        {"prompt": chat, "completion": completion("worth 0.5")},
        {"prompt": "Q?", "completion": "<think>worth 0.5</think>4"},
        {"prompt": "Q?", "completion": completion(" ")},
        {"prompt": "Q?", "completion": completion("who knows")},
    ]
    made, questions = build(tmp_path, rows)
    assert len(questions) == 2 and sum(made.rows.values()) == 1
    skipped = lines(tmp_path, "skipped")
    assert [line["reason"] for line in skipped] == ["duplicate", "duplicate", "malformed", "malformed", "no grade"]
    assert "row 4" in skipped[2]["where"] and "no <answer>" in skipped[2]["problem"]


def test_only_what_got_no_answer_is_asked_again(tmp_path: Path) -> None:
    def down(question: Question) -> Reply:
        told = str(question.messages[1]["content"])
        return JudgeFailure("timeout", "too slow") if "worth 0.3" in told else by_worth(question)

    made, _ = build(tmp_path, rows_of(11), down)
    assert made.counts["skipped: unanswered"] == 1
    made, questions = build(tmp_path, rows_of(11))
    assert len(questions) == 1 and "worth 0.3" in str(questions[0].messages[1]["content"])
    assert sum(made.rows.values()) == 11
    made, questions = build(tmp_path, rows_of(14))
    assert len(questions) == 3
    with pytest.raises(DataError, match="another configuration"):
        build(tmp_path, rows_of(11), judge={**JUDGE, "model": "other"})


def test_a_judge_that_answers_nothing(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="none of 3 questions was answered; the first: judge verifier: too slow"):
        build(tmp_path, rows_of(3), lambda question: JudgeFailure("timeout", "too slow"))


def test_images_stay_references_in_rows_and_go_to_the_judge_as_urls(tmp_path: Path) -> None:
    from PIL import Image

    path = str(tmp_path / "a.png")
    Image.new("RGB", (4, 4), "red").save(path)
    part = {"type": "image", "reference": path}
    prompt = [{"role": "user", "content": [part, {"type": "text", "text": "Which colour?"}]}]
    _, questions = build(tmp_path, [{"prompt": prompt, "completion": completion("worth 0.9")}], held_out=0)
    content: Any = questions[0].messages[1]["content"]
    assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")
    (row,) = lines(tmp_path, "train")
    assert row["prompt"][1]["content"][0] == part and row["prompt"][1]["content"][1] == content[1]
    source = FileConversationsConfig(path=str(tmp_path / "out/train.jsonl")).load(len)
    (learned,) = vision_rows(load_tokenizer(resolve_model(TINY_VLM)), source, None).rows
    assert learned["references"] == [path] and learned["completion"] == "0.9<|im_end|>"
    # The judge that learns is shown the image where the one that graded was: before the question.
    assert "user\n<|vision_start|><|image_pad|><|vision_end|>" + content[1]["text"] in learned["prompt"]


def test_the_command_and_that_its_rows_train(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in rows_of(8)))
    config = tmp_path / "config.yaml"

    def reply(request: Request) -> Sent:
        # Without log-probabilities, so that the grade is the one that is written.
        return {"choices": [{"message": {"content": by_worth(Question(tuple(request["messages"]), ""))}}]}

    with FakeServer(reply) as server:
        judge = {**JUDGE, "urls": [server.url], "model": "fake"}
        config.write_text(json.dumps({"judge": judge, "data": {"type": "conversations", "path": str(rows)}}))
        dry = CliRunner().invoke(app, ["data", "thinking", str(config), "--dry-run"])
        assert dry.exit_code == 0 and "8 completions, nothing asked" in dry.output and not server.counts["requests"]
        arguments = ["data", "thinking", str(config), "held_out=0", "-o", str(tmp_path / "out"), "--limit", "6"]
        made = CliRunner().invoke(app, arguments)
    assert made.exit_code == 0, made.output
    assert "rows: 6 -> " in made.output and server.counts["requests"] == 6
    source = FileConversationsConfig(path=str(tmp_path / "out/train.jsonl"))
    tokenizer = load_tokenizer(resolve_model(DEFAULT_MODEL))
    learned = conversation_rows(tokenizer, source.load(len), None).rows
    answers = [tokenizer.decode([token for token in row["labels"] if token >= 0]) for row in learned]
    assert answers == [f"0.{n}{tokenizer.eos_token}" for n in range(6)]
