"""MT-Bench from end to end on a fake server: two turns, both modes, references, resuming."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.shared import call, called, read_lines, write_lines
from tests.fakes.openai_server import FakeServer, labels_of, prompt_of

# One of each of four categories: writing, math (twice), humanities; 86 and 116 are held out.
QUESTIONS = {81: "writing", 86: "writing", 111: "math", 116: "math", 151: "humanities"}


def reply(request: dict[str, Any]) -> Any:
    prompt = prompt_of(request)
    if "You grade the last reply" in prompt:
        grade = 9 if "What a correct reply contains" in prompt else 4
        return str(grade) if labels_of(request) else f"It says [[3]] things. Rating: [[{grade}]]"
    if "Two assistants, A and B" in prompt:
        first = prompt.partition("The conversation with assistant B:")[0]
        # The model wins on writing, the first one wins elsewhere.
        verdict = ("A" if "answer to" in first else "B") if "writing" in prompt else "A"
        return verdict if labels_of(request) else f"[[C]] would be too kind: [[{verdict}]]"
    return f"answer to {request['messages'][-1]['content']}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"question_id": number, "category": category, "turns": [f"{category} {number} first", f"{number} second"]}
        for number, category in QUESTIONS.items()
    ]
    write_lines(tmp_path / "questions.jsonl", rows)
    for name, model in (("references", "gpt-4"), ("baseline", "old")):
        write_lines(
            tmp_path / f"{name}.jsonl",
            [{"model_id": model, "question_id": number, "choices": [{"turns": ["r1", "r2"]}]} for number in QUESTIONS],
        )
    return tmp_path


def config(server: FakeServer, **more: Any) -> Path:
    judge = {"type": "openai", "urls": [server.url], "model": "fake", "cache": False, "retries": 0}
    content = {"model": judge, "judge": judge, "questions": "questions.jsonl", "resamples": 50, "max_failed": 0} | more
    path = Path("run.yaml")
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


@pytest.mark.parametrize("explain", [True, False])
def test_grades_by_hand(folder: Path, explain: bool) -> None:
    with FakeServer(reply, keep_bodies=True) as server:
        found = called("mt-bench", config(server, references="references.jsonl", explain=explain), "-o", "out")
        bodies = server.bodies
    # Questions of math are judged with a reference: 9; all others: 4.
    assert found["turn1"] == found["turn2"] == found["average"] == pytest.approx((3 * 4 + 2 * 9) / 5)
    assert found["heldout"] == pytest.approx((4 + 9) / 2) and found["n_used"] == 10
    assert found["by_category"]["math"] == {"turn1": 9, "turn2": 9, "average": 9}
    assert found["published_reference_wrong"] == [111]
    assert found["counts"]["judgments"]["n_parsed"] == 10 and found["counts"]["answers"]["n_parsed"] == 5
    answering = [body for body in bodies if "grade" not in prompt_of(body)]
    temperatures = {prompt_of(body).split()[0]: body["temperature"] for body in answering}
    assert temperatures == {"writing": 0.7, "math": 0.0, "humanities": 0.1}
    second = next(body for body in answering if len(body["messages"]) == 3)
    # The model's own first answer stands before the second question.
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][1]["content"] == f"answer to {second['messages'][0]['content']}"
    row = next(row for row in read_lines(folder / "out/rows.jsonl") if row["key"] == "111:0:2")
    assert row["data"]["value"] == 9 and row["data"]["template"].startswith("grade@")
    assert "MT-Bench" in (folder / "out/page.html").read_text()


def test_pairs_by_hand(folder: Path) -> None:
    with FakeServer(reply) as server:
        found = called("mt-bench", config(server, mode="pair", baseline="baseline.jsonl"), "-o", "out")
        assert server.counts["answered"] == 10 + 20
    # Writing: both orders agree, four wins; elsewhere the orders disagree, six ties.
    assert (found["win"], found["loss"], found["tie"]) == (4, 0, 6)
    assert found["win_rate_adjusted"] == pytest.approx(0.7) and found["flip_rate"] == pytest.approx(0.6)
    assert found["baseline"] == "old" and found["n_pairs"] == 10


def test_a_killed_run_goes_on(folder: Path) -> None:
    broken = {"on": True}

    def failing(request: dict[str, Any]) -> Any:
        wanted = broken["on"] and "You grade" in prompt_of(request) and "writing 81" in prompt_of(request)
        return b"{" if wanted else reply(request)

    with FakeServer(failing) as server:
        path = config(server)
        assert "2 of 10 judgments have no result" in call("mt-bench", path, "-o", "out", code=2)
        broken["on"] = False
        asked = server.counts["requests"]
        found = called("mt-bench", path, "-o", "out")
        assert server.counts["requests"] == asked + 2
    assert found["n_used"] == 10


def test_unreadable_grades_are_counted_and_not_asked_again(folder: Path) -> None:
    def vague(request: dict[str, Any]) -> Any:
        return (
            "Quite good."
            if "You grade" in prompt_of(request) and "writing 81" in prompt_of(request)
            else reply(request)
        )

    with FakeServer(vague) as server:
        path = config(server, max_failed=0.3)
        found = called("mt-bench", path, "-o", "out")
        assert (found["n_used"], found["n_failed"], found["counts"]["judgments"]["n_unparsed"]) == (8, 2, 2)
        asked = server.counts["requests"]
        called("mt-bench", path, "-o", "out")
        assert server.counts["requests"] == asked


def test_splits_samples_and_existing_answers(folder: Path) -> None:
    with FakeServer(reply) as server:
        assert called("mt-bench", config(server), "--dry-run") == {"answers": 10, "judgments": 10}
        found = called("mt-bench", config(server), "split=heldout", "samples=2", "-o", "a")
        assert found["n_used"] == 8 and found["n_questions"] == 2
        path = config(server, model=None, answers="baseline.jsonl")
        asked = server.counts["requests"]
        assert called("mt-bench", path, "-o", "b")["model"] == "old"
        assert server.counts["requests"] == asked + 10
        write_lines(folder / "baseline.jsonl", [{"model_id": "old", "question_id": 81, "choices": [{"turns": ["r"]}]}])
        told = call("mt-bench", path, "-o", "c", code=2)
        assert "baseline.jsonl: old has no two answers to question 81, 86, 111, 116, 151" in told
    assert "`baseline` and mode: pair belong together" in call("mt-bench", path, "mode=pair", "-o", "d", code=2)
    told = call("mt-bench", config(server), "--references", "baseline.jsonl", "-o", "e", code=2)
    assert "baseline.jsonl: no reference for question 111, 116" in told


def test_templates_of_fastchats_form(folder: Path) -> None:
    names = ("single-v1", "single-v1-multi-turn", "single-math-v1", "single-math-v1-multi-turn")
    write_lines(
        folder / "templates.jsonl",
        [
            {"name": name, "system_prompt": name, "prompt_template": "You grade the last reply: {question_1}"}
            for name in names
        ],
    )
    with FakeServer(reply, keep_bodies=True) as server:
        path = config(server, references="references.jsonl")
        called("mt-bench", path, "--template", "templates.jsonl", "-o", "out")
        systems = [body["messages"][0]["content"] for body in server.bodies if body["messages"][0]["role"] == "system"]
    assert sorted(systems) == sorted([*names[:2]] * 3 + [*names[2:]] * 2)
