"""Every flag has an effect, or is refused in one line."""

import json
from pathlib import Path

import pytest

from tests.evaluation.shared import call, called, write_lines

EXISTING = {"alpaca": "--annotations", "mt-bench": "--judgments", "ifeval": "--responses", "ifbench": "--responses"}
EXISTING |= {"arena-hard": "--battles"}


def refused(*arguments: object) -> str:
    [told] = set(call(*arguments, code=2).strip().splitlines())
    return told


@pytest.mark.parametrize(
    ("benchmark", "flags"),
    [
        ("alpaca", ("--cv",)),
        ("alpaca", ("--legacy-positions",)),
        ("alpaca", ("--model", "m")),
        ("alpaca", ("--baseline", "b.jsonl")),
        ("alpaca", ("--expected", "e.csv")),
        ("mt-bench", ("--model", "m")),
        ("ifeval", ("--rows", "rows.jsonl")),
        ("ifeval", ("--reference-rng",)),
        ("ifbench", ("--rows", "rows.jsonl")),
        ("arena-hard", ("--baseline", "m")),
    ],
)
def test_flags_of_existing_files_are_refused_in_a_run(benchmark: str, flags: tuple[str, ...]) -> None:
    assert f"{flags[0]} needs {EXISTING[benchmark]}" in refused(benchmark, "run.yaml", *flags, "-o", "out")


@pytest.mark.parametrize("benchmark", EXISTING)
@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("run.yaml",), "the configuration 'run.yaml'"), (("run.yaml", "limit=3"), "run.yaml"), (("-o", "out"), "-o")],
)
def test_what_a_run_takes_is_refused_beside_existing_files(
    benchmark: str, arguments: tuple[str, ...], named: str
) -> None:
    told = refused(benchmark, *arguments, EXISTING[benchmark], "a.jsonl")
    assert f"says nothing beside {EXISTING[benchmark]}" in told and named in told


@pytest.mark.parametrize(
    ("benchmark", "flags"),
    [
        ("alpaca", ("--dry-run",)),
        ("alpaca", ("--template", "t")),
        ("mt-bench", ("--dry-run",)),
        ("mt-bench", ("--template", "t")),
        ("mt-bench", ("--questions", "q")),
        ("mt-bench", ("--references", "r")),
    ],
)
def test_flags_of_a_run_are_refused_beside_existing_files(benchmark: str, flags: tuple[str, ...]) -> None:
    told = refused(benchmark, EXISTING[benchmark], "a.jsonl", *flags)
    assert f"{flags[0]} says nothing beside {EXISTING[benchmark]}" in told


def test_flags_that_rule_each_other_out() -> None:
    told = refused("alpaca", "--annotations", "a.jsonl", "--C", "3", "--cv")
    assert "--C says nothing beside --cv, which chooses C" in told
    for flag in ("--model", "--baseline", "--eval-set"):
        told = refused("alpaca", "--annotations", "a.jsonl", "--expected", "e.csv", flag, "x")
        assert f"{flag} says nothing beside --expected" in told


def test_numbers_of_flags_are_put_over_the_configuration(tmp_path: Path) -> None:
    # A number that the configuration's own check refuses shows that the flag arrives there.
    (tmp_path / "run.yaml").write_text(json.dumps({"resamples": "many", "strong": "very", "C": "large"}))
    for benchmark, flag, field in (
        ("alpaca", "--resamples", "resamples"),
        ("mt-bench", "--resamples", "resamples"),
        ("arena-hard", "--strong", "strong"),
        ("alpaca", "--C", "C"),
    ):
        arguments = (benchmark, tmp_path / "run.yaml", "-o", tmp_path / "out")
        assert f"{field}: " in call(*arguments, code=2)
        assert f"{field}: " not in call(*arguments, flag, 7, code=2)


def test_resamples_of_existing_files(tmp_path: Path) -> None:
    grades = [{"model": "m", "question_id": 81 + n, "turn": 1, "score": 5 + n} for n in range(3)]
    path = write_lines(tmp_path / "grades.jsonl", grades)
    assert not called("mt-bench", "--judgments", path, "--resamples", 0).get("intervals")
    assert called("mt-bench", "--judgments", path)["intervals"]
