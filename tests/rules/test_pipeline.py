"""All stages together: files, counts, failures, and what a second run asks."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import DataError, JudgeError
from rlrules.judges import Answer, JudgeFailure, Question
from rlrules.rules.config import ExtractionConfig
from rlrules.rules.inputs import read_candidates
from rlrules.rules.pipeline import run_extraction, run_merge
from rlrules.rules.rule_set import RuleSet, load_rules, rule_id
from tests.rules.scripted import CountingBackend, Reply, config, kind, preferences, prompt, scripted, well


def run(
    folder: Path, reply: Callable[[Question], Reply] = well, settings: ExtractionConfig | None = None, count: int = 20
) -> tuple[RuleSet, CountingBackend]:
    judge, backend = scripted(reply)
    made = asyncio.run(run_extraction(settings or config(), preferences(count), judge, folder))
    counts = made.parent_counts
    assert counts["pairs"] == counts["explained"] + counts["not_explained"]
    assert counts["explained"] == sum(
        counts[name] for name in ("pairs_with_rules", "pairs_empty", "pairs_failed", "pairs_unanswered")
    )
    fates = [member for rule in made.rules for member in (rule.model_extra or {})["member_rule_ids"]]
    fates += [entry["rule_id"] for entry in made.dropped]
    assert Counter(fates) == Counter(c.rule_id for c in read_candidates([folder / "candidates.jsonl"]))
    assert len(fates) == counts["candidates"]
    return made, backend


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_from_preferences_to_rules(tmp_path: Path) -> None:
    made, backend = run(tmp_path)
    assert backend.asked == {"reason": 20, "extract": 20, "merge": 1}
    assert {rule.text for rule in made.rules} == {*(f"Topic{n} is right." for n in range(7)), "Form fits the request."}
    assert load_rules(tmp_path / "rules.json") == tuple(made.rules)
    best = made.rules[0]
    assert (best.id, best.text) == (rule_id("Form fits the request."), "Form fits the request.")
    assert best.model_extra is not None and best.model_extra["support"] == 20
    assert made.parent_counts["duplicates"] == 19
    content = json.loads((tmp_path / "rules.json").read_text())
    assert (content["model"], content["version"]) == ("scripted", 1)
    assert content["params"] == {"revision": "", "temperature": 0.0, "max_tokens": 1024}
    assert len(content["data_sha"]) == len(content["config_sha"]) == 12
    reason = lines(tmp_path / "reasons.jsonl")[0]
    assert set(reason) == {
        *("config_sha", "pair_id", "order", "model", "params", "prompt_sha", "status", "reasoning", "explanation"),
        *("finish_reason", "usage", "problem"),
    }
    assert reason["order"] == ("chosen_first" if reason["pair_id"].endswith(":1") else "rejected_first")
    assert json.loads((tmp_path / "config.json").read_text())["judge"]["model"] == "scripted"


def test_two_runs_give_the_same_rules_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(tmp_path / name)
    assert (tmp_path / "a/rules.json").read_bytes() == (tmp_path / "b/rules.json").read_bytes()
    assert (tmp_path / "a/pairs.jsonl").read_bytes() == (tmp_path / "b/pairs.jsonl").read_bytes()


@pytest.mark.parametrize(("source", "text"), [(None, "Thought about"), ("explanation", "Explained")])
def test_the_chain_of_thought_is_read_unless_told_otherwise(tmp_path: Path, source: str | None, text: str) -> None:
    _, backend = run(tmp_path, settings=config(**({"source": source} if source else {})))
    asked = [prompt(question) for question in backend.questions if kind(question) == "extract"]
    assert all(text in one for one in asked)
    assert {line["source_field"] for line in lines(tmp_path / "candidates.jsonl")} == {source or "reasoning"}


def test_the_winner_is_named_rightly(tmp_path: Path) -> None:
    _, backend = run(tmp_path)
    for question in backend.questions:
        text = prompt(question)
        if kind(question) == "reason":
            shown_first = text.index("Good ") < text.index("Bad ")
            assert f"The person preferred assistant {'A' if shown_first else 'B'}." in text


def test_both_orders_double_the_pairs(tmp_path: Path) -> None:
    made, backend = run(tmp_path, settings=config(pairs={"order": "both"}), count=5)
    assert backend.asked["reason"] == made.parent_counts["pairs"] == 10


def test_a_second_run_asks_nothing_and_changes_nothing(tmp_path: Path) -> None:
    first, _ = run(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    again, backend = run(tmp_path)
    assert (again, backend.questions) == (first, [])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def troubled(question: Question) -> Reply:
    """Every kind of trouble: no answer, no rule, odd replies that can and cannot be repaired, a cut-off thought."""
    number = next((n for n in range(20) if f" {n}." in prompt(question) or f"Question {n}?" in prompt(question)), None)
    name = kind(question)
    if name == "reason" and number in (1, 2):
        return JudgeFailure("timeout", "http://x: no answer within 1 s")
    if name == "reason" and number == 3:
        return Answer(f"<think>Thought about {number}.", finish_reason="length")
    if name == "extract" and number == 4:
        return JudgeFailure("connection", "http://x: gone")
    if name.startswith("extract") and number == 5:
        return "I cannot do that."
    if name.startswith("extract") and number == 6:
        return "[]" if name == "extract" else "never asked"
    if name == "extract" and number == 7:
        return "Not JSON at first"
    if name == "extract+repair":
        return '["Form fits the request."]'
    return well(question)


def test_nothing_is_lost_in_silence(tmp_path: Path) -> None:
    made, backend = run(tmp_path, troubled)
    counts = made.parent_counts
    assert (counts["explained"], counts["not_explained"], counts["explanations_cut_off"]) == (18, 2, 1)
    assert (counts["pairs_with_rules"], counts["pairs_repaired"]) == (15, 1)
    assert (counts["pairs_empty"], counts["pairs_failed"], counts["pairs_unanswered"]) == (1, 1, 1)
    failed = [line for line in lines(tmp_path / "candidates.jsonl") if line["parse_status"] == "failed"]
    assert [line["raw"] for line in failed] == ["I cannot do that."]
    assert backend.asked["extract+repair"] == 2 + 1
    empty = [line for line in lines(tmp_path / "candidates.jsonl") if line["parse_status"] == "empty"]
    assert len(empty) == 1 and "raw" not in empty[0] and "rule_id" not in empty[0]
    # The judge is back: what it had not answered is asked, and what follows from that; nothing else.
    made, backend = run(tmp_path)
    assert backend.asked == {"reason": 2, "extract": 3, "merge": 1}
    counts = made.parent_counts
    assert (counts["explained"], counts["pairs_with_rules"], counts["pairs_failed"], counts["pairs_empty"]) == (
        20,
        18,
        1,
        1,
    )


def test_another_configuration_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    run(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    changes: list[tuple[dict[str, Any], str]] = [
        ({"judge": {"type": "openai", "urls": ["http://x/v1"], "model": "other"}}, "reasons.jsonl:1: config_sha"),
        ({"source": "explanation"}, "candidates.jsonl:1: config_sha"),
        ({"chunk": 10}, "merges.jsonl:1: config_sha"),
        ({"pairs": {"seed": 9}}, "pairs.jsonl: holds pairs of other data"),
    ]
    for fields, message in changes:
        judge, backend = scripted()
        with pytest.raises(DataError) as error:
            asyncio.run(run_extraction(config(**fields), preferences(20), judge, tmp_path))
        assert message in str(error.value) and "another output folder" in str(error.value)
        assert backend.questions == []
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    # Where the judge is served is not what it answers.
    moved = {"type": "openai", "urls": ["http://y/v1", "http://z/v1"], "model": "scripted", "cache": False}
    assert run(tmp_path, settings=config(judge=moved))[1].questions == []


def test_a_torn_last_line_is_asked_again(tmp_path: Path) -> None:
    run(tmp_path)
    for name in ("reasons.jsonl", "candidates.jsonl"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-20])
    _, backend = run(tmp_path)
    assert backend.asked["reason"] == 1 and backend.asked["extract"] == 1
    assert all(json.loads(line) for line in (tmp_path / "reasons.jsonl").read_text().splitlines())


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "reasons.jsonl"
    damaged = path.read_text().splitlines()
    damaged[4] = damaged[4].replace('"status":"ok"', '"status":"fine"')
    path.write_text("\n".join(damaged) + "\n")
    with pytest.raises(DataError, match=r"reasons.jsonl:5: status: .*remove this line"):
        run(tmp_path)


def test_a_judge_that_answers_nothing(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="none of 20 pairs could be explained; the first: judge teacher: down"):
        run(tmp_path, lambda _: JudgeFailure("connection", "down"))
    assert not (tmp_path / "rules.json").exists()


def test_a_model_without_thoughts(tmp_path: Path) -> None:
    def plain(question: Question) -> Reply:
        reply = well(question)
        return Answer(reply.text) if isinstance(reply, Answer) else reply

    with pytest.raises(DataError, match=r"gave no chain of thought for any of 20 pairs; .* source: explanation"):
        run(tmp_path, plain)
    made, _ = run(tmp_path / "other", plain, config(source="explanation"))
    assert made.parent_counts["pairs_with_rules"] == 20


def test_no_rule_at_all_leaves_the_file_there(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"rules": [{"id": "good", "text": "Good."}]}')
    with pytest.raises(DataError, match=r"no candidate of 20 explanations \(20 pairs_empty"):
        run(tmp_path, lambda question: "[]" if kind(question) == "extract" else well(question))
    assert load_rules(tmp_path / "rules.json")[0].id == "good"


def test_a_failed_merge_leaves_the_file_there(tmp_path: Path) -> None:
    def reply(question: Question) -> Reply:
        return JudgeFailure("connection", "gone") if kind(question) == "merge" else well(question)

    (tmp_path / "rules.json").write_text('{"rules": [{"id": "good", "text": "Good."}]}')
    with pytest.raises(JudgeError, match="not overwritten"):
        run(tmp_path, reply)
    assert load_rules(tmp_path / "rules.json")[0].id == "good"
    assert run(tmp_path)[1].asked == {"merge": 1}
    assert len(load_rules(tmp_path / "rules.json")) == 8


def test_merging_files(tmp_path: Path) -> None:
    run(tmp_path / "one")
    run(tmp_path / "two", count=6)
    judge, _ = scripted()
    inputs = [tmp_path / "one/rules.json", tmp_path / "two/rules.json", tmp_path / "two/candidates.jsonl"]
    made = asyncio.run(run_merge(config(), inputs, judge, tmp_path / "all"))
    members = [member for rule in made.rules for member in (rule.model_extra or {})["member_rule_ids"]]
    assert len(members) == len(set(members)) == made.parent_counts["candidates"] == 8 + 7 + 12
    assert {member[:2] for member in members} == {"1:", "2:", "3:"}
    assert {rule.text for rule in made.rules} == {*(f"Topic{n} is right." for n in range(7)), "Form fits the request."}


def test_inputs_that_cannot_be_merged(tmp_path: Path) -> None:
    weighted = tmp_path / "weighted.json"
    weighted.write_text('{"rules": [{"id": "a", "text": "b", "weight": 2}]}')
    with pytest.raises(DataError, match=r"weighted.json: weight: rule 'a' has one"):
        read_candidates([weighted])
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"rule_id": "a", "text": "b"}\n{"rule_id": "c", "text": 5}\n')
    with pytest.raises(DataError, match=r"bad.jsonl:2: `text`: expected text, got 5"):
        read_candidates([bad])
    bad.write_text('{"rule_id": "a", "text": "b"}\n{"rule_id": "a", "text": "c"}\n')
    with pytest.raises(DataError, match=r"bad.jsonl:2: rule_id: 'a' stands more than once"):
        read_candidates([bad])
