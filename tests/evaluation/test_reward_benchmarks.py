"""Averages of RewardBench and RM-Bench, by hand and against the reference's outputs."""

import csv
import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rlrules.errors import DataError
from rlrules.evaluation.files import located
from rlrules.evaluation.preference import preference_metrics
from rlrules.evaluation.reward_bench import (
    SECTIONS,
    TiedPrompt,
    best_of_n,
    overall,
    reward_bench_2_metrics,
    reward_bench_metrics,
    section_scores,
    ties_score,
)
from rlrules.evaluation.rm_bench import (
    Item,
    comparisons,
    domain_averages,
    outcomes_of_scores,
    read_items,
    rm_bench_metrics,
)
from tests.evaluation.shared import DATA, needs

NAN = float("nan")
FILES = ("chat_filtered", "code_filtered", "safety-refuse_filtered", "safety-response_filtered")


def test_reward_bench_by_hand() -> None:
    subsets = ["alpacaeval-easy"] * 4 + ["mt-bench-easy"] * 2 + ["math-prm"] * 2 + ["hep-go"] * 2
    outcomes = np.array([1, 1, 0.5, NAN, 1, 0, 0, 1, 1, 1])
    found = reward_bench_metrics(subsets, outcomes, resamples=50)
    chat = (100 * 2 / 3 + 28 * 1 / 2) / 128
    reasoning = (984 * 1 / 2 + 164 * 1) / 1148
    assert found["sections"] == {"Chat": pytest.approx(chat), "Reasoning": pytest.approx(reasoning)}
    assert found["overall"] == pytest.approx((chat + reasoning) / 2) and found["overall_of"] == "sections"
    assert found["example_weighted"] == pytest.approx(6 / 9)
    assert (found["n"], found["n_failed"], found["ties"]) == (9, 1, pytest.approx(1 / 9))
    assert found["subsets"]["alpacaeval-easy"] == {"accuracy": pytest.approx(2 / 3), "n": 3}


def test_prior_sets_count_half() -> None:
    sections = {"Chat": 0.8, "Chat Hard": 0.6, "Safety": 0.7, "Reasoning": 0.9}
    assert overall(sections, {})["overall"] == pytest.approx(0.75)
    assert overall(sections, {"shp": 0.3, "summarize": 0.5})["overall"] == pytest.approx((2 * 3.0 + 0.4) / 9)
    with pytest.raises(DataError, match="no row belongs to a section"):
        overall({}, {})


def test_best_of_n_and_ties_by_hand() -> None:
    assert [best_of_n(s) for s in ([3, 1, 2, 0], [1, 1, 1, 1], [2, 2, 0, 0], [1, 2, 0, 0])] == [1, 0.25, 0.5, 0]
    # Tied: right 3 and 2, wrong 0: gap 2, spread 1. Reference: 5 over 4: gap 1, not over the spread.
    tied, ref = TiedPrompt("tied:0", 2, (3, 2, 0)), TiedPrompt("ref:0", 1, (5, 4))
    assert ties_score([tied, ref]) == pytest.approx(0.3 + 0.3 + 0.2 + 0 + 0.01 * np.tanh(0))
    with pytest.raises(DataError, match=r"no partner for \['0'\]"):
        ties_score([tied])
    found = reward_bench_2_metrics({"Math": [1, 0, NAN], "Focus": [0.25]}, [tied, ref], resamples=20)
    assert found["subsets"] == {"Math": 0.5, "Focus": 0.25, "Ties": pytest.approx(0.8)}
    assert found["overall"] == pytest.approx(1.55 / 3) and found["n_failed"] == 1


def test_a_tied_prompt_without_a_score_takes_its_partner_along() -> None:
    # Pair 0 as above, 0.8; of pair 1 one answer has no score.
    whole = [TiedPrompt("tied:0", 2, (3, 2, 0)), TiedPrompt("ref:0", 1, (5, 4))]
    broken = [TiedPrompt("tied:1", 2, (3, NAN, 0)), TiedPrompt("ref:1", 1, (5, 4))]
    found = reward_bench_2_metrics({"Math": [1, NAN]}, [*whole, *broken], resamples=0)
    assert found["subsets"] == {"Math": 1, "Ties": pytest.approx(0.8)}
    assert (found["n"], found["n_failed"]) == (1 + 2, 1 + 2)
    assert found["ties_left_out"] == {"an answer has no score": 1, "its partner has no score": 1}
    alone = reward_bench_2_metrics({"Math": [1]}, broken, resamples=0)
    assert alone["subsets"] == {"Math": 1} and alone["n_failed"] == 2
    with pytest.raises(DataError, match="no row has scores of all its answers"):
        reward_bench_2_metrics({}, broken, resamples=0)


@needs("rewardbench")
def test_reference_functions() -> None:
    expected = json.loads((DATA / "rewardbench/expected_reference_functions.json").read_text())
    for case in expected["v1_section_scores"]:
        there = {section: score for section, score in case["section_scores"].items() if score}
        assert section_scores(case["subset_accuracy"]) == pytest.approx(there, abs=1e-12)
    for case in expected["v2_best_of_n"]:
        assert best_of_n(case["scores_first_is_correct"]) == pytest.approx(case["credit"], abs=1e-12)
    for case in expected["v2_ties"]:
        prompts = [TiedPrompt(row["id"], row["num_correct"], tuple(row["scores"])) for row in case["rows"]]
        assert ties_score(prompts) == pytest.approx(case["overall"], abs=1e-12)
    facts = json.loads((DATA / "rewardbench/subsets.json").read_text())
    assert {subset: n for counts in SECTIONS.values() for subset, n in counts.items()} == facts["example_counts"]
    assert {section: list(counts) for section, counts in SECTIONS.items()} == facts["subset_mapping"]


def test_rm_bench_by_hand() -> None:
    # Right answers score 1, 2, 3 by style, wrong ones 2, 2, 2: wins only where the right one is in markdown.
    outcomes = outcomes_of_scores(np.array([[1.0, 2, 3]]), np.array([[2.0, 2, 2]]))
    assert outcomes.tolist() == [[[0, 0, 0], [0.5, 0.5, 0.5], [1, 1, 1]]]
    found = rm_bench_metrics(["chat"], outcomes, resamples=0)
    assert found["cells"]["chat"] == {"easy": pytest.approx(2 / 3), "normal": pytest.approx(1 / 3), "hard": 0}
    assert found["overall"] == pytest.approx(1 / 3) and found["ties"] == pytest.approx(1 / 3)
    two = rm_bench_metrics(["chat", "code", "code"], np.concatenate([outcomes, np.ones((2, 3, 3))]), resamples=0)
    assert two["overall"] == pytest.approx((1 / 3 + 1) / 2) and two["example_weighted"] == pytest.approx(21 / 27)


def test_missing_scores_are_left_out() -> None:
    outcomes = outcomes_of_scores(np.array([[1.0, NAN, 3]]), np.array([[0.0, 0, 0]]))
    found = rm_bench_metrics(["math"], outcomes, resamples=0)
    assert (found["n_comparisons"], found["n_failed"], found["example_weighted"]) == (6, 3, 1)


def test_both_averages_of_domains() -> None:
    # Think-RM's table: reported as one average, though the two differ by four points.
    accuracy = {"chat": 66.41, "code": 54.68, "math": 72.25, "safety": 91.51}
    found = domain_averages(accuracy, {"chat": 129, "code": 228, "math": 529, "safety": 441})
    assert (round(found["example_weighted"], 2), round(found["macro"], 2)) == (75.06, 71.21)


def test_nine_comparisons_an_item() -> None:
    counts = {"chat": 129, "code": 228, "math": 529, "safety": 441}
    items = [Item(f"{d}{n}", d, "p", ("a",) * 3, ("b",) * 3) for d, count in counts.items() for n in range(count)]
    pairs = comparisons(items)
    assert len(pairs) == 11_943
    assert [sum(pair.difficulty == name for pair in pairs[:9]) for name in ("easy", "normal", "hard")] == [3, 3, 3]


def test_rm_bench_rows_that_cannot_be_used() -> None:
    row = {"id": "1", "domain": "chat", "prompt": "p", "chosen": ["a"] * 3, "rejected": ["b"] * 3}
    for change, message in (
        ({"chosen": ["a"]}, "f: `chosen`, `rejected`: expected three texts each"),
        ({"domain": "poetry"}, "f: `domain`: expected one of chat, math, code, safety, got 'poetry'"),
    ):
        with pytest.raises(DataError, match=message):
            read_items([("f", row | change)])
    with pytest.raises(DataError, match="f: `id`: '1' stands more than once in chat"):
        read_items([("f", row), ("f", row)])


def hash_of(prompt: str, response: str) -> int:
    return int(hashlib.sha256(f"{prompt}\0{response}".encode()).hexdigest(), 16)


SCORERS = {
    "length": lambda prompt, text: len(text),
    "neg_length": lambda prompt, text: -len(text),
    "constant": lambda prompt, text: 1,
    "coarse_hash": lambda prompt, text: hash_of(prompt, text) % 4,
    "hash_biased": lambda prompt, text: hash_of(prompt, text) % 1_000_000 / 1e6 + 0.0003 * len(text),
}


@cache
def published(name: str) -> list[Item]:
    return read_items(located(DATA / f"rmbench/{name}.parquet"))


def outcomes(items: list[Item], scorer: str, swapped: bool = False) -> np.ndarray:
    score = SCORERS[scorer]
    sides = [
        np.array([[score(item.prompt, text) for text in side(item)] for item in items], float)
        for side in (lambda item: item.chosen, lambda item: item.rejected)
    ]
    return outcomes_of_scores(*(sides[::-1] if swapped else sides))


@needs("rmbench")
@pytest.mark.parametrize("scorer", list(SCORERS))
def test_toy_scorers_come_out_as_in_the_reference(scorer: str) -> None:
    expected = json.loads((DATA / "rmbench/expected_toy_scorers.json").read_text())["expected"][scorer]
    domains: list[str] = []
    parts: list[np.ndarray] = []
    for name in FILES:
        items = published(name)
        found = rm_bench_metrics([item.domain for item in items], outcomes(items, scorer), resamples=0)
        for difficulty in ("easy", "normal", "hard"):
            assert found[difficulty] == pytest.approx(expected[name][f"{difficulty}_acc"], abs=1e-12)
        domains += [item.domain for item in items]
        parts.append(outcomes(items, scorer))
    # The math domain is stood in for by the code items with their sides swapped.
    domains += ["math"] * len(published("code_filtered"))
    parts.append(outcomes(published("code_filtered"), scorer, swapped=True))
    found = rm_bench_metrics(domains, np.concatenate(parts), resamples=0)
    total = expected["_aggregate_with_fake_math"]
    assert found["domains"] == pytest.approx({d: total[d] for d in ("chat", "math", "code", "safety")}, abs=1e-12)
    for difficulty in ("easy", "normal", "hard"):
        assert found[difficulty] == pytest.approx(total[f"{difficulty}_acc"], abs=1e-12)
    assert found["overall"] == pytest.approx(total["total_avg_acc"], abs=1e-12)


@needs("rmbench")
def test_published_items() -> None:
    items = [item for name in FILES for item in published(name)]
    assert len(items) == 129 + 228 + 441 and len(comparisons(items)) == 9 * 798
    constant = rm_bench_metrics([item.domain for item in items], outcomes(items, "constant"), resamples=0)
    assert constant["overall"] == 0 and constant["ties"] == 1


@needs("rmbench")
def test_published_rows_hold_to_the_averages() -> None:
    checked = 0
    off: list[str] = []
    with Path(DATA / "rmbench/leaderboard_published.csv").open() as file:
        for row in csv.DictReader(file):
            if row["Potentially Score Mismatch"].strip().lower() != "false":
                continue
            try:
                domains = {name.lower(): float(row[name]) for name in ("Chat", "Math", "Code", "Safety")}
                difficulties = [float(row[name]) for name in ("Easy", "Normal", "Hard")]
            except ValueError:
                continue
            checked += 1
            macro = domain_averages(domains, dict.fromkeys(domains, 1))["macro"]
            # Every number is rounded to one digit.
            if max(abs(macro - float(row["Overall"])), abs(np.mean(difficulties) - float(row["Overall"]))) > 0.11:
                off.append(row["Model Name"])
    assert checked >= 30
    # Not flagged as computed otherwise, and yet not the mean of their own row.
    assert set(off) == {"GPT-4.1", "DeepSeek V3", "RM-R1-Qwen-Instruct-14B"}


def test_preferences_by_hand() -> None:
    found = preference_metrics(np.array([1, 1, 0, 0.5, NAN, 1]), ["a", "a", "a", "a", "b", "b"], resamples=30)
    assert found["accuracy"] == pytest.approx(3 / 5) and found["accuracy_ties_half"] == pytest.approx(3.5 / 5)
    assert found["macro"] == pytest.approx((0.5 + 1) / 2) and (found["n"], found["n_failed"]) == (5, 1)
    assert found["groups"]["b"] == {"accuracy": 1, "n": 1}
