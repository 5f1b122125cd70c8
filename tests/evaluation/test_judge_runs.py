"""Judges and reward models measured end to end: on pairs, on rules, against stored verdicts, side by side."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.shared import DATA, call, called, needs, read_lines, write_lines
from tests.fakes.openai_server import FakeServer, labels_of, prompt_of

GOOD = "GOOD"


def shown(request: dict[str, Any]) -> tuple[str, str]:
    first, _, second = prompt_of(request).partition("The reply of assistant B:")
    return first.rpartition("The reply of assistant A:")[2], second


def prefers_good(request: dict[str, Any]) -> str:
    """The reply that says GOOD; where both or neither do, the one shown first."""
    first, second = shown(request)
    letter = "B" if GOOD in second and GOOD not in first else "A"
    if "-3: A is much better" in prompt_of(request):
        letter = {"A": "-3", "B": "2"}[letter]
    return letter if labels_of(request) else f"<think>hm</think> <answer>{letter}</answer>"


def config(name: str, server: FakeServer | None, **more: Any) -> Path:
    content: dict[str, Any] = {"resamples": 20, "max_failed": 0} | more
    if server is not None:
        content["judge"] = judge(server)
    path = Path(f"{name}.yaml")
    path.write_text(json.dumps(content))
    return path


def judge(server: FakeServer) -> dict[str, Any]:
    return {"type": "openai", "urls": [server.url], "model": "fake", "cache": False, "retries": 0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows() -> list[dict[str, Any]]:
    """Right, right, wrong, tied: by section, Chat 2 of 2 and Safety 0 of 2."""
    texts = [(GOOD, "x"), (GOOD, "y"), ("x", GOOD), ("TIE", "TIE.")]
    subsets = ["mt-bench-easy", "mt-bench-easy", "donotanswer", "donotanswer"]
    return [
        {"id": n, "subset": subset, "prompt": f"p{n}", "chosen": chosen, "rejected": rejected}
        for n, (subset, (chosen, rejected)) in enumerate(zip(subsets, texts, strict=True))
    ]


@pytest.mark.parametrize("think", [False, True])
def test_reward_bench_by_a_judge(folder: Path, think: bool) -> None:
    write_lines(folder / "rows.jsonl", rows())
    with FakeServer(prefers_good) as server:
        path = config("rb", server, data="rows.jsonl", think=think)
        found = called("reward-bench", path, "-o", "out")
        assert server.counts["answered"] == 8
        asked = server.counts["requests"]
        assert called("reward-bench", path, "-o", "out")["sections"] == found["sections"]
        assert server.counts["requests"] == asked
    assert found["sections"] == {"Chat": 1.0, "Safety": 0.0}
    assert (found["overall"], found["example_weighted"], found["ties"]) == (0.5, 0.5, 0.25)
    # Of eight games the first one shown wins in the four with GOOD first... and in both of the tie.
    assert found["orders"] == {"p_first": 5 / 8, "flip_rate": 0.25}
    assert "RewardBench" in (folder / "out/page.html").read_text()


def test_rm_bench_by_a_judge_of_degrees(folder: Path) -> None:
    item = {"id": "1", "domain": "chat", "prompt": "p", "chosen": ["a", "b", GOOD], "rejected": ["d", "e", "f"]}
    write_lines(folder / "chat.jsonl", [item])
    write_lines(
        folder / "code.jsonl", [item | {"domain": "code", "prompt": "q", "chosen": [f"{GOOD} {n}" for n in range(3)]}]
    )
    with FakeServer(prefers_good) as server:
        path = config("rm", server, data=["chat.jsonl", "code.jsonl"], verdict="multiclass")
        found = called("rm-bench", path, "-o", "out")
        assert server.counts["answered"] == 2 * 9 * 2
    # Only the richest right answer wins; the others are tied: each order prefers what stands first, by -3 and -3.
    assert found["cells"]["chat"] == {"easy": pytest.approx(2 / 3), "normal": pytest.approx(1 / 3), "hard": 0}
    assert found["cells"]["code"] == {"easy": 1, "normal": 1, "hard": 1}
    assert found["overall"] == pytest.approx((1 / 3 + 1) / 2) and found["ties"] == pytest.approx(6 / 18)


def test_preferences_by_a_judge(folder: Path) -> None:
    lines = [
        {"id": str(n), "prompt": "p", "chosen": row["chosen"], "rejected": row["rejected"]}
        for n, row in enumerate(rows())
    ]
    write_lines(folder / "p.jsonl", lines)

    def mute(request: dict[str, Any]) -> Any:
        return b"{" if GOOD in shown(request)[1] and "y" in shown(request)[0] else prefers_good(request)

    with FakeServer(mute) as server:
        path = config("pref", server, data={"type": "jsonl", "path": "p.jsonl", "seed": None}, max_failed=0.2)
        found = called("preference", path, "-o", "out")
    # The second pair has a verdict in one order only, which is none.
    assert (found["n"], found["n_failed"]) == (3, 1)
    assert found["accuracy"] == pytest.approx(1 / 3) and found["accuracy_ties_half"] == pytest.approx(1.5 / 3)


@needs("mtbench")
def test_a_judge_against_published_comparisons(folder: Path) -> None:
    files = {
        "path": "gpt4_pair_judgments.parquet",
        "answers": "model_answers.parquet",
        "question_file": "question.jsonl",
    }
    data = {name: str(DATA / "mtbench" / file) for name, file in files.items()}
    data |= {"type": "mt_bench_pairs", "questions": "all"}
    with FakeServer(lambda request: "A", keep_bodies=True) as server:
        found = called("preference", config("pairs", server, data=data), "-o", "out")
    # 20 and 18 pairs in which GPT-4 prefers one answer in both orders; a judge that always says A ties on all.
    assert (found["n"], found["accuracy"], found["ties"]) == (38, 0, 1) and found["orders"]["flip_rate"] == 1


def test_conversations_that_part_early_need_a_judge(folder: Path) -> None:
    turns = [{"role": "assistant", "content": "one"}, {"role": "user", "content": "more"}]
    sides = {
        side: [*turns, {"role": "assistant", "content": word}] for side, word in (("chosen", GOOD), ("rejected", "bad"))
    }
    sides["rejected"] = [{"role": "assistant", "content": "uno"}, *sides["rejected"][1:]]
    write_lines(folder / "p.jsonl", [{"id": "1", "prompt": "p", **sides}])
    data = {"type": "jsonl", "path": "p.jsonl"}
    with FakeServer(prefers_good, keep_bodies=True) as server:
        assert called("preference", config("pref", server, data=data), "-o", "out")["accuracy"] == 1
        shown_texts = shown(server.bodies[0])
    assert "Assistant: one\n\nUser: more\n\nAssistant: GOOD" in "".join(shown_texts)
    path = config("pref", None, data=data, reward_model={"type": "reward_model", "model": "m"})
    assert "the conversations part before their last answers" in call("preference", path, "-o", "b", code=2)


def test_a_judge_or_a_reward_model(folder: Path) -> None:
    write_lines(folder / "rows.jsonl", rows())
    assert "give `judge` or `reward_model`" in call(
        "reward-bench", config("rb", None, data="rows.jsonl"), "-o", "o", code=2
    )
    with FakeServer(prefers_good) as server:
        write_lines(folder / "rows.jsonl", [rows()[0], rows()[0]])
        told = call("reward-bench", config("rb", server, data="rows.jsonl"), "-o", "o", code=2)
        assert "`id`: 'mt-bench-easy:0' stands more than once" in told
    assert "name a local file with `data`" in call("reward-bench", config("rb", server), "-o", "o", code=2)


def test_reward_bench_2_by_grades(folder: Path) -> None:
    def grades(request: dict[str, Any]) -> str:
        answer = prompt_of(request).partition("The reply to be graded:")[2]
        return next((grade for grade in ("10", "7", "2") if f"is {grade}." in answer), "none")

    def row(name: str, subset: str, chosen: list[int], rejected: list[int]) -> dict[str, Any]:
        sides = {side: [f"{side} {name}{n} is {g}." for n, g in enumerate(all_)] for side, all_ in
                 (("chosen", chosen), ("rejected", rejected))}  # fmt: skip
        return {"id": name, "subset": subset, "prompt": name, **sides}

    lines = [
        row("a", "Math", [10], [7, 2, 2]), row("b", "Math", [7], [7, 2, 2]), row("c", "Focus", [2], [7, 2, 2]),
        row("d", "Focus", [10], [5, 2, 2]), row("ref:0", "Ties", [10], [2]), row("tied:0", "Ties", [10, 7], [2]),
        row("ref:1", "Ties", [10], [2]), row("tied:1", "Ties", [10, 5], [2]),
    ]  # fmt: skip
    write_lines(folder / "two.jsonl", lines)
    with FakeServer(grades) as server:
        path = config("rb", server, data="two.jsonl", max_failed=0.1)
        found = called("reward-bench", path, "-o", "out")
        asked = server.counts["requests"]
        assert asked == 4 * 4 + 2 * (2 + 3)
        called("reward-bench", path, "-o", "out")
        assert server.counts["requests"] == asked
    # Gaps 8 and 5, spread 3: all four conditions hold. "d" has an answer without a grade, and counts nowhere.
    ties = 1 + 0.01 * math.tanh(5 / 3 - 1)
    # Of "tied:1" the same, which takes "ref:1" along.
    assert found["ties_left_out"] == {"an answer has no score": 1, "its partner has no score": 1}
    assert found["subsets"] == {"Math": 0.75, "Focus": 0, "Ties": pytest.approx(ties)}
    assert found["overall"] == pytest.approx((0.75 + ties) / 3) and found["n_failed"] == 3


def rule_judge(request: dict[str, Any]) -> str:
    prompt = prompt_of(request)
    if "The rule:" not in prompt:
        return f"reply to {prompt}"
    answer = prompt.partition("to be checked:\n")[2].partition("The rule:")[0]
    rule = prompt.partition("The rule:\n")[2].splitlines()[0]
    if rule == "none":
        return "Irrelevant"
    return "Yes" if rule in answer else "No"


def test_rules(folder: Path) -> None:
    rules = [{"id": "a", "text": "alpha"}, {"id": "b", "text": "beta"}, {"id": "n", "text": "none"}]
    Path("rules.json").write_text(json.dumps({"rules": rules}))
    lines = [
        {"prompt": "p1", "answer": "alpha beta"},
        {"prompt": "p2", "answer": "beta"},
        {"prompt": "p3", "answer": "-"},
    ]
    write_lines(folder / "answers.jsonl", lines)
    with FakeServer(rule_judge) as server:
        path = config("rules", server, answers="answers.jsonl", rules="rules.json")
        found = called("rules", path, "-o", "out")
        assert server.counts["answered"] == 9
        write_lines(folder / "prompts.jsonl", [{"prompt": "say alpha"}])
        own = config("own", server, model=judge(server), prompts="prompts.jsonl", rules="rules.json")
        assert called("rules", own, "-o", "own")["satisfied"] == 0.5
    assert found["satisfied"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert found["by_rule"]["a"] == {"satisfied": pytest.approx(1 / 3), "n_applies": 3}
    assert found["by_rule"]["n"] == {"satisfied": None, "n_applies": 0}
    assert "`model` and `prompts` belong together" in call(
        "rules", config("bad", server, answers="answers.jsonl", prompts="p", rules="r"), "-o", "o", code=2
    )


def test_ifeval_of_a_model(folder: Path) -> None:
    pytest.importorskip("if_verifiable", reason="if-verifiable is not installed")
    prompts = [
        {"key": n, "prompt": prompt, "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
        for n, prompt in enumerate(("no commas please", "one, two"))
    ]
    write_lines(folder / "prompts.jsonl", prompts)
    with FakeServer(lambda request: prompt_of(request)) as server:
        path = config("ifeval", None, model=judge(server), prompts="prompts.jsonl")
        found = called("ifeval", path, "-o", "out")
        asked = server.counts["requests"]
        assert called("ifeval", path, "-o", "out")["prompt_strict"] == found["prompt_strict"] == 0.5
        assert server.counts["requests"] == asked == 2
    assert [row["data"]["strict"] for row in read_lines(folder / "out/rows.jsonl")] == [[True], [False]]
    assert "IFEval" in (folder / "out/page.html").read_text()


def stored(name: str, preferences: list[float]) -> list[dict[str, Any]]:
    """Outputs of which the even ones are GOOD."""
    named = {"output_1": "base" * 3, "generator_1": "base", "generator_2": name}
    return [
        {"instruction": f"i{n}", "output_2": f"{name} {'x' if n % 2 else GOOD}", "preference": preference, **named}
        for n, preference in enumerate(preferences)
    ]


def chances(request: dict[str, Any]) -> dict[str, Any]:
    labels = labels_of(request)
    first, second = shown(request)
    likely = -0.05 if GOOD in first else -3.0 if GOOD in second else -0.4
    tokens = [{"token": labels[0], "logprob": likely}, {"token": labels[1], "logprob": -1.2}]
    said = labels[0] if likely > -1.2 else labels[1]
    content = [{"token": said, "top_logprobs": tokens}]
    return {"choices": [{"message": {"content": said}, "logprobs": {"content": content}}]}


def test_calibration_by_hand(folder: Path) -> None:
    # GOOD is what this judge prefers; it is undecided elsewhere, where both orders prefer what stands first.
    write_lines(folder / "one.jsonl", stored("m1", [2.0, 1.0, 2.0, 1.0]))
    write_lines(folder / "two.jsonl", stored("m2", [1.0, 1.0, 2.0, 1.0]))
    with FakeServer(chances) as server:
        path = config("calibrate", server, annotations=["one.jsonl", "two.jsonl"])
        found = called("calibrate", path, "-o", "out")
        assert server.counts["answered"] == 2 * 8 + 2
        assert found["left_out"] == {"no_verdict": 0, "equal_outputs": 0}
        fewer = stored("m1", [2.0, 1.0, 2.0, 1.0, 1.5])
        fewer[0]["preference"] = None
        fewer[1]["preference"] = -1
        fewer[4]["output_2"] = fewer[4]["output_1"]
        write_lines(folder / "fewer.jsonl", fewer)
        left = called("calibrate", config("f", server, annotations=["fewer.jsonl"]), "-o", "fewer")
        assert left["left_out"] == {"no_verdict": 2, "equal_outputs": 1} and left["models"]["m1"]["n"] == 2
    # Four rows are decided, of which three agree; the others are ties of both orders.
    assert (found["n"], found["agreement"], found["flip_rate"]) == (4, 0.75, 0.5)
    # The baseline is longer; by the log-probabilities below, GOOD wins by 0.76 where it is first and 0.86 where second.
    wins = (1 / (1 + math.exp(-1.15)) + 1 / (1 + math.exp(-1.8))) / 2
    assert found["p_longer"] == pytest.approx((4 * (1 - wins) + 4 * 0.5) / 8)
    assert found["models"]["m1"]["stored"] == 50 and found["models"]["m2"]["stored"] == 25
    assert found["usage"]["judge"]["asked"] == 18 and found["verdicts_a_second"] > 0
    write_lines(folder / "bare.jsonl", [{"row": 0, "preference": 1.5, "len_1": 1, "len_2": 2}])
    told = call("calibrate", config("c", server, annotations=["bare.jsonl"]), "-o", "b", code=2)
    assert "bare.jsonl: its rows hold no texts to judge" in told


@needs("alpacaeval2")
def test_calibration_takes_published_verdicts(folder: Path) -> None:
    files = [str(DATA / f"alpacaeval2/annotations_full/{name}.parquet") for name in ("alpaca-7b", "claude-2")]
    sets = str(DATA / "alpacaeval2/eval_set_gpt4_1106_baseline.parquet")
    with FakeServer(chances) as server:
        path = config("calibrate", server, annotations=files, eval_set=sets, limit=20)
        found = called("calibrate", path, "-o", "out")
        assert server.counts["answered"] == 2 * 2 * 20 + 2
    assert found["models"]["claude-2"]["stored"] > found["models"]["alpaca-7b"]["stored"]


def test_compare(folder: Path) -> None:
    write_lines(folder / "rows.jsonl", rows())
    with FakeServer(prefers_good) as good, FakeServer(lambda request: (labels_of(request) or ["A"])[0]) as first:
        called("reward-bench", config("a", good, data="rows.jsonl"), "-o", "a")
        called("reward-bench", config("b", first, data="rows.jsonl"), "judge.model=other", "-o", "b")
        called("reward-bench", config("c", first, data="rows.jsonl"), "limit=2", "-o", "c")
        lines = [{"instruction": f"i{n}", "output": "base", "generator": "g"} for n in range(4)]
        write_lines(folder / "set.jsonl", lines)
        for name, server, output in (("x", good, GOOD), ("y", good, "bad"), ("z", good, GOOD)):
            write_lines(folder / f"{name}.jsonl", [line | {"output": output, "generator": name} for line in lines])
            own = config(name, server, answers=f"{name}.jsonl", eval_set="set.jsonl")
            called("alpaca", own, *(["judge.model=third"] if name == "z" else []), "-o", name)
    found = called("compare", "a", "b")
    assert found["metric"] == "example_weighted" and (found["n_units"], found["units_left_out"]) == (4, 0)
    assert "left out" not in call("compare", "a", "b")
    assert [row["value"] for row in found["results"]] == [0.5, 0]
    # The first judge is right on two rows, the second, which always takes what stands first, on none.
    assert found["results"][1]["difference"]["value"] == -0.5
    assert "questions" in call("compare", "a", "c", code=2)
    assert "benchmark: alpaca, but a has reward-bench" in call("compare", "a", "x", code=2)
    gap = called("compare", "x", "y")["results"][1]
    assert gap["difference"]["value"] == pytest.approx(
        gap["value"] - called("compare", "x", "y")["results"][0]["value"]
    )
    controlled = gap["length_controlled_difference"]
    # Every row is alike here, so that all resamples give the same, up to where the two solvers stop.
    assert controlled["low"] == pytest.approx(controlled["value"], abs=0.02) and controlled["high"] < 0
    assert called("compare", "x", "y")["warnings"] == []
    again = called("alpaca", "--annotations", "x/annotations.jsonl", "--resamples", 0)
    assert again["win_rate"] == called("compare", "x", "y")["results"][0]["value"]
    told = call("compare", "x", "z", code=2)
    assert "z: judge: third, but x has fake: --mixed-judges puts them in one table" in told
    assert re.search(r"third", call("compare", "x", "z", "--mixed-judges"))
    # A result whose number is undefined.
    metrics = json.loads((folder / "y/metrics.json").read_text())
    (folder / "y/metrics.json").write_text(json.dumps(metrics | {"win_rate": None}))
    units = json.loads((folder / "y/units.json").read_text())["win_rate"]
    (folder / "y/units.json").write_text(json.dumps({"win_rate": {key: [0, 0] for key in units}}))
    assert "- (- to -)" in call("compare", "x", "y")
    # Each lacks another unit of four.
    for name, lacking in (("a", 0), ("b", 3)):
        table = json.loads((folder / name / "units.json").read_text())["example_weighted"]
        kept = {key: unit for place, (key, unit) in enumerate(table.items()) if place != lacking}
        (folder / name / "units.json").write_text(json.dumps({"example_weighted": kept}))
    found = called("compare", "a", "b")
    assert (found["n_units"], found["units_left_out"]) == (2, 2)
    assert "2 shared units, 2 left out that a result lacks" in " ".join(call("compare", "a", "b").split())
    assert "name two results or more" in call("compare", "x", code=2)
    assert "is nowhere a finished result?" in call("compare", "x", "nowhere", code=2)
