"""Evaluations of jigsaw answers: guesses get what the paper's tables say, an oracle gets all."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlrules.data.jigsaw import JigsawPromptsConfig
from rlrules.data.jigsaw_questions import relations
from rlrules.evaluation.jigsaw_questions import question_metrics
from rlrules.rewards.jigsaw_answers import LETTERS
from tests.evaluation.shared import call, called, write_lines

CHANCE = json.loads((Path(__file__).parents[1] / "golden/jigsaw_r1.json").read_text())["chance"]["cases"]
PUZZLES = 10_000
Answering = Callable[[dict[str, Any], random.Random], str]


def metrics(question: str, m: int, n: int, answer: Answering, count: int = PUZZLES, **fields: Any) -> dict[str, Any]:
    images = {"type": "synthetic", "count": 10, "width": 280, "height": 280}
    stage = {"m": m, "n": n, "prompts": count}
    config = JigsawPromptsConfig(
        images=images, stages=[stage], question=question, think=False, **{"swap": False, **fields}
    )
    lines = []
    for number, row in enumerate(config.load(len).rows):
        lines.append({**row, "response": answer(dict(row), random.Random(number)), "tokens": number % 2})
    return question_metrics([(f"row {line['id']}", line) for line in lines], think=False, resamples=0)


def by_arrangement(row: dict[str, Any], generator: random.Random) -> str:
    return " ".join(map(str, generator.sample(range(1, row["m"] * row["n"] + 1), row["m"] * row["n"])))


def by_letter(row: dict[str, Any], generator: random.Random) -> str:
    return generator.choice(LETTERS[: len(row["options"])])


def always_first_relation(row: dict[str, Any], generator: random.Random) -> str:
    return LETTERS[row["options"].index("above")]


def right(row: dict[str, Any], generator: random.Random) -> str:
    if row["question"] == "box":
        sides = row["image_size"] * 2
        return ",".join(str(round(part * side)) for part, side in zip(row["answer"], sides, strict=True))
    return " ".join(map(str, row["answer"])) if isinstance(row["answer"], list) else str(row["answer"])


@pytest.mark.parametrize("case", CHANCE[:4], ids=lambda case: f"{case['m']}x{case['n']}")
def test_guesses_get_what_the_tables_say(case: dict[str, Any]) -> None:
    full = metrics("full", case["m"], case["n"], by_arrangement)
    assert full["exact"] * 100 == pytest.approx(case["full_exact"], abs=1.5)
    assert full["accuracy"] * 100 == pytest.approx(case["full_fraction"], abs=1.5)
    pair = metrics("pair", case["m"], case["n"], by_letter)
    assert pair["exact"] * 100 == pytest.approx(case["pair"], abs=1.5)


@pytest.mark.parametrize("case", CHANCE, ids=lambda case: f"{case['m']}x{case['n']}")
def test_baselines_are_given_with_every_evaluation(case: dict[str, Any]) -> None:
    full = metrics("full", case["m"], case["n"], right, 5)["by_chance"]
    assert full["exact"] * 100 == pytest.approx(case["full_exact"], rel=2e-3)
    assert full["accuracy"] * 100 == pytest.approx(case["full_fraction"], abs=0.01)
    pair = metrics("pair", case["m"], case["n"], right, 5)["by_chance"]
    assert pair["exact"] * 100 == pytest.approx(case["pair"], abs=0.01)
    assert pair["exact, best blind guess"] * 100 == pytest.approx(case["pair_blind"], abs=0.01)


def test_one_relation_is_better_than_a_random_letter() -> None:
    assert metrics("pair", 2, 2, always_first_relation)["exact"] * 100 == pytest.approx(16.7, abs=1.5)


@pytest.mark.parametrize("question", ["full", "pair", "multiple", "single", "box"])
def test_an_oracle_gets_all(question: str) -> None:
    found = metrics(question, 2, 2, right, 40, swap=True)
    assert (found["exact"], found["format"], found["n_unreadable"]) == (1, 1, 0)
    # A box of whole pixels is not quite one of shares.
    assert found["reward"] == pytest.approx(1.5, abs=0.1 if question == "box" else 1e-12)
    assert found["tokens"] == 0.5
    assert 0 < found["by_chance"]["exact"] < 0.5


def test_who_always_says_solved_is_right_on_solved_ones() -> None:
    found = metrics("full", 2, 1, lambda row, generator: "1\n2", 1000, swap=True)
    assert found["exact"] == pytest.approx(0.5, abs=0.05)
    assert found["by_puzzle"]["solved"]["exact"] == 1 and found["by_puzzle"]["unsolved"]["exact"] == 0
    assert found["by_puzzle"]["solved"]["n"] + found["by_puzzle"]["unsolved"]["n"] == 1000
    assert set(found["by_grid"]) == {"1x2", "2x1"}


def test_neither_order_nor_size_matters() -> None:
    rows = [
        {"id": n, "question": "full", "m": 2, "n": 2, "answer": [4, 2, 1, 3], "response": text}
        for n, text in enumerate(["4 2 1 3", "4 2 3 1", "1 2 3 4", "none", None])
    ]
    lines = [(str(row["id"]), row) for row in rows]
    assert question_metrics(lines, False) == question_metrics(lines[::-1], False)
    assert question_metrics(lines[:1], False)["exact"] == 1


def test_from_the_command_line(tmp_path: Path) -> None:
    row = {"id": 1, "question": "pair", "m": 2, "n": 2, "answer": "B", "options": list(relations(2, 2))}
    answers = ["<think>a</think><answer>B</answer>", "<think>a</think><answer>(B) 2 is above</answer>", "B"]
    rows = [row | {"completion": text} for text in answers]
    path = write_lines(tmp_path / "r.jsonl", rows)
    found = called("jigsaw", "--responses", path)
    assert (found["exact"], found["format"], found["n_unreadable"]) == (
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
        1,
    )
    assert found["reward"] == pytest.approx((1.5 + 1 + 0) / 3)
    assert called("jigsaw", "--responses", path, "--no-think")["format"] == pytest.approx(1 / 3)
    assert "best blind guess" in call("jigsaw", "--responses", path)
    for change, complaint in (
        ({"answer": "Z"}, "r.jsonl:2: `answer` is 'Z', not one of A"),
        ({"completion": 3}, "r.jsonl:2: `completion`: expected text or null, got int"),
        ({"tokens": -1}, "r.jsonl:2: `tokens`: expected a count, got -1"),
    ):
        bad = write_lines(tmp_path / "bad.jsonl", [rows[0], rows[1] | change])
        assert complaint in call("jigsaw", "--responses", bad, code=2).replace("bad", "r")
    twice = write_lines(tmp_path / "bad.jsonl", [row | {"response": "B"}] * 2)
    assert "r.jsonl:2: `id`: 1 stands more than once" in call("jigsaw", "--responses", twice, code=2).replace(
        "bad", "r"
    )
