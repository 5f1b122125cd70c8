"""AlpacaEval's files, annotations by number and those of the length control: what is refused."""

from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import DataError
from rlrules.evaluation.alpaca_data import annotations_of, read_eval_set
from rlrules.evaluation.alpaca_glm import read_inputs
from rlrules.evaluation.alpaca_inputs import read_difficulty, read_gamed

GAMED = ["0.8,0,-1.0,0.5", "0.9,1,-2.0,-0.5", "0.1,0,1.0,0.5", "0.2,1,2.0,-0.5"]


def gamed(folder: Path, lines: list[str]) -> Path:
    path = folder / "gamed.csv"
    path.write_text("\n".join(["preference,index,std_delta_len,instruction_difficulty", *lines]) + "\n")
    return path


def difficulty(folder: Path, lines: list[str]) -> Path:
    path = folder / "difficulty.csv"
    # As the official file, without a name over the index.
    path.write_text("\n".join([",instruction_difficulty", *lines]) + "\n")
    return path


def test_both_files(tmp_path: Path) -> None:
    found = read_inputs(difficulty(tmp_path, ["0,0.5", "1,-0.5"]), gamed(tmp_path, GAMED))
    assert found.difficulty is not None and found.difficulty.tolist() == [0.5, -0.5] and found.variant == "full"
    assert found.gamed is not None and found.gamed.preference.tolist() == [0.8, 0.9, 0.1, 0.2]
    assert read_gamed(gamed(tmp_path, GAMED))[1].tolist() == [0.5, -0.5]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1.5,0,-1.0,0.5", *GAMED[1:]], "row 1: `preference`: expected 0 to 1, got 1.5"),
        ([*GAMED[:3], ",1,2.0,-0.5"], "row 4: `preference`: expected a number, got nothing"),
        ([*GAMED[:3], "0.2,1,long,-0.5"], "row 4: `std_delta_len`: expected a number, got 'long'"),
        ([*GAMED[:3], "0.2,1,inf,-0.5"], "row 4: `std_delta_len`: expected a number, got inf"),
        ([GAMED[0], GAMED[3], GAMED[3]], "row 3: `index`: expected 2, got 1"),
        ([*GAMED[:3], "0.2,3,2.0,-0.5"], "row 4: `index`: expected 1, got 3"),
        (GAMED[1:], "row 1: `index`: expected 0, got 1"),
        (GAMED[:3], "`index`: its last pass ends at 0, its first at 1"),
        ([*GAMED[:3], "0.2,1,2.0,-0.4"], "row 4: `instruction_difficulty`: -0.4, but instruction 1 has -0.5"),
        ([], "no rows"),
    ],
)
def test_gamed_rows_that_cannot_be_used_are_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_gamed(gamed(tmp_path, lines))
    assert message in str(caught.value) and "gamed.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0,0.5", "1,"], "row 2: `instruction_difficulty`: expected a number, got nothing"),
        (["0,0.5", "1,hard"], "row 2: `instruction_difficulty`: expected a number, got 'hard'"),
        (["0,0.5", "2,0.5"], "row 2: ``: expected 1, got 2; rows go 0, 1, 2, …"),
        ([], "expected the columns index, instruction_difficulty"),
    ],
)
def test_difficulties_that_cannot_be_used_are_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_difficulty(difficulty(tmp_path, lines))
    assert message in str(caught.value) and "difficulty.csv" in str(caught.value)


def test_files_of_different_instructions_are_refused(tmp_path: Path) -> None:
    passes = gamed(tmp_path, GAMED)
    with pytest.raises(DataError, match=r"gamed.csv: `index`: 2 instructions, but .*difficulty.csv has 3"):
        read_inputs(difficulty(tmp_path, ["0,0.5", "1,-0.5", "2,0"]), passes)
    with pytest.raises(DataError, match=r"instruction 1 has -0.5, but .*difficulty.csv has -0.50001"):
        read_inputs(difficulty(tmp_path, ["0,0.5", "1,-0.50001"]), passes)
    read_inputs(difficulty(tmp_path, ["0,0.5", "1,-0.5000001"]), passes)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, -1], "f:1: `prompt_index`: expected an integer from 0, got -1"),
        ([0, "1"], "f:1: `prompt_index`: expected an integer from 0, got '1'"),
        ([0, 1.0], "f:1: `prompt_index`: expected an integer from 0, got 1.0"),
        ([None, 1], "f:0: `prompt_index`: expected an integer from 0, got None"),
        ([1, 1], "f:1: `prompt_index`: 1 stands more than once"),
        ([0, 2], "f:1: `prompt_index`: the evaluation set has no instruction 2"),
    ],
)
def test_indices_that_cannot_be_used_are_named(indices: list[Any], message: str) -> None:
    eval_set = read_eval_set([(f"e:{n}", {"instruction": f"i{n}", "output": "abc"}) for n in range(2)])
    compact_rows = [
        (f"f:{n}", {"row": n, "prompt_index": index, "len_1": 1, "len_2": 2, "preference": 1.5})
        for n, index in enumerate(indices)
    ]
    bare = [(f"f:{n}", {"prompt_index": index, "output_2": "x", "preference": 1}) for n, index in enumerate(indices)]
    for given in (compact_rows, bare):
        if given is bare and "more than once" in message:
            message = "f: 1 instructions or rows stand more than once: i1"
        with pytest.raises(DataError) as caught:
            annotations_of(given, "f", eval_set=eval_set)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": None}, "f:1: `row`: expected an integer from 0, got None"),
        ({"row": "1"}, "f:1: `row`: expected an integer from 0, got '1'"),
        ({"switched": "no"}, "f:1: `switched`: expected true or false, got 'no'"),
        ({"len_1": float("inf")}, "f:1: `len_1`: expected a number of characters, got inf"),
        ({"len_2": -1}, "f:1: `len_2`: expected a number of characters, got -1"),
    ],
)
def test_compact_rows_that_cannot_be_used_are_named(change: dict[str, Any], message: str) -> None:
    row = {"row": 0, "switched": True, "len_1": 1, "len_2": 2, "preference": 1.5}
    with pytest.raises(DataError) as caught:
        annotations_of([("f:0", row), ("f:1", row | {"row": 1} | change)], "f")
    assert str(caught.value) == message
