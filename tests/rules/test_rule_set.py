"""Rules files: written whole, never a worse one over a good one."""

import json
from pathlib import Path

import pytest

from rlrules.errors import DataError, JudgeError
from rlrules.rules.lint import lint
from rlrules.rules.rule_set import Rule, RuleSet, load_rules, normalised, rule_id, save_rules


def rule(text: str, **more: object) -> Rule:
    return Rule.model_validate({"id": rule_id(text), "text": text, **more})


def test_what_is_saved_loads(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    rules = [rule("Be brief.", member_rule_ids=["a", "b"]), rule("Be kind.", weight=2.0)]
    save_rules(
        path, RuleSet(rules, "m", {"temperature": 0.6}, "d", "c", {"candidates": 3}, [{"rule_id": "x", "reason": "y"}])
    )
    assert load_rules(path) == tuple(rules)
    content = json.loads(path.read_text())
    assert set(content) == {"version", "model", "params", "data_sha", "config_sha", "parent_counts", "rules", "dropped"}
    assert content["rules"][0] == {"id": rule_id("Be brief."), "text": "Be brief.", "member_rule_ids": ["a", "b"]}
    assert content["rules"][1]["weight"] == 2.0
    assert [file.name for file in tmp_path.iterdir()] == ["rules.json"]


def test_a_plain_file_loads(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text('{"rules": [{"id": "own", "text": "Be brief."}, {"id": "b", "text": "Be kind.", "weight": 0.5}]}')
    assert [(one.id, one.text, one.weight) for one in load_rules(path)] == [
        ("own", "Be brief.", 1.0),
        ("b", "Be kind.", 0.5),
    ]


def test_ids_depend_on_nothing_but_the_words() -> None:
    assert rule_id("Be brief.") == rule_id("  - be   BRIEF ") == rule_id("3) Be brief")
    assert rule_id("Be brief.") != rule_id("Be kind.")
    assert normalised("10 items at most.") == "10 items at most"


def test_no_rules_never_replace_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    with pytest.raises(DataError, match="no rule came out"):
        save_rules(path, RuleSet([]))
    assert not path.exists()
    save_rules(path, RuleSet([rule("Be brief.")]))
    before = path.read_bytes()
    with pytest.raises(DataError, match="an earlier file stays"):
        save_rules(path, RuleSet([]))
    with pytest.raises(JudgeError, match="not overwritten: 2 merging calls failed, 0 when it was made"):
        save_rules(path, RuleSet([rule("Be kind.")], parent_counts={"failed_calls": 2}))
    assert path.read_bytes() == before


def test_a_better_file_replaces_a_worse_or_a_broken_one(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    for content in (
        "{",
        '{"rules": []}',
        json.dumps({"rules": [{"id": "a", "text": "b"}], "parent_counts": {"failed_calls": 2}}),
    ):
        path.write_text(content)
        save_rules(path, RuleSet([rule("Be kind.")], parent_counts={"failed_calls": 1}))
        assert load_rules(path)[0].text == "Be kind."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is brief.", ()),
        ("It weighs pros and cons.", ()),
        ("The answer is brief and correct.", ("compound",)),
        ("It names its sources, dates, and authors.", ("compound",)),
        ("It answers first. It explains later.", ("compound",)),
        ("It gives the result and shows the way there.", ("compound",)),
        ("It keeps an appropriate tone.", ("vague",)),
        (" ".join(["word"] * 31), ("long",)),
    ],
)
def test_lint(text: str, found: tuple[str, ...]) -> None:
    assert lint(text) == found
