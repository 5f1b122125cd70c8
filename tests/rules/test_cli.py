"""`rlrules rules …` from outside."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rlrules.judges
from rlrules.cli import app
from rlrules.judges import Judge
from rlrules.recipe.load import load_config
from rlrules.rewards.rule_set import load_rules
from rlrules.rules.config import ExtractionConfig
from tests.rules.scripted import CountingBackend, kind, scripted, well
from tests.rules.test_report import answer_verdicts

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "recipes/rules/extract_cpu.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": f"p{n}", "prompt": f"Question {n}?", "chosen": f"Good {n}.", "rejected": f"Bad {n}."} for n in range(12)
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = "judge: {type: openai, urls: [http://localhost:1/v1], model: m, cache: false}\n"
    Path("extract.yaml").write_text(f"{judge}data: {{type: jsonl, path: rows.jsonl}}\n")
    return tmp_path


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> CountingBackend:
    def reply(question: Any) -> Any:
        return answer_verdicts(question) if kind(question) == "rules" else well(question)

    judge, backend = scripted(reply)

    def build(name: str, config: object) -> Judge:
        return judge

    monkeypatch.setattr(rlrules.judges, "build_judge", build)
    return backend


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["rules", *arguments], env={"COLUMNS": "160"})
    assert result.exit_code == code, result.output + result.stderr
    return " ".join((result.output + result.stderr).split())


def test_extract_and_merge(folder: Path, backend: CountingBackend) -> None:
    assert "rules -> out/rules.json" in call("extract", "extract.yaml", "-o", "out")
    assert backend.asked == {"reason": 12, "extract": 12, "merge": 1}
    assert len(load_rules(folder / "out/rules.json")) == 8
    told = call("merge", "extract.yaml", "chunk=5", "--from", "out/candidates.jsonl", "-o", "merged")
    assert "candidates │ 24" in told
    assert len(load_rules(folder / "merged/rules.json")) == 8


def test_report(folder: Path, backend: CountingBackend) -> None:
    rules = [{"id": f"r{n}", "text": f"It satisfies rule number {n}."} for n in range(3)]
    Path("rules.json").write_text(json.dumps({"rules": rules}))
    told = call("report", "extract.yaml", "rules.json", "--limit", "6", "-o", "out")
    assert backend.asked == {"rules": 36}
    assert "verdicts asked │ 36" in told and "set accuracy" in told
    assert (folder / "out/report.html").exists()


def test_limits_and_overrides(folder: Path, backend: CountingBackend) -> None:
    call("extract", "extract.yaml", "data.limit=9", "source=explanation", "-o", "a")
    assert backend.asked["reason"] == 9
    backend.questions.clear()
    call("extract", "extract.yaml", "--limit", "4", "-o", "b")
    assert backend.asked["reason"] == 4


def test_a_dry_run_asks_and_writes_nothing(folder: Path, backend: CountingBackend) -> None:
    Path("rules.json").write_text('{"rules": [{"id": "a", "text": "b"}]}')
    before = sorted(folder.rglob("*"))
    told = call("extract", "extract.yaml", "--dry-run")
    assert "12 preferences, nothing asked" in told and "12 prompts, about" in told
    assert "verdicts │ 24" in call("report", "extract.yaml", "rules.json", "--dry-run")
    assert "1 prompts" in call("merge", "extract.yaml", "--from", "rules.json", "--dry-run")
    assert backend.questions == []
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "missing.yaml"], "missing.yaml does not exist"),
        (["extract", "extract.yaml", "chunkk=3"], "chunkk: unknown key; did you mean 'chunk'?"),
        (["extract", "extract.yaml", "chunk=1"], "chunk: Input should be greater than or equal to 2"),
        (["extract", "extract.yaml", "data.path=gone.jsonl"], "gone.jsonl does not exist"),
        (["merge", "extract.yaml"], "--from is missing"),
        (["report", "extract.yaml", "gone.json"], "rules file gone.json does not exist"),
    ],
)
def test_errors_are_lines_and_exit_with_two(folder: Path, arguments: list[str], message: str) -> None:
    told = call(*arguments, code=2)
    assert message in told and "Traceback" not in told


def test_the_example_loads_and_fits_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_config(EXAMPLE, ["judge.urls=[http://h:1/v1]", "data.limit=24"], ExtractionConfig)
    assert config.judge.urls == ["http://h:1/v1"]  # type: ignore[union-attr]
    assert len(config.data.load()) == 24
    assert "64 preferences" in call("extract", str(EXAMPLE), "--dry-run")


def test_nothing_here_needs_torch() -> None:
    code = (
        "import sys, rlrules.rules.cli, rlrules.rules.pipeline, rlrules.rules.report, rlrules.data.preferences; "
        "found = {'torch', 'trl', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
