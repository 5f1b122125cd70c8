"""Two models' AlpacaEval verdicts beside each other."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import DataError
from rlrules.evaluation.alpaca_data import annotations_of, read_annotations
from rlrules.evaluation.alpaca_glm import Inputs, read_inputs
from rlrules.evaluation.alpaca_metrics import Settings, length_controlled
from rlrules.evaluation.alpaca_paired import LENGTH_CONTROL, inputs_record, shared_fit
from rlrules.evaluation.compare import compare
from tests.evaluation.shared import call, called, write_lines

N = 12


def annotated(name: str, preferences: list[float]) -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"i{n}",
            "output_1": "abc",
            "output_2": "x" * (1 + n % 5),
            "preference": preference,
            "generator_2": name,
        }
        for n, preference in enumerate(preferences)
    ]


MINE = [1.9 if n % 3 else 1.2 for n in range(N)]
THEIRS = [1.8 if n % 2 else 1.1 for n in range(N)]


def test_files_are_paired_by_instruction(tmp_path: Path) -> None:
    mine = write_lines(tmp_path / "mine.jsonl", annotated("mine", MINE))
    theirs = write_lines(tmp_path / "theirs.jsonl", annotated("theirs", THEIRS)[::-1])
    found = called("alpaca", "--annotations", mine, "--baseline", theirs)["paired"]
    assert (found["model"], found["baseline"], found["n"]) == ("mine", "theirs", N)
    # 8 of 12 rows at 0.9 and 4 at 0.2; 6 at 0.8 and 6 at 0.1.
    assert found["win_rate"]["value"] == pytest.approx(100 * ((8 * 0.9 + 4 * 0.2) - (6 * 0.8 + 6 * 0.1)) / N)
    assert found["win_rate"]["low"] < found["win_rate"]["value"] < found["win_rate"]["high"]
    # Of a file with itself in another order nothing is left, whichever rows are drawn.
    again = write_lines(tmp_path / "again.jsonl", annotated("again", MINE)[::-1])
    same = called("alpaca", "--annotations", mine, "--baseline", again)["paired"]
    for name in ("win_rate", "length_controlled_winrate"):
        assert same[name] == {"value": 0, "low": 0, "high": 0}
    told = call("alpaca", "--annotations", mine, "--baseline", theirs)
    assert "paired: win rate" in told and "21.6667  (95 % interval" in told
    several = write_lines(tmp_path / "several.jsonl", annotated("a", MINE) + annotated("mine", MINE))
    chosen = called("alpaca", "--annotations", several, "--model", "mine", "--baseline", theirs)["paired"]
    assert chosen["win_rate"] == found["win_rate"]


def test_files_that_cannot_be_paired_are_refused(tmp_path: Path) -> None:
    mine = write_lines(tmp_path / "mine.jsonl", annotated("mine", MINE))

    def told(rows: list[dict[str, Any]]) -> str:
        theirs = write_lines(tmp_path / "theirs.jsonl", rows)
        return call("alpaca", "--annotations", mine, "--baseline", theirs, code=2)

    assert "theirs.jsonl: `instruction`: lacks 2 rows of the other file: i10, i11" in told(annotated("b", THEIRS[:10]))
    assert "mine.jsonl: `instruction`: lacks 1 rows of the other file: i12" in told(annotated("b", [*THEIRS, 1.5]))
    assert "1 instructions or rows stand more than once: i0" in told(annotated("b", THEIRS) + annotated("b", [1.5]))
    assert "holds several models" in told(annotated("b", THEIRS) + annotated("c", THEIRS))
    bare = [{"row": n, "preference": 1.5, "len_1": 1, "len_2": 2} for n in range(N)]
    assert "share none of instruction, prompt_index, row; --eval-set" in told(bare)
    judged = [row | {"annotator": "gpt-4"} for row in annotated("mine", MINE)]
    mine = write_lines(tmp_path / "mine.jsonl", judged)
    assert "`annotator`: other, but" in told([row | {"annotator": "other"} for row in annotated("b", THEIRS)])
    assert "--baseline needs --annotations" in call("alpaca", "run.yaml", "--baseline", mine, "-o", "out", code=2)


def result(folder: Path, preferences: list[float], C: float = 3.0, files: tuple[Any, Any] = (None, None)) -> Path:
    """A finished result, as far as a comparison reads it."""
    folder.mkdir()
    compact = [
        {"row": n, "prompt_index": n, "preference": preference, "len_1": 3, "len_2": 1 + n % 5}
        for n, preference in enumerate(preferences)
    ]
    write_lines(folder / "annotations.jsonl", compact)
    (folder / "manifest.json").write_text(json.dumps({"identity": {"benchmark": "alpaca", "name": folder.name}}))
    (folder / "metrics.json").write_text(json.dumps({"C": C, LENGTH_CONTROL: inputs_record(*files)}))
    (folder / "units.json").write_text(
        json.dumps({"win_rate": {str(n): [p - 1, 1] for n, p in enumerate(preferences)}})
    )
    return folder


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    values = [math.sin(n) for n in range(N)]
    difficulty, gamed = tmp_path / "difficulty.csv", tmp_path / "gamed.csv"
    difficulty.write_text("index,instruction_difficulty\n" + "".join(f"{n},{v}\n" for n, v in enumerate(values)))
    rows = [f"{0.8 - 0.6 * side},{n},{2 * side - 1},{v}\n" for side in (0, 1) for n, v in enumerate(values)]
    gamed.write_text("preference,index,std_delta_len,instruction_difficulty\n" + "".join(rows))
    return str(difficulty), str(gamed)


def test_results_are_compared_with_their_own_fit(tmp_path: Path, files: tuple[str, str]) -> None:
    folders = [result(tmp_path / "a", MINE, files=files), result(tmp_path / "b", THEIRS, files=files)]
    found = compare(folders, resamples=20)
    assert found["warnings"] == []

    def rate(folder: Path, inputs: Inputs, C: float) -> float:
        made = read_annotations(folder / "annotations.jsonl")
        return 100 * float(length_controlled(made, inputs, Settings(C=C)).chance.mean())

    own = read_inputs(Path(files[0]), Path(files[1]))
    expected = rate(folders[1], own, 3.0) - rate(folders[0], own, 3.0)
    assert found["results"][1]["length_controlled_difference"]["value"] == pytest.approx(expected)
    # Which another fit would not give.
    assert abs(rate(folders[1], Inputs(), 21.5) - rate(folders[0], Inputs(), 21.5) - expected) > 0.1


def test_results_of_different_fits_are_refused(tmp_path: Path, files: tuple[str, str]) -> None:
    one = result(tmp_path / "a", MINE, files=files)
    with pytest.raises(DataError, match=r"b: C: 4.0, but .*a has 3.0: length-controlled rates of different fits"):
        compare([one, result(tmp_path / "b", THEIRS, 4.0, files)])
    with pytest.raises(DataError, match=r"c: gamed: none, but .*a has [0-9a-f]{12}"):
        compare([one, result(tmp_path / "c", THEIRS, 3.0, (files[0], None))])
    with pytest.raises(DataError, match=r"--gamed: .*difficulty.csv is another file than .*a was fitted with"):
        compare([one, result(tmp_path / "d", THEIRS, 3.0, files)], inputs={"gamed": Path(files[0])})
    bare = [result(tmp_path / name, MINE) for name in ("e", "f")]
    with pytest.raises(DataError, match=r"--gamed: .*e was fitted without it; leave it out"):
        compare(bare, inputs={"gamed": Path(files[1])})


def test_without_its_files_the_length_controlled_difference_is_left_out(tmp_path: Path, files: tuple[str, str]) -> None:
    folders = [result(tmp_path / "a", MINE, files=files), result(tmp_path / "b", THEIRS, files=files)]
    moved = Path(files[1]).rename(tmp_path / "moved.csv")
    found = compare(folders, resamples=20)
    assert "length_controlled_difference" not in found["results"][1] and "difference" in found["results"][1]
    [warning] = found["warnings"]
    assert warning.startswith("no length-controlled difference: ") and "gamed.csv is not there any more" in warning
    assert "warning: no length-controlled difference" in call("compare", *folders)
    again = compare(folders, inputs={"gamed": moved}, resamples=20)
    assert "length_controlled_difference" in again["results"][1]
    Path(files[1]).write_text(moved.read_text() + "0.5,0,0,0\n")
    assert "gamed.csv has changed since; name the former with --gamed" in compare(folders, resamples=20)["warnings"][0]
    (folders[1] / "metrics.json").write_text('{"C": 3.0}')
    assert shared_fit(folders, [{"C": 3.0, LENGTH_CONTROL: {}}, {"C": 3.0}], {}) == (
        f"{folders[1]} does not say what its length control was fitted with; run it again"
    )


def test_rows_that_know_their_place_lend_it_to_those_that_do_not(tmp_path: Path) -> None:
    placed = [row | {"prompt_index": 5 + n} for n, row in enumerate(annotated("placed", MINE))]
    mine = write_lines(tmp_path / "mine.jsonl", placed)
    theirs = write_lines(tmp_path / "theirs.jsonl", annotated("theirs", THEIRS))
    assert annotations_of([("f", row) for row in placed], "f").prompt is not None
    for pair in ((mine, theirs), (theirs, mine)):
        found = called("alpaca", "--annotations", pair[0], "--baseline", pair[1], "--resamples", 20)["paired"]
        assert abs(found["win_rate"]["value"]) == pytest.approx(100 * 2.6 / N)
