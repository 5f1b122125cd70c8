"""AlpacaEval's numbers, by hand and against the published leaderboard."""

import csv
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrules.errors import DataError
from rlrules.evaluation.alpaca_data import (
    Annotations,
    annotations_of,
    models_of,
    read_annotations,
    read_eval_set,
)
from rlrules.evaluation.alpaca_glm import Inputs, design, fit
from rlrules.evaluation.alpaca_inputs import read_difficulty, read_gamed
from rlrules.evaluation.alpaca_metrics import (
    Settings,
    alpaca_metrics,
    closed_form,
    intervals,
    length_controlled,
    paired_difference,
    win_rates,
)
from rlrules.evaluation.alpaca_resample import resampled_win_rates
from rlrules.evaluation.files import located
from rlrules.evaluation.leaderboard import deviations, largest
from tests.evaluation.shared import DATA, call, called, needs, write_lines

ALPACA = DATA / "alpacaeval2"
COMPACT = ALPACA / "annotations_compact_40models.parquet"
GLM = (
    "--difficulty",
    ALPACA / "instruction_difficulty_recovered.csv",
    "--gamed",
    ALPACA / "df_gamed_reconstructed.csv",
)


@cache
def compact() -> list[tuple[str, dict[str, Any]]]:
    return list(located(COMPACT))


def published(model: str) -> Annotations:
    return annotations_of(compact(), str(COMPACT), model)


@cache
def inputs() -> Inputs:
    return Inputs(read_difficulty(GLM[1]), read_gamed(GLM[3])[0])


def rows(preferences: list[float | None], lengths: list[int] | None = None) -> list[tuple[str, dict[str, Any]]]:
    lengths = lengths or [3] * len(preferences)
    return [
        (f"f:{n}", {"instruction": f"i{n}", "output_1": "abc", "output_2": "x" * length, "preference": preference})
        for n, (preference, length) in enumerate(zip(preferences, lengths, strict=True))
    ]


def test_raw_numbers_by_hand() -> None:
    # y: 0, 1, 0.5 (a tie as 1.5), 0.5 (an old tie as 0), 0.75, two missing.
    made = annotations_of(rows([1.0, 2.0, 1.5, 0, 1.75, None, -1]), "f")
    found = win_rates(made)
    assert found["win_rate"] == pytest.approx(100 * 2.75 / 5)
    # Deviations from 0.55: 0.3025 + 0.2025 + 0.0025 + 0.0025 + 0.04 = 0.55, over 4 and then 5.
    assert found["standard_error"] == pytest.approx(100 * math.sqrt(0.55 / 4 / 5))
    assert found["discrete_win_rate"] == pytest.approx(100 * (0 + 1 + 0.5 + 0.5 + 1) / 5)
    assert [found[name] for name in ("n_wins", "n_wins_base", "n_draws", "n_total", "avg_length")] == [2, 1, 2, 5, 3]


def test_annotations_that_cannot_be_used_are_named() -> None:
    with pytest.raises(DataError, match=r"f:0: `preference`: expected 1 \(baseline\) to 2 \(model\), got 2.5"):
        annotations_of(rows([2.5]), "f")
    with pytest.raises(DataError, match="f: 1 instructions or rows stand more than once: i0"):
        annotations_of([*rows([1.0]), *rows([1.0])], "f")
    for instruction in (None, "", " ", 7):
        with pytest.raises(DataError, match="f:0: `instruction`: expected text, got"):
            annotations_of([("f:0", rows([1.0])[0][1] | {"instruction": instruction})], "f")
    with pytest.raises(DataError, match="e:0: `instruction`: expected text, got ''"):
        read_eval_set([("e:0", {"instruction": "", "output": "x"})])
    with pytest.raises(DataError, match="f:0: `preference`: is missing"):
        annotations_of([("f:0", {"instruction": "", "output_1": "", "output_2": ""})], "f")
    mixed = [(where, row | {"annotator": f"j{n}"}) for n, (where, row) in enumerate(rows([1.0, 2.0]))]
    with pytest.raises(DataError, match=r"f: mixes the verdicts of 2 judges \(j0, j1\); keep one's"):
        annotations_of(mixed, "f")
    two = [(where, row | {"generator_2": f"m{n}"}) for n, (where, row) in enumerate(rows([1.0, 2.0]))]
    with pytest.raises(DataError, match=r"f: holds 2 models; choose one with --model \(m0, m1\)"):
        annotations_of(two, "f")
    with pytest.raises(DataError, match=r"f: no model 'm7' \(there: m0, m1\)"):
        annotations_of(two, "f", "m7")
    assert annotations_of(two, "f", "m1").preference.tolist() == [2.0]


def test_instructions_are_matched_with_the_evaluation_set() -> None:
    eval_set = read_eval_set([(f"e:{n}", {"instruction": f"i{n}", "output": "abc"}) for n in (2, 0, 1)])
    assert annotations_of(rows([1.0, 2.0, 1.0]), "f", eval_set=eval_set).prompt.tolist() == [1, 2, 0]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="f: 1 instructions have no annotation: i2"):
        annotations_of(rows([1.0, 2.0]), "f", eval_set=eval_set)
    assert len(annotations_of(rows([1.0, 2.0]), "f", eval_set=eval_set, partial=True)) == 2
    with pytest.raises(DataError, match="f: 1 instructions are not in the evaluation set: i3"):
        annotations_of(rows([1.0] * 4), "f", eval_set=eval_set)
    with pytest.raises(DataError, match="stand more than once: a"):
        read_eval_set([("e:1", {"instruction": "a", "output": ""}), ("e:2", {"instruction": "a", "output": ""})])


def test_difficulties_by_place_are_warned_of() -> None:
    warning = "difficulties are given by the row's place in the file; --eval-set gives them by instruction"
    known, settings = Inputs(np.array([0.0, 1.0, 2.0])), Settings(resamples=0)
    made = annotations_of(rows([1.2, 1.9, 1.4], [1, 2, 4]), "f")
    assert warning in alpaca_metrics(made, known, settings)["warnings"]
    assert warning not in alpaca_metrics(made, Inputs(), settings)["warnings"]
    assert warning not in alpaca_metrics(made, known, Settings(legacy_positions=True, resamples=0))["warnings"]
    eval_set = read_eval_set([(f"e:{n}", {"instruction": f"i{n}", "output": "abc"}) for n in range(3)])
    placed = annotations_of(rows([1.2, 1.9, 1.4], [1, 2, 4]), "f", eval_set=eval_set)
    assert warning not in alpaca_metrics(placed, known, settings)["warnings"]


def test_empty_outputs_are_listed_and_warned_of() -> None:
    metrics = alpaca_metrics(annotations_of(rows([1.0, 2.0, 1.2], [0, 3, 5]), "f"), Inputs(), Settings(resamples=0))
    assert metrics["empty_outputs"] == [0] and "1 outputs are empty" in metrics["warnings"]


def test_length_alone_explains_nothing_once_controlled() -> None:
    # The preference is a function of the length difference alone: at equal lengths the win rate is one half.
    difference = np.random.default_rng(0).integers(-900, 900, 400)
    scaled = np.tanh(difference / np.std(difference, ddof=1))
    preference = 1 + 1 / (1 + np.exp(2 * scaled))
    lengths = (1000 - difference).astype(int).tolist()
    made = annotations_of(
        [
            (f"f:{n}", {"row": n, "len_1": 1000, "len_2": lengths[n], "preference": p, "prompt_index": n})
            for n, p in enumerate(preference.tolist())
        ],
        "f",
    )
    metrics = alpaca_metrics(made, Inputs(), Settings(C=1e4, resamples=0))
    assert metrics["length_controlled_winrate"] == pytest.approx(50, abs=0.05)
    assert metrics["coefficients"]["length"] == pytest.approx(-2, abs=0.01)
    assert metrics["variant"] == "no difficulty, no regulariser"


@pytest.mark.parametrize("C", [0.5, 21.5])
def test_a_model_that_always_wins_or_loses(C: float) -> None:
    # Hard verdicts of one kind: n log(1 + exp(-b)) C + |b| is least where n C / (1 + exp(b)) = 1.
    settings = Settings(C=C, resamples=20)
    for preference, sign in ((2.0, 1), (1.0, -1)):
        metrics = alpaca_metrics(annotations_of(rows([preference] * 8, [3] * 8), "f"), Inputs(), settings)
        expected = 100 / (1 + math.exp(-sign * math.log(8 * C - 1)))
        assert metrics["length_controlled_winrate"] == pytest.approx(expected, abs=0.02)
        interval = metrics["intervals"]["length_controlled_winrate"]
        assert interval["low"] == pytest.approx(expected, abs=0.02) == interval["high"]
    with pytest.raises(DataError, match="3 rows with a preference cannot be cross-validated in 5 folds"):
        alpaca_metrics(annotations_of(rows([1.2, 1.3, 1.9]), "f"), Inputs(), Settings(cross_validate=True))


def test_rows_of_unknown_place_are_refused_where_some_are_missing() -> None:
    made = annotations_of(rows([1.0, 2.0, 1.0], [1, 2, 3]), "f")
    known = Inputs(np.array([0.0, 1.0, 2.0, 3.0]))
    with pytest.raises(DataError, match="give the instructions with --eval-set, or --legacy-positions"):
        design(made, known)
    assert design(made, known, legacy_positions=True).difficulty.tolist() == [0, 1, 2]


@needs("alpacaeval2")
def test_forty_models_come_out_as_published() -> None:
    rows = deviations(COMPACT, ALPACA / "expected_40models.csv", inputs(), Settings(legacy_positions=True))
    assert len(rows) == 40
    worst = largest(rows)
    assert max(worst[name] for name in ("win_rate", "standard_error", "discrete_win_rate")) < 1e-8
    assert [worst[name] for name in ("n_wins", "n_wins_base", "n_draws", "n_total")] == [0, 0, 0, 0]
    assert worst["length_controlled_winrate"] < 1e-5 and worst["lc_standard_error"] < 1e-6


@needs("alpacaeval2")
def test_closed_form_over_the_leaderboard() -> None:
    difficulty = inputs().difficulty
    assert difficulty is not None
    with (ALPACA / "leaderboard_official.csv").open() as file:
        official = {row["model"]: row for row in csv.DictReader(file)}
    off: dict[str, float] = {}
    compared = 0
    with (ALPACA / "glm_weights_official.csv").open() as file:
        for row in csv.reader(file):
            rate = official.get(row[0], {}).get("length_controlled_winrate")
            if not rate:
                continue
            compared += 1
            # `n_total` is short of 805 by rows that are not there, or by rows without a preference, which still count.
            ours = [
                closed_form([float(value) for value in row[1:]], difficulty[:n])
                for n in (int(official[row[0]]["n_total"]), len(difficulty))
            ]
            deviation = min(abs(value - float(rate)) for value in ours)
            if deviation > 1e-6:
                off[row[0]] = deviation
    assert compared > 170
    # Upstream's own two files disagree on these.
    assert off.keys() <= {"dbrx-instruct", "NullModel"}


@needs("alpacaeval2")
def test_published_probabilities_of_single_rows() -> None:
    chances: dict[str, dict[int, float]] = {}
    for _, row in located(ALPACA / "glm_preference_published.parquet"):
        chances.setdefault(row["model"], {})[row["row"]] = row["glm_preference"]
    with (ALPACA / "glm_weights_official.csv").open() as file:
        weights = {row[0]: [float(value) for value in row[1:]] for row in list(csv.reader(file))[1:]}
    difficulty = inputs().difficulty
    assert difficulty is not None
    compared = 0
    for model, known in chances.items():
        if model in weights and len(known) == len(difficulty):
            compared += 1
            ours = 1 / (1 + np.exp(-(weights[model][2] + weights[model][1] * difficulty)))
            theirs = np.array([known[row] for row in range(len(difficulty))])
            assert np.abs(ours - theirs).max() < (3e-3 if "opus" in model else 1e-8), model
    assert compared >= 15


@needs("alpacaeval2")
def test_cross_validation_is_as_near_as_upstream_is_to_itself() -> None:
    settings = Settings(cross_validate=True, legacy_positions=True)
    rows = deviations(COMPACT, ALPACA / "expected_40models.csv", inputs(), settings)
    assert largest(rows)["length_controlled_winrate"] < 0.2
    same = [row for row in rows if math.isclose(row["C"], row["published_C"] or math.inf, rel_tol=1e-6)]
    assert len(same) >= 20


@needs("alpacaeval2")
def test_the_resampler_solves_what_liblinear_solves() -> None:
    for name in ("NullModel", "vicuna-13b-v1.5", "falcon-7b-instruct", "oasst-sft-pythia-12b"):
        made = published(name)
        for C in (0.05, 2.78, 21.5, 1e4):
            found = length_controlled(made, inputs(), Settings(C=C))
            once = resampled_win_rates(found.rows, found.fit, np.ones((1, len(made)), np.int64))
            assert once[0] == pytest.approx(100 * found.chance.mean(), abs=0.02)
            # And from a far start, on a resample.
            counts = np.random.default_rng(1).multinomial(len(made), np.full(len(made), 1 / len(made)), 2)
            near = resampled_win_rates(found.rows, found.fit, counts)
            far = resampled_win_rates(found.rows, type(found.fit)(np.array([1.0, -1.0, 2.0]), C), counts)
            assert near == pytest.approx(far, abs=1e-3)


@needs("alpacaeval2")
def test_intervals_are_as_wide_as_sampling_errors() -> None:
    made = published("vicuna-13b-v1.5")
    found = intervals(made, length_controlled(made, inputs(), Settings()), Settings())
    raw = win_rates(made)
    width = found["win_rate"].high - found["win_rate"].low
    assert width == pytest.approx(2 * 1.96 * float(raw["standard_error"]), rel=0.1)
    # The reference's error of the controlled rate is the spread of fitted chances, not of the estimate.
    controlled = found["length_controlled_winrate"]
    assert 2 * 0.8 * 1.96 < controlled.high - controlled.low < 2 * 1.7 * 1.96


@needs("alpacaeval2")
def test_paired_differences() -> None:
    first, second = published("vicuna-13b"), published("vicuna-7b-v1.5")
    found = paired_difference(first, second, inputs(), Settings(resamples=300))
    assert found["win_rate"].value == pytest.approx(
        float(win_rates(first)["win_rate"]) - float(win_rates(second)["win_rate"])
    )
    apart = [
        intervals(one, length_controlled(one, inputs(), Settings()), Settings(resamples=300)) for one in (first, second)
    ]
    alone = math.hypot(*(part["win_rate"].high - part["win_rate"].low for part in apart))
    assert found["win_rate"].high - found["win_rate"].low < alone
    same = paired_difference(first, first, inputs(), Settings(resamples=20))
    assert same["length_controlled_winrate"].low == same["length_controlled_winrate"].high == 0
    with pytest.raises(ValueError, match="not annotated on the same instructions"):
        paired_difference(first, published("phi-2"), inputs(), Settings(resamples=20))


@needs("alpacaeval2")
def test_difficulties_follow_the_prompt_where_rows_are_missing() -> None:
    made, difficulty = published("phi-2"), inputs().difficulty
    assert difficulty is not None and made.prompt is not None
    own, legacy = design(made, inputs()), design(made, inputs(), legacy_positions=True)
    assert (own.difficulty == difficulty[made.prompt]).all()
    assert (legacy.difficulty == difficulty[:803]).all() and (own.difficulty != legacy.difficulty).any()
    assert fit(own).coefficients[1] != fit(legacy).coefficients[1]


@needs("alpacaeval2")
def test_the_baseline_against_itself() -> None:
    metrics = alpaca_metrics(published("gpt4_1106_preview"), inputs(), Settings(resamples=5))
    assert metrics["length_controlled_winrate"] == 50 and set(metrics["coefficients"].values()) == {0}
    assert metrics["intervals"]["length_controlled_winrate"] == {"value": 50, "low": 50, "high": 50}


@needs("alpacaeval2")
def test_command_on_all_kinds_of_files(tmp_path: Path) -> None:
    model, C = "alpaca-7b", 21.54434690031882
    whole = called("alpaca", "--annotations", COMPACT, "--model", model, *GLM, "--C", C, "--resamples", 0)
    keys = {
        "win_rate", "standard_error", "length_controlled_winrate", "lc_standard_error", "discrete_win_rate",
        "n_total", "avg_length", "variant",
    }  # fmt: skip
    assert keys <= set(whole) and whole["variant"] == "full"
    assert whole["length_controlled_winrate"] == pytest.approx(5.875485940988946, abs=1e-5)
    questions = [row for _, row in located(ALPACA / "eval_set_gpt4_1106_baseline.parquet")]
    texts = {row["row"]: row for _, row in located(ALPACA / f"annotations_full/{model}.parquet")}
    full = [
        {
            "instruction": question["instruction"],
            "output_1": question["baseline_output"],
            "output_2": texts[number]["output_2"],
            "preference": texts[number]["preference"],
            "generator_1": "gpt4_1106_preview",
            "generator_2": model,
        }
        for number, question in enumerate(questions)
    ]
    (tmp_path / "a.json").write_text(json.dumps(full))
    for path in (tmp_path / "a.json", write_lines(tmp_path / "a.jsonl", full)):
        found = called("alpaca", "--annotations", path, "--model", model, *GLM, "--C", C, "--resamples", 0)
        assert {key: found[key] for key in keys} == {key: whole[key] for key in keys}
    shuffled = write_lines(tmp_path / "b.jsonl", full[::-1])
    sets = ("--eval-set", ALPACA / "eval_set_gpt4_1106_baseline.parquet")
    found = called("alpaca", "--annotations", shuffled, *sets, *GLM, "--C", C, "--resamples", 0)
    # Another order of rows only stops liblinear elsewhere.
    assert found["length_controlled_winrate"] == pytest.approx(whole["length_controlled_winrate"], abs=0.02)
    assert sum(part["n"] for part in found["by_subset"].values()) == 805
    (tmp_path / "cut.json").write_text(json.dumps(full)[:5000])
    assert "cut.json: cannot be read; is it whole?" in call("alpaca", "--annotations", tmp_path / "cut.json", code=2)
    assert "1 instructions have no annotation" in call(
        "alpaca", "--annotations", write_lines(tmp_path / "c.jsonl", full[1:]), *sets, code=2
    )


@needs("alpacaeval2")
def test_rows_that_hold_only_the_index_of_their_instruction() -> None:
    path, sets = ALPACA / "annotations_full/phi-2.parquet", ALPACA / "eval_set_gpt4_1106_baseline.parquet"
    found = called("alpaca", "--annotations", path, "--eval-set", sets, "--legacy-positions", *GLM, "--resamples", 0)
    assert found["model"] == "phi-2" and found["win_rate"] == win_rates(published("phi-2"))["win_rate"]
    told = call("alpaca", "--annotations", path, "--eval-set", sets, code=2)
    assert "2 instructions have no annotation" in told


@needs("alpacaeval2")
def test_command_prints_the_table_of_deviations() -> None:
    told = call(
        "alpaca", "--annotations", COMPACT, "--expected", ALPACA / "expected_40models.csv", "--legacy-positions", *GLM
    )
    assert "40 models" in told and "oasst-sft-pythia-12b" in told


def test_the_only_model_of_a_file_has_the_name_that_is_given(tmp_path: Path) -> None:
    row = {"row": 0, "preference": 1.5, "len_1": 1, "len_2": 2}
    named = write_lines(tmp_path / "a.jsonl", [row | {"model": "m1"}])
    bare = write_lines(tmp_path / "b.jsonl", [row])
    assert [read_annotations(named).model, read_annotations(bare).model] == ["m1", "b"]
    assert [read_annotations(path, "other").model for path in (named, bare)] == ["other", "other"]


@needs("alpacaeval2")
def test_models_of_a_file() -> None:
    assert len(models_of(compact())) == 40
    with pytest.raises(DataError, match="holds 40 models; choose one with --model"):
        read_annotations(COMPACT)
