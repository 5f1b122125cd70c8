"""AutoRule from preferences to the report, with a real vLLM server of the embedded model."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.rules.inputs import read_candidates

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
RECIPE = "recipes/rules/extract_cpu.yaml"
MT_BENCH = ROOT.parent / "shared/data/mtbench"
# Sentences of this model run on; two short ones fit into this often enough to have some rules.
SMALL = ["judge.max_tokens=64", "max_candidates=2"]


def rules(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["rules", *arguments])
    assert result.exit_code == 0, result.output + result.stderr
    return result.output


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def extract_and_report(server: Any, folder: Path, *overrides: str) -> dict[str, Any]:
    judge = [f"judge.urls=[{server.url}]", f"judge.model={server.served_model_name}", f"judge.cache={folder / 'cache'}"]
    arguments = [RECIPE, *judge, *SMALL, *overrides]
    out = folder / "out"
    rules("extract", *arguments, "-o", str(out))
    made = json.loads((out / "rules.json").read_text("utf-8"))
    counts = made["parent_counts"]
    assert (
        counts["pairs"] == len(lines(out / "pairs.jsonl")) == counts["explained"] == len(lines(out / "reasons.jsonl"))
    )
    outcomes = Counter({line["pair_id"]: line["parse_status"] for line in lines(out / "candidates.jsonl")}.values())
    assert outcomes.total() == counts["explained"]
    assert counts["pairs_failed"] == outcomes["failed"] and counts["pairs_unanswered"] == 0
    fates = [member for rule in made["rules"] for member in rule["member_rule_ids"]]
    fates += [entry["rule_id"] for entry in made["dropped"]]
    assert sorted(fates) == sorted(candidate.rule_id for candidate in read_candidates([out / "candidates.jsonl"]))

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    rules("extract", *arguments, "-o", str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before

    rules("report", RECIPE, str(out / "rules.json"), *arguments[1:], "-o", str(out))
    report: dict[str, Any] = json.loads((out / "report.json").read_text("utf-8"))
    asked = 2 * counts["preferences"] * len(made["rules"])
    assert report["counts"]["verdicts_asked"] == asked == len(lines(out / "verdicts.jsonl"))
    assert sum(report["counts"][f"verdicts_{name}"] for name in ("yes", "no", "not_applicable")) == asked
    assert [rule["id"] for rule in report["rules"]] == [rule["id"] for rule in made["rules"]]
    assert (out / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    return report


def test_own_preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vllm_server: Any) -> None:
    monkeypatch.chdir(ROOT)
    report = extract_and_report(vllm_server, tmp_path, "data.limit=24")
    assert report["counts"]["preferences"] == 24


@pytest.mark.skipif(not MT_BENCH.exists(), reason="../shared/data/mtbench is not there")
def test_mt_bench_judgments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vllm_server: Any) -> None:
    monkeypatch.chdir(ROOT)
    files = {
        "path": "gpt4_pair_judgments.parquet",
        "answers": "model_answers.parquet",
        "question_file": "question.jsonl",
    }
    data = ", ".join(f"{name}: {MT_BENCH / file}" for name, file in files.items())
    report = extract_and_report(
        vllm_server, tmp_path, f"data={{type: mt_bench_pairs, questions: all, limit: 24, {data}}}"
    )
    # 75 judgments: 38 agree on one answer in both orders, of which 24 are taken.
    counts = report["counts"]
    assert (counts["rows"], counts["preferences"], counts["rows_dropped: limit"]) == (75, 24, 14)
    assert (counts["rows_dropped: orders disagree"], counts["rows_dropped: tie"]) == (27, 8)
    assert counts["rows_dropped: judge's error"] == 2
