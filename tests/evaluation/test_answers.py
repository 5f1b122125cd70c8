"""Files of existing answers in which a row stands twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import DataError
from rlrules.evaluation.files import located
from rlrules.evaluation.mt_bench_data import read_answers
from tests.evaluation.shared import call, write_lines

JUDGE = {"type": "openai", "urls": ["http://127.0.0.1:9/v1"], "model": "fake", "cache": False, "retries": 0}


def run_of(folder: Path, **content: Any) -> Path:
    path = folder / "run.yaml"
    path.write_text(json.dumps(content))
    return path


def test_a_model_answers_a_question_of_mt_bench_once(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"model": model, "question_id": number, "turns": ["a", "b"]} for model in ("m", "n") for number in (81, 82)
    ]
    path = write_lines(tmp_path / "answers.jsonl", rows)
    assert len(read_answers(located(path))) == 4
    write_lines(path, [*rows, {"model": "n", "question_id": 82, "turns": ["c", "d"]}])
    with pytest.raises(DataError, match=r"answers\.jsonl:5: `question_id`: n, 82 stands more than once"):
        read_answers(located(path))


def test_a_question_of_mt_bench_has_one_reference(tmp_path: Path) -> None:
    questions = write_lines(tmp_path / "q.jsonl", [{"question_id": 81, "category": "math", "turns": ["a", "b"]}])
    rows = [{"model": model, "question_id": 81, "turns": ["a", "b"]} for model in ("m", "n")]
    references = write_lines(tmp_path / "r.jsonl", rows)
    path = run_of(tmp_path, model=JUDGE, judge=JUDGE, questions=str(questions), references=str(references))
    told = call("mt-bench", path, "-o", tmp_path / "out", code=2)
    assert "r.jsonl: n: `question_id`: 81 stands more than once" in told


@pytest.mark.parametrize("twice", ["answers", "baseline"])
def test_a_prompt_of_arena_hard_has_one_answer(tmp_path: Path, twice: str) -> None:
    questions = write_lines(tmp_path / "q.jsonl", [{"uid": "u0", "prompt": "Do."}])
    files = {name: write_lines(tmp_path / f"{name}.jsonl", []) for name in ("answers", "baseline")}
    for name, path in files.items():
        write_lines(path, [{"uid": "u0", "answer": text} for text in (("a", "b") if name == twice else ("a",))])
    path = run_of(tmp_path, judge=JUDGE, questions=str(questions), **{name: str(own) for name, own in files.items()})
    told = call("arena-hard", path, "-o", tmp_path / "out", code=2)
    assert f"{twice}.jsonl:2: `uid`: u0 stands more than once" in told


def test_a_prompt_of_ifeval_has_one_answer(tmp_path: Path) -> None:
    pytest.importorskip("if_verifiable", reason="if-verifiable is not installed")
    prompt = {"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    prompts = write_lines(tmp_path / "prompts.jsonl", [prompt])
    answers = write_lines(tmp_path / "answers.jsonl", [{"key": key, "response": "r"} for key in (1, "1")])
    path = run_of(tmp_path, prompts=str(prompts), answers=str(answers))
    told = call("ifeval", path, "-o", tmp_path / "out", code=2)
    assert "answers.jsonl:2: `key`: 1 stands more than once" in told
