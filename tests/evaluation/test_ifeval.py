"""IFEval and IFBench: every published flag that does not hang on chance."""

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rlrules.evaluation.files import located
from rlrules.evaluation.ifeval import check_responses, instruction_metrics, read_prompts
from rlrules.rewards.instruction_checks import Checked, check
from tests.evaluation.shared import DATA, call, called, needs, read_lines, write_lines

pytest.importorskip("if_verifiable", reason="if-verifiable is not installed: pip install 'rlrules[ifeval]'")

IFEVAL, IFBENCH = DATA / "ifeval", DATA / "ifbench"
# Asked to count '#' and '!', for which the reference counts a random letter.
RANDOM = (1122, 1129)


def line(response: str | None, *instructions: tuple[str, dict[str, Any]], key: int = 1) -> dict[str, Any]:
    names, kwargs = [name for name, _ in instructions], [given for _, given in instructions]
    return {"key": key, "prompt": "p", "instruction_id_list": names, "kwargs": kwargs, "response": response}


COMMA = ("punctuation:no_comma", {})
WORDS = ("length_constraints:number_words", {"relation": "at least", "num_words": 3})
HASHES = ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"})


def test_accuracies_by_hand(tmp_path: Path) -> None:
    rows = [
        line("one two three", COMMA, WORDS, key=1),
        line("one, two", COMMA, WORDS, key=2),
        line("<think>a, b</think>fine words here", COMMA, key=3),
        line("", COMMA, key=4),
        line("*Well, then:*\nno comma here", COMMA, key=5),
    ]
    found = called("ifeval", "--responses", write_lines(tmp_path / "in.jsonl", rows), "--rows", tmp_path / "out.jsonl")
    out = read_lines(tmp_path / "out.jsonl")
    assert [row["strict"] for row in out] == [[True, True], [False, False], [True], [False], [False]]
    # Without its first line, the last one has no comma.
    assert [row["loose"] for row in out] == [[True, True], [False, False], [True], [False], [True]]
    assert [row["key"] for row in out] == [1, 2, 3, 4, 5]
    assert (found["prompt_strict"], found["prompt_loose"]) == (2 / 5, 3 / 5)
    assert (found["instruction_strict"], found["instruction_loose"]) == (3 / 7, 4 / 7)
    assert found["empty_responses"] == [4] and found["n_unscored"] == 0
    assert found["by_kind"]["length_constraints:number_words"] == {"strict": 0.5, "loose": 0.5, "n": 2}


def test_symbols_are_counted_as_they_stand(tmp_path: Path) -> None:
    rows = [line("# a # b", HASHES, key=1), line("e" * 50, HASHES, key=2)]
    path = write_lines(tmp_path / "in.jsonl", rows)
    assert called("ifeval", "--responses", path)["letters"] == "literal"
    assert [check("ifeval", row["response"], *parts(row))[0].strict for row in rows] == [True, False]
    drawn = [called("ifeval", "--responses", path, "--reference-rng")["instruction_strict"] for _ in range(2)]
    assert drawn[0] == drawn[1]


def parts(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["instruction_id_list"], row["kwargs"], row["prompt"], "f"


def test_the_process_draws_on_as_if_nothing_was_checked() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    check("ifeval", "text", *parts(line("", HASHES)), reference_rng=True)
    assert random.random() == expected


def test_what_cannot_be_checked_is_named(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    short, strange = {"relation": "at least"}, {"words": 3}
    for row, message in (
        (line("a", ("poetry:rhyme", {})), "`instruction_id_list`: ifeval has no instruction 'poetry:rhyme'"),
        (
            line("a", (WORDS[0], short)),
            "`kwargs`: length_constraints:number_words: 'num_words' is missi",
        ),
        (
            line("a", (COMMA[0], strange)),
            "`kwargs`: punctuation:no_comma: got an unexpected keyword",
        ),
        (line("a", COMMA) | {"kwargs": []}, "`kwargs`: 0 entries for 1 instructions"),
        (line("a", COMMA) | {"key": [1]}, "`key`: expected text or an integer, got [1]"),
        (line("a", COMMA) | {"kwargs": ["x"]}, "`kwargs`: expected objects or null, got 'x'"),
        (line("a", COMMA) | {"instruction_id_list": [["x"]]}, "`instruction_id_list`: expected texts, got ['x']"),
        ({"key": 1, "response": "a"}, "`prompt`: is missing"),
        (line("a", COMMA) | {"response": 3}, "`response`: expected text, got int"),
    ):
        assert f"in.jsonl:1: {message}" in call("ifeval", "--responses", write_lines(path, [row]), code=2)
    twice = [line("a", COMMA), line("b", COMMA)]
    assert "in.jsonl:2: `key`: 1 stands more than once" in call(
        "ifeval", "--responses", write_lines(path, twice), code=2
    )


def test_what_was_not_checked_counts_nowhere() -> None:
    prompts = read_prompts([("f", line("", COMMA, COMMA, key=1)), ("f", line("", COMMA, key=2))])
    checked = [[Checked(True, True), Checked(None, None, "no data")], [Checked(True, True)]]
    found = instruction_metrics(prompts, ["a", "a"], checked, resamples=10)
    assert (found["n_prompts"], found["n_instructions"], found["n_unscored"]) == (1, 2, 1)
    assert found["prompt_strict"] == 1 and found["unscored"] == {"no data": 1}
    [[missing]] = check_responses("ifeval", prompts[1:], [None])
    assert missing == Checked(None, None, "no response")


@cache
def gpt4() -> list[dict[str, Any]]:
    questions = {row["prompt"]: row for _, row in located(IFEVAL / "input_data.jsonl.gz")}
    responses = [row for _, row in located(IFEVAL / "gpt4_responses_20231107.jsonl.gz")]
    return [questions[row["prompt"]] | {"response": row["response"]} for row in responses]


@needs("ifeval")
def test_published_flags(tmp_path: Path) -> None:
    path, out = write_lines(tmp_path / "in.jsonl", gpt4()), tmp_path / "out.jsonl"
    data = ("--nltk-data", IFEVAL / "nltk_data")
    found = called("ifeval", "--responses", path, "--rows", out, *data)
    ours = {row["key"]: row for row in read_lines(out)}
    assert len(ours) == 540 and found["n_unscored"] == 0
    compared = 0
    for _, row in located(IFEVAL / "expected_gpt4_per_instruction.jsonl"):
        if row["key"] not in RANDOM:
            for mode in ("strict", "loose"):
                assert ours[row["key"]][mode] == row[mode], (row["key"], mode)
                compared += len(row[mode])
    assert compared > 1000
    # The summary's deterministic part: the rows of both random prompts left out.
    expected = json.loads((IFEVAL / "expected_gpt4_summary.json").read_text())
    fixed = write_lines(tmp_path / "fixed.jsonl", [row for row in gpt4() if row["key"] not in RANDOM])
    found = called("ifeval", "--responses", fixed, *data)
    for level, short in (("prompt", "prompt"), ("instruction", "inst")):
        for mode in ("strict", "loose"):
            assert found[f"{level}_{mode}"] == pytest.approx(expected[f"deterministic538_{mode}_{short}"], abs=1e-12)


@needs("ifbench", "ifeval")
def test_published_ifbench_flags(tmp_path: Path) -> None:
    questions = {row["prompt"].strip(): row for _, row in located(IFBENCH / "IFBench_test.jsonl.gz")}
    rows = [
        questions[row["prompt"].strip()] | {"response": row["response"]}
        for _, row in located(IFBENCH / "sample_output.jsonl.gz")
        if row["prompt"].strip() in questions  # Four are of an older edition.
    ]
    out = tmp_path / "out.jsonl"
    path = write_lines(tmp_path / "in.jsonl", rows)
    found = called("ifbench", "--responses", path, "--rows", out, "--nltk-data", IFEVAL / "nltk_data")
    ours = {row["prompt"].strip(): row for row in read_lines(out)}
    compared = 0
    for mode in ("strict", "loose"):
        for _, row in located(IFBENCH / f"eval_results_{mode}.jsonl.gz"):
            if row["prompt"].strip() not in ours:
                continue
            own = ours[row["prompt"].strip()][mode]
            flags = zip(own, row["follow_instruction_list"], strict=True)
            assert all(one is None or one == other for one, other in flags), row["prompt"]
            compared += sum(flag is not None for flag in own)
    assert compared >= 2 * 313
    # What needs other data of NLTK's than the tokenizer's is left out with its reason.
    assert found["n_unscored"] in (0, 18)
    assert all("NLTK's '" in reason and "--nltk-data" in reason for reason in found["unscored"])
