"""Merging by recursion: nothing is lost, nothing asked twice, no call over the limit."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from rlrules.data.stage_log import StageLog
from rlrules.judges import JudgeFailure, Question
from rlrules.rules.candidates import Candidate
from rlrules.rules.likeness import by_likeness
from rlrules.rules.merge import MergeLine, MergeResult, merge
from rlrules.rules.pipeline import silent
from tests.rules.scripted import CountingBackend, merged_by_topic, numbered, scripted


def run(
    candidates: list[Candidate], reply: object, path: Path, chunk: int = 150
) -> tuple[MergeResult, CountingBackend]:
    judge, backend = scripted(reply)  # type: ignore[arg-type]
    log = StageLog(path / "merges.jsonl", MergeLine, "sha")
    result = asyncio.run(merge(candidates, judge, log, chunk, silent))
    members = Counter(member for rule in result.rules for member in rule.members) + Counter(list(result.dropped))
    assert members == Counter(candidate.rule_id for candidate in candidates), "each candidate has exactly one fate"
    return result, backend


def statements(count: int, topics: int) -> list[Candidate]:
    draw = random.Random(0)
    return [
        Candidate(f"c{n}", f"Topic{draw.randrange(topics)} says thing {n} about matter {n % 13}.") for n in range(count)
    ]


def test_two_thousand_candidates(tmp_path: Path) -> None:
    candidates = statements(2000, 60)
    result, backend = run(candidates, merged_by_topic, tmp_path)
    assert max(len(numbered(question)) for question in backend.questions) <= 150
    assert {rule.text for rule in result.rules} == {f"Topic{n} is right." for n in range(60)}
    assert result.counts["candidates"] == 2000
    assert result.counts["calls"] == len(backend.questions)
    assert result.counts["failed_calls"] == 0
    support = [len(rule.members) for rule in result.rules]
    assert support == sorted(support, reverse=True)
    for rule in result.rules:
        topic = rule.text.split()[0]
        assert all(candidates[int(member[1:])].text.startswith(f"{topic} ") for member in rule.members)


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    first, _ = run(statements(400, 30), merged_by_topic, tmp_path)
    again, backend = run(statements(400, 30), merged_by_topic, tmp_path)
    assert (again, backend.questions) == (first, [])


def test_exact_duplicates_are_merged_before_asking(tmp_path: Path) -> None:
    texts = ["Be brief.", "be  brief", "- Be brief", "2. Be brief.", "Be kind."]
    candidates = [Candidate(str(n), text) for n, text in enumerate(texts)]
    separate = json.dumps({"rules": [{"text": "a", "members": [1]}, {"text": "b", "members": [2]}], "dropped": []})
    result, backend = run(candidates, lambda _: separate, tmp_path)
    assert len(numbered(backend.questions[0])) == 2
    assert [(rule.text, rule.members) for rule in result.rules] == [
        ("Be brief.", ("0", "1", "2", "3")),
        ("Be kind.", ("4",)),
    ]
    assert result.counts["duplicates"] == 3
    alone, backend = run(candidates[:4], lambda _: separate, tmp_path / "alone")
    assert (len(alone.rules), backend.questions) == (1, [])


def test_a_failed_call_keeps_its_list_unmerged(tmp_path: Path) -> None:
    candidates = statements(60, 5)

    def reply(question: Question) -> str | JudgeFailure:
        return JudgeFailure("timeout", "slow") if "thing 7 " in str(question.messages) else merged_by_topic(question)

    result, _ = run(candidates, reply, tmp_path, chunk=20)
    assert result.counts["failed_calls"] >= 1
    kept = [rule for rule in result.rules if rule.kept_because]
    assert any("thing 7 " in rule.text for rule in kept)
    assert "slow" in kept[0].kept_because
    # The judge is back: only what failed, and what follows from it, is asked.
    mended, backend = run(candidates, merged_by_topic, tmp_path, chunk=20)
    assert mended.counts["failed_calls"] == 0
    assert {rule.text for rule in mended.rules} == {f"Topic{n} is right." for n in range(5)}
    assert 0 < len(backend.questions) < result.counts["calls"] + mended.counts["calls"]


def test_an_unreadable_reply_is_repaired_then_given_up_and_counted(tmp_path: Path) -> None:
    candidates = statements(10, 2)
    result, backend = run(candidates, lambda _: "I merged them!", tmp_path)
    assert len(backend.questions) == 3
    assert result.counts["failed_calls"] == 1
    assert len(result.rules) == 10
    line = json.loads((tmp_path / "merges.jsonl").read_text())
    assert (line["status"], line["raw"]) == ("failed", "I merged them!")
    # It was answered: asking again would bring the same.
    assert run(candidates, lambda _: "I merged them!", tmp_path)[1].questions == []


def test_what_a_reply_forgets_or_drops_is_kept_or_told(tmp_path: Path) -> None:
    candidates = [Candidate(f"c{n}", f"Rule {word}.") for n, word in enumerate(["one", "two", "three", "four"], 1)]
    reply = {
        "rules": [{"text": "Rule one or two.", "members": [1, 2]}],
        "dropped": [{"number": 4, "reason": "no rule"}],
    }
    result, backend = run(candidates, lambda _: json.dumps(reply), tmp_path)
    assert len(backend.questions) == 1
    assert result.dropped == {"c4": "no rule"}
    assert [(rule.text, rule.members, rule.kept_because) for rule in result.rules] == [
        ("Rule one or two.", ("c1", "c2"), ""),
        ("Rule three.", ("c3",), "the reply did not mention it"),
    ]
    assert (result.counts["unnamed"], result.counts["dropped"]) == (1, 1)


def test_an_unsound_reply_is_repaired_or_its_sound_part_taken(tmp_path: Path) -> None:
    candidates = [Candidate(str(n), f"Rule {n} stands.") for n in (1, 2, 3)]
    twice = json.dumps({"rules": [{"text": "A", "members": [1, 2]}, {"text": "B", "members": [2, 3]}], "dropped": []})
    sound = json.dumps({"rules": [{"text": "A", "members": [1, 2, 3]}], "dropped": []})
    replies = [twice, sound]
    result, _ = run(candidates, lambda _: replies.pop(0), tmp_path / "a")
    assert [rule.members for rule in result.rules] == [("1", "2", "3")]
    assert result.counts["repaired_calls"] == 1
    result, backend = run(candidates, lambda _: twice, tmp_path / "b")
    assert len(backend.questions) == 3
    assert [rule.members for rule in result.rules] == [("1", "2"), ("3",)]
    assert (result.counts["salvaged_calls"], result.counts["failed_calls"]) == (1, 0)


def test_a_model_that_merges_nothing_ends_the_recursion(tmp_path: Path) -> None:
    def reply(question: Question) -> str:
        return json.dumps(
            {"rules": [{"text": text, "members": [n]} for n, text in numbered(question).items()], "dropped": []}
        )

    result, backend = run(statements(100, 100), reply, tmp_path, chunk=20)
    assert (len(backend.questions), result.counts["rounds"], len(result.rules)) == (5, 1, 100)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_a_model_replies_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)

    def reply(question: Question) -> str | JudgeFailure:
        count = len(numbered(question))
        if draw.random() < 0.2:
            return JudgeFailure("connection", "gone")
        rules = [
            {
                "text": draw.choice(["", "Same text.", f"Rule {draw.random()}"]),
                "members": draw.choices(range(-1, count + 2), k=draw.randrange(6)),
            }
            for _ in range(draw.randrange(count + 1))
        ]
        dropped = [{"number": draw.randrange(count + 2), "reason": "odd"} for _ in range(draw.randrange(3))]
        text = json.dumps({"rules": rules, "dropped": dropped})
        return text[: draw.randrange(len(text))] if draw.random() < 0.2 else text

    run(statements(300, 10), reply, tmp_path, chunk=25)


def test_like_stands_by_like() -> None:
    texts = [f"cite the source of claim {n}" for n in range(10)] + [
        f"keep answers brief number {n}" for n in range(20, 30)
    ]
    shuffled = random.Random(0).sample(texts, 20)
    ordered = [shuffled[place] for place in by_likeness(shuffled)]
    assert sorted(ordered) == sorted(texts)
    assert len({text.startswith("cite") for text in ordered[:10]}) == 1
    assert by_likeness([]) == [] and by_likeness(["a"]) == [0] and sorted(by_likeness(["", "…", "a"])) == [0, 1, 2]
