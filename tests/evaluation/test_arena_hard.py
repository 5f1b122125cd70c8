import csv
import json
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import DataError
from rlrules.evaluation.arena_hard import (
    arena_hard_metrics,
    entries_of,
    read_battles,
    read_verdict_text,
)
from rlrules.evaluation.files import located
from rlrules.evaluation.stats import bootstrap
from tests.evaluation.shared import DATA, call, called, needs, write_lines
from tests.fakes.openai_server import FakeServer, prompt_of

BATTLES = DATA / "arenahard/battles_historical.jsonl.gz"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("So [[A>>B]]", "A>>B"),
        ("First [[A>B]], no: [[b>a]]", "B>A"),
        ("[A=B]", "A=B"),
        ("[[A]] and [[A<B]]", "B>A"),
        ("[[A>B>A]]", None),
        ("A>B", None),
    ],
)
def test_verdicts_are_read(text: str, verdict: str | None) -> None:
    assert read_verdict_text(text) == verdict


def test_entries() -> None:
    assert entries_of("A>>B", model_first=False) == (0, 0, 0)
    assert entries_of("B>>A", model_first=False, strong=5) == (1,) * 5
    assert entries_of("A>B", model_first=True) == (1,) and entries_of("A=B", model_first=False) == (0.5,)


def judgment(uid: str, first: str | None, second: str | None, model: str = "m") -> dict[str, Any]:
    return {"uid": uid, "model": model, "category": "hard", "games": [{"score": first}, {"score": second}]}


def test_scores_by_hand(tmp_path: Path) -> None:
    # Baseline is A in the first game: p1 is won twice, once strongly; p2 is split; p3 has no verdict in one game.
    rows = [judgment("p1", "B>>A", "A>B"), judgment("p2", "A>B", "A>B"), judgment("p3", None, "A>B")]
    found = called("arena-hard", "--battles", write_lines(tmp_path / "b.jsonl", rows))["models"]["m"]["hard"]
    assert found["score"] == pytest.approx(100 * (3 + 1 + 0 + 1) / 6)
    assert (found["n_prompts"], found["n_entries"], found["n_failed"], found["flip_rate"]) == (2, 6, 1, 0.5)
    twice = write_lines(tmp_path / "b.jsonl", [rows[0], rows[0]])
    assert "b.jsonl:2: m is judged on p1 more than once" in call("arena-hard", "--battles", twice, code=2)
    for score in ("A", ["A>B"], 3):
        strange = write_lines(tmp_path / "b.jsonl", [judgment("p1", "A>B", "A>B") | {"games": [{"score": score}, {}]}])
        assert "b.jsonl:1: `games`: expected a score of" in call("arena-hard", "--battles", strange, code=2)
    # Without any game there is no number.
    none = write_lines(tmp_path / "b.jsonl", [judgment("p1", None, None)])
    assert "-  (95 % interval - to -)" in call("arena-hard", "--battles", none)


def test_a_baseline_is_needed() -> None:
    lines = [
        ("f", {"question_id": 1, "model_a": a, "model_b": b, "winner": "tie"})
        for a, b in (("x", "y"), ("y", "z"), ("x", "z"))
    ]
    with pytest.raises(DataError, match=r"no one model stands in every battle \(candidates: none\); give --baseline"):
        read_battles(lines)


@pytest.mark.parametrize("explain", [True, False])
def test_a_run_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, explain: bool) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(
        tmp_path / "q.jsonl", [{"uid": f"u{n}", "prompt": f"Do {n}.", "category": "ab"[n % 2]} for n in range(4)]
    )
    write_lines(tmp_path / "b.jsonl", [{"uid": f"u{n}", "answer": "base"} for n in range(4)])

    def reply(request: dict[str, Any]) -> str:
        prompt = prompt_of(request)
        if "assistant A" not in prompt:
            return f"mine {prompt[3]}"
        model_first = "mine" in prompt.partition("The answer of assistant B:")[0]
        number = prompt.partition("mine ")[2][0]
        # 0: the model wins strongly in both games; 1: A wins whoever it is; 2: a tie; 3: nothing is said.
        verdict = {"0": "A>>B" if model_first else "B>>A", "1": "A>B", "2": "A=B", "3": "none"}[number]
        return f"As [[B>A]] would be wrong: [[{verdict}]]" if explain and verdict != "none" else verdict

    with FakeServer(reply) as server:
        judge = {"type": "openai", "urls": [server.url], "model": "fake", "cache": False, "retries": 0}
        content = {"model": judge, "judge": judge, "questions": "q.jsonl", "baseline": "b.jsonl", "explain": explain}
        Path("run.yaml").write_text(json.dumps(content | {"max_failed": 0.3, "resamples": 20}))
        found = called("arena-hard", "run.yaml", "-o", "out")
        asked = server.counts["requests"]
        assert asked == 4 + 8
        assert called("arena-hard", "run.yaml", "-o", "out")["score"] == found["score"]
        assert server.counts["requests"] == asked
    assert found["score"] == pytest.approx(100 * (6 * 1 + 1 * 1 + 2 * 0.5) / 10)
    assert (found["n_prompts"], found["n_failed"], found["flip_rate"]) == (3, 1, pytest.approx(1 / 3))
    assert found["by_category"]["b"]["score"] == 50
    write_lines(tmp_path / "b.jsonl", [{"uid": "u0", "answer": "base"}])
    told = call("arena-hard", "run.yaml", "-o", "b", code=2)
    assert "b.jsonl: 3 prompts have no answer: u1, u2, u3" in told


@needs("arenahard")
def test_published_battles_have_the_bradley_terry_win_rate() -> None:
    battles = read_battles(located(BATTLES))
    found = arena_hard_metrics(battles)["models"]
    with (DATA / "arenahard/expected_battles.csv").open() as file:
        for row in csv.DictReader(file):
            if row["n_battles"]:
                own = found[row["model"]][""]
                assert own["score"] == pytest.approx(float(row["bt_winrate_pct"]), abs=1e-5)
                assert own["n_entries"] == float(row["n_battles"])


@needs("arenahard")
def test_prompts_vary_more_than_entries() -> None:
    battles = read_battles(located(BATTLES))
    for model, table in arena_hard_metrics(battles)["models"].items():
        prompts = table[""]["intervals"]["score"]
        entries = bootstrap([100 * entry for battle in battles if battle.model == model for entry in battle.entries])
        assert prompts["high"] - prompts["low"] > entries.high - entries.low
