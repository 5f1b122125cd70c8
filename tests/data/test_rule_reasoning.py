"""Generated questions as prompts, RuleCollection's files, and the command that writes a file."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.data.rule_collection import RuleCollectionConfig, rules_shuffled
from rlrules.data.rule_reasoning import RuleReasoningConfig, in_form
from rlrules.errors import DataError
from rlrules.rewards.answer import AnswerConfig
from rlrules.rewards.base import Context, Resources
from rlrules.types import Completion


def rows(**section: Any) -> list[Any]:
    return list(RuleReasoningConfig.model_validate(section).load(len).rows)


def test_all_families_in_turn_with_what_scorers_read() -> None:
    made = rows(size=6, depths=[1, 2])
    assert [row["domain"] for row in made[:4]] == ["deduction", "ontology", "kinship", "ordering"]
    assert Counter(row["domain"] for row in made) == dict.fromkeys(["deduction", "ontology", "kinship", "ordering"], 6)
    assert [row["depth"] for row in made if row["domain"] == "kinship"] == [1, 2] * 3
    assert not any(AnswerConfig().row_problem(row) for row in made)
    text = made[0]["prompt"][0]["content"]
    assert "True, False or Unknown, and nothing else." in text and "<think>" in text and "<answer>" in text
    assert made == rows(size=6, depths=[1, 2])
    assert made != rows(size=6, depths=[1, 2], seed=1)
    assert len(rows(size=6, limit=8)) == 8


def test_the_form_is_taught_without_the_answers() -> None:
    scorer, right, answers = AnswerConfig().build(Resources()), [], Counter[str]()
    for row in map(in_form, rows(families=["deduction"], size=90)):
        score = asyncio.run(scorer.score_one(Context((), row), Completion(row["completion"], 9)))
        assert score.details["well_formed"] and score.value is not None
        right.append(score.value)
        answers[row["completion"].partition("<answer>")[2]] += 1
    # Of three answers: 30 of 90 by chance, with a deviation of 4.5.
    assert 15 <= sum(right) <= 45 and len(answers) == 3 and min(answers.values()) >= 15


def test_no_question_is_in_both_splits_whatever_the_seed() -> None:
    # Ontologies of one step are few enough to come again by another seed.
    made = [
        {row["prompt"][0]["content"] for row in rows(families=["ontology"], size=150, depths=[1], distractors=0, **one)}
        for one in ({"seed": 0}, {"seed": 1}, {"seed": 0, "split": "test"}, {"seed": 1, "split": "test"})
    ]
    assert all(len(questions) == 150 for questions in made)
    assert not (made[0] | made[1]) & (made[2] | made[3])


def test_bounds() -> None:
    with pytest.raises(ValidationError, match="kinship has none of 6, only 1 to 5"):
        RuleReasoningConfig(depths=[1, 6])
    with pytest.raises(ValidationError, match="families"):
        RuleReasoningConfig(families=["riddles"])  # type: ignore[list-item]
    assert {row["answer"] for row in rows(families=["deduction"], world="closed", size=40)} == {"True", "False"}


def collection(folder: Path) -> Path:
    """RuleCollection's layout with two tasks, one row twice, and a context on both sides."""
    datasets = pytest.importorskip("datasets")

    def row(text: str, answer: str) -> dict[str, Any]:
        answer = f"<answer>{answer}</answer>"
        prompt = [{"role": "user", "content": text}]
        return {"data_source": "X", "prompt": prompt, "reward_model": {"style": "rule", "ground_truth": answer}}

    rules = "Rules: All a are b. All b are c. All c are d. All d are e. Facts: Tom is a. Question: {}"
    files = {
        "clutrr/train": [row("Context: x Question: who?", " mother-in-law "), row("Context: x Question: who?", "son")],
        "clutrr/test": [row("Context: x Question: else?", "son"), row("Context: y Question: who?", "aunt")],
        "proofwriter/train": [row(rules.format("Is Tom e?"), "True")],
    }
    for name, content in files.items():
        (folder / "id" / name).parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(content).to_parquet(str(folder / f"id/{name}.parquet"))
    return folder


def test_rule_collection(tmp_path: Path) -> None:
    path = str(collection(tmp_path))
    found = RuleCollectionConfig(path=path, domains=["clutrr", "proofwriter"]).load(len)
    assert [(row["domain"], row["answer"], row.get("labels")) for row in found.rows] == [
        ("clutrr", "mother-in-law", None),
        ("proofwriter", "True", ["True", "False", "Unknown"]),
    ]
    assert found.dropped["stands twice"] == 1
    held = RuleCollectionConfig(path=path, domains=["clutrr"], split="test").load(len)
    assert [row["answer"] for row in held.rows] == ["aunt"] and held.dropped["context in train"] == 1
    everything = RuleCollectionConfig(path=path, domains=["clutrr"], split="test", unseen=False).load(len)
    assert len(everything.rows) == 2
    with pytest.raises(DataError, match=r"folio/train\.parquet does not exist"):
        RuleCollectionConfig(path=path, domains=["folio"]).load(len)


def test_rules_in_another_order(tmp_path: Path) -> None:
    path = str(collection(tmp_path))
    prompts = [
        RuleCollectionConfig(path=path, domains=["proofwriter"], shuffle_rules=seed).load(len).rows[0]["prompt"]
        for seed in (0, 0, 1, 2)
    ]
    texts = [prompt[0]["content"] for prompt in prompts]
    assert texts[0] == texts[1] and len(set(texts)) > 1
    for text in texts:
        before, _, after = text.partition(" Facts: ")
        assert after == "Tom is a. Question: Is Tom e?"
        assert Counter(before.removeprefix("Rules: ").split(". ")) <= Counter(
            [
                "All a are b",
                "All b are c",
                "All c are d",
                "All d are e",
                *(f"All {x} are {y}." for x, y in ("ab", "bc", "cd", "de")),
            ]
        )
    assert rules_shuffled("no rules here", "0") == "no rules here"


def test_the_command_writes_rows_that_prompts_read(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    done = CliRunner().invoke(
        app, ["data", "rule-reasoning", "-o", str(out), "--family", "ordering", "--depth", "2", "--size", "5"]
    )
    assert done.exit_code == 0, done.output
    assert f"5 questions -> {out}" in done.output
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert written == rows(families=["ordering"], depths=[2], size=5)
    again = CliRunner().invoke(
        app, ["data", "rule-reasoning", "-o", str(out), "--family", "ordering", "--depth", "2", "--size", "5", "--form"]
    )
    assert again.exit_code == 0, again.output
    assert [json.loads(line) for line in out.read_text().splitlines()] == [in_form(row) for row in written]
    refused = CliRunner().invoke(app, ["data", "rule-reasoning", "-o", str(out), "--world", "flat"])
    assert refused.exit_code == 2 and "world" in refused.output
