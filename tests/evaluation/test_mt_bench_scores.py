"""MT-Bench's tables, by hand and from published judgments."""

import csv
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import DataError
from rlrules.evaluation.files import located
from rlrules.evaluation.mt_bench_data import (
    Template,
    pair_values,
    read_answers,
    read_questions,
    read_templates,
    single_values,
    template_name,
)
from rlrules.evaluation.mt_bench_parse import (
    read_grade,
    read_grade_as_reference,
    read_side,
    read_side_as_reference,
)
from rlrules.evaluation.mt_bench_scores import (
    category_of,
    pairwise_metrics,
    read_games,
    read_grades,
    single_metrics,
)
from tests.evaluation.shared import DATA, call, called, needs, write_lines

MT = DATA / "mtbench"
SINGLE, PAIR = MT / "gpt4_single_judgments.parquet", MT / "gpt4_pair_judgments.parquet"


def judgment(question: int, turn: int, score: float | None, **more: Any) -> dict[str, Any]:
    return {"question_id": question, "model": "m", "turn": turn, "score": score, **more}


def game(question: int, first: str, second: str) -> dict[str, Any]:
    named = {"model_1": "a", "model_2": "b", "g1_winner": first, "g2_winner": second}
    return {"question_id": question, "turn": 1, **named}


def test_means_by_hand() -> None:
    rows = [
        judgment(81, 1, 8), judgment(81, 2, 5), judgment(81, 2, -1), judgment(86, 1, 4), judgment(111, 1, 1),
        judgment(81, 1, 9),
    ]  # fmt: skip
    found = single_metrics(read_grades([("f", row) for row in rows])["m"])
    assert found["turn1"] == pytest.approx(22 / 4) and found["turn2"] == 5
    # The mean over judgments, not of the two means.
    assert found["average"] == pytest.approx(27 / 5)
    assert (found["n_used"], found["n_failed"], found["n_duplicates"]) == (5, 1, 2)
    # Question 86 is the sixth of its category: held out; 81 and 111 are the first of theirs.
    assert found["heldout"] == 4 and found["extraction_split"] == pytest.approx(23 / 4)
    assert found["by_category"]["writing"] == {"turn1": 7, "turn2": 5, "average": 6.5}
    assert found["by_category"]["math"]["turn2"] is None


def test_pairs_by_hand() -> None:
    rows = [
        game(81, "model_1", "model_1"), game(82, "model_2", "model_2"), game(83, "model_1", "model_2"),
        game(84, "tie", "tie"), game(85, "model_1", "tie"), game(86, "error", "model_1"),
        game(87, "model_1", "model_1"),
    ]  # fmt: skip
    found = pairwise_metrics(read_games([("f", row) for row in rows]))
    a = found["models"]["a"]
    assert (a["win"], a["loss"], a["tie"]) == (2, 1, 3)
    assert (a["win_rate"], a["win_rate_adjusted"]) == (pytest.approx(2 / 6), pytest.approx(3.5 / 6))
    assert (found["n_pairs"], found["n_failed"], found["n_flips"]) == (6, 1, 2)


@pytest.mark.parametrize(
    ("text", "ours", "reference"),
    [
        ("Good. Rating: [[8]]", 8, 8),
        ("As [[3]] says, … Rating: [[7.5]]", 7.5, 3),
        ("See [1]. Fine.\nRating: [9]", 9, 1),
        ("See [1] and [2].\nNo rating.", None, 1),
        ("Rating: [[42]]", None, 42),
        ("Rating: 8", None, None),
        ("", None, None),
    ],
)
def test_grades_are_read(text: str, ours: float | None, reference: float | None) -> None:
    assert read_grade(text) == ours
    assert read_grade_as_reference(text) == reference


@pytest.mark.parametrize(
    ("text", "ours", "reference"),
    [
        ("[[B]]", "B", "B"),
        ("Not [[A]] but [[B]]", "B", "A"),
        ("[[C]]", "tie", "tie"),
        ("A is better", None, None),
    ],
)
def test_sides_are_read(text: str, ours: str | None, reference: str | None) -> None:
    assert read_side(text) == ours
    assert read_side_as_reference(text) == reference


def test_templates_are_filled_in_one_pass() -> None:
    template = Template("single-v1", "", "{question}|{answer}")
    assert template.fill({"question": "{answer}", "answer": "{question}"}) == "{answer}|{question}"
    with pytest.raises(DataError, match=r"judge template 'single-v1': nothing is known for \{answer\}"):
        template.fill({"question": "q"})


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    for row, message in (
        (judgment(80, 1, 5), "`question_id`: expected MT-Bench's 81 to 160, got 80"),
        (judgment(81, 3, 5), "`turn`: expected 1 or 2, got 3"),
        (judgment(81, 1, None) | {"score": "9"}, "`score`: expected a number, got '9'"),
        ({"question_id": 81}, "`model`: is missing"),
    ):
        path = write_lines(tmp_path / "rows.jsonl", [row])
        assert f"rows.jsonl:1: {message}" in call("mt-bench", "--judgments", path, code=2)
    two = [judgment(81, 1, 5, source="x"), judgment(81, 1, 6, source="y")]
    with pytest.raises(DataError, match="m: 2 sources hold different judgments"):
        read_grades([("f", row) for row in two])


def test_judges_are_not_mixed() -> None:
    rows = [judgment(81, 1, 5, judge=["gpt-4", "single-v1"]), judgment(82, 1, 6, judge=["gpt-4o", "single-v1"])]
    with pytest.raises(DataError, match=r"m: mixes the grades of 2 judges \(gpt-4, gpt-4o\); keep one's"):
        read_grades([("f", row) for row in rows])
    read_grades([("f", row) for row in (rows[0], judgment(82, 1, 6, judge=["gpt-4", "single-math-v1"]))])


def test_undefined_numbers_are_shown_as_a_dash(tmp_path: Path) -> None:
    # Question 81 is not held out, and has no second turn here.
    path = write_lines(tmp_path / "rows.jsonl", [judgment(81, 1, 5)])
    told = call("mt-bench", "--judgments", path)
    lines = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in told.splitlines() if "│" in line}
    assert lines["heldout"] == lines["turn2"] == "-  (95 % interval - to -)"
    assert lines["turn1"] == "5.0000  (95 % interval 5.00 to 5.00)"


def test_games_that_cannot_be_used_are_named() -> None:
    with pytest.raises(DataError, match="f: `model_1`, `model_2`: a is paired with itself"):
        read_games([("f", game(81, "tie", "tie") | {"model_2": "a"})])
    two = [game(81, "tie", "tie") | {"judge": "gpt-4"}, game(82, "tie", "tie") | {"judge": "gpt-4o"}]
    with pytest.raises(DataError, match=r"a: mixes the verdicts of 2 judges \(gpt-4, gpt-4o\); keep one's"):
        read_games([("f", row) for row in two])


def test_a_pair_named_the_other_way_round_is_a_duplicate() -> None:
    swapped = game(81, "model_2", "model_2") | {"model_1": "b", "model_2": "a"}
    found = pairwise_metrics(read_games([("f", row) for row in (game(81, "model_1", "model_1"), swapped)]), 0)
    assert found["n_duplicates"] == 1 and found["models"]["a"]["win"] == 2


def test_only_the_games_of_a_model_count(tmp_path: Path) -> None:
    others = [game(82 + n, "model_1", "model_2") | {"model_1": "b", "model_2": "c"} for n in range(3)]
    path = write_lines(tmp_path / "games.jsonl", [game(81, "model_1", "model_1"), game(82, "error", "tie"), *others])
    found = called("mt-bench", "--judgments", path, "--model", "a", "--resamples", 0)
    assert (found["n_pairs"], found["n_failed"], found["n_flips"], found["win"]) == (1, 1, 0, 1)
    assert called("mt-bench", "--judgments", path, "--resamples", 0)["n_flips"] == 3
    assert "no model 'd' (there: a, b, c)" in call("mt-bench", "--judgments", path, "--model", "d", code=2)


@cache
def published() -> list[tuple[str, dict[str, Any]]]:
    return list(located(SINGLE))


@needs("mtbench")
def test_published_tables() -> None:
    with (MT / "expected_single_scores.csv").open() as file:
        expected = list(csv.DictReader(file))
    for row in expected:
        found = called("mt-bench", "--judgments", SINGLE, "--model", row["model"])
        for key in ("turn1", "turn2", "average", "n_used", "n_failed", "n_duplicates"):
            assert found[key] == pytest.approx(float(row[key]), abs=1e-9), (row["model"], key)
        low, high = found["intervals"]["average"]["low"], found["intervals"]["average"]["high"]
        assert low < found["average"] < high < low + 2
    graded = read_grades(published())
    with (MT / "expected_single_by_category.csv").open() as file:
        for row in csv.DictReader(file):
            table = single_metrics(graded[row["model"]], resamples=0)["by_category"][row["category"]]
            assert table["turn1"] == pytest.approx(float(row["turn1"]), abs=1e-9)
            assert table["turn2"] == pytest.approx(float(row["turn2"]), abs=1e-9)
    every = called("mt-bench", "--judgments", SINGLE, "--resamples", 0)["models"]
    assert set(every) == {row["model"] for row in expected}
    assert sum(table["n_duplicates"] for table in every.values()) == 160
    assert sum(table["n_failed"] for table in every.values()) == 1


@needs("mtbench")
def test_published_pairs() -> None:
    found = called("mt-bench", "--judgments", PAIR)
    assert (found["n_pairs"], found["n_failed"], found["n_flips"]) == (73, 2, 27)
    dpo = called("mt-bench", "--judgments", PAIR, "--model", "phi-3-dpo")
    assert (dpo["win"], dpo["loss"], dpo["tie"]) == (20, 18, 35)
    assert dpo["win_rate_adjusted"] == pytest.approx(0.513699, abs=1e-6)
    assert found["models"]["phi-3"]["win_rate_adjusted"] == pytest.approx(0.486301, abs=1e-6)


@needs("mtbench")
def test_published_judgments_are_read_as_they_were() -> None:
    for _, row in published():
        read = read_grade_as_reference(row["judgment"])
        assert (-1 if read is None else read) == row["score"]
    differ = [row for _, row in published() if row["score"] != -1 and read_grade(row["judgment"]) != row["score"]]
    # Ours reads the last number, the reference the first: the same wherever there is one alone.
    assert len(differ) <= 5
    names = {"A": "model_1", "B": "model_2"}
    for _, row in located(PAIR):
        first = read_side_as_reference(row["g1_judgment"])
        assert row["g1_winner"] == ("error" if first is None else names.get(first, "tie"))
        second = read_side_as_reference(row["g2_judgment"])
        swapped = {"A": "model_2", "B": "model_1"}
        assert row["g2_winner"] == ("error" if second is None else swapped.get(second, "tie"))


@needs("mtbench")
def test_published_prompts_are_rebuilt_byte_for_byte() -> None:
    questions = {question.id: question for question in read_questions(located(MT / "question.jsonl"))}
    assert {id_: question.category for id_, question in questions.items()} == {
        id_: category_of(id_) for id_ in questions
    }
    templates = read_templates(MT, located(MT / "judge_prompts.jsonl"))
    references = read_answers(located(MT / "reference_answer_gpt-4.jsonl"))
    by_question = {question: turns for (_, question), turns in references.items()}
    answers: dict[str, dict[tuple[str, int], tuple[str, ...]]] = defaultdict(dict)
    for _, row in located(MT / "model_answers.parquet"):
        turns = row["turns"] if isinstance(row["turns"], list) else json.loads(row["turns"])
        answers[row["source"]][row["model"], row["question_id"]] = tuple(turns)
    matched, missed = 0, set()
    for _, row in published():
        own = answers[row["source"].split(":")[0]][row["model"], row["question_id"]]
        question = questions[row["question_id"]]
        name = template_name("single", question.category, row["turn"])
        assert name == row["prompt_name"]
        prompt = templates[name].fill(single_values(question, own, by_question.get(question.id)))
        if prompt == row["user_prompt"]:
            matched += 1
        else:
            missed.add(row["model"])
    # This model's answers were generated anew after they had been judged.
    assert missed <= {"mistral-orpo"} and matched >= 800
    for _, row in located(PAIR):
        question = questions[row["question_id"]]
        own = [answers[row["source"].split(":")[0]][row[model], question.id] for model in ("model_1", "model_2")]
        template = templates[template_name("pair", question.category, 1)]
        known = by_question.get(question.id)
        assert template.fill(pair_values(question, *own, known)) == row["g1_user_prompt"]
        assert template.fill(pair_values(question, *own[::-1], known)) == row["g2_user_prompt"]
