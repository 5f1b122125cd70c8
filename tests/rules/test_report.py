"""Verifying and reporting: from a judge's words to the page."""

import asyncio
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrules.data.preferences import Preference, Preferences
from rlrules.data.stage_log import StageLog
from rlrules.errors import DataError
from rlrules.judges import Answer, JudgeFailure, Question
from rlrules.judges.verdict import Verdict
from rlrules.rewards.base import Context
from rlrules.rewards.rule_set import Rule
from rlrules.rewards.rules import RulesConfig, RulesScorer
from rlrules.rules.config import ReportConfig
from rlrules.rules.pipeline import silent
from rlrules.rules.report import build_report, run_report, write_report
from rlrules.rules.verify import VerdictLine, Verdicts, verify
from rlrules.types import Completion, Message
from tests.rules.hand import VERDICTS
from tests.rules.scripted import CountingBackend, preferences, scripted

RULES = [Rule(id=f"r{k}", text=f"It satisfies rule number {k}.") for k in range(3)]


def by_hand(draws: int = 1) -> Any:
    async def ask(prompt: tuple[Message, ...], answer: str, rule: str, draw: int) -> Verdict:
        kind, number = answer.rstrip(".").split()
        value = VERDICTS[int(number), int(kind == "Bad"), int(rule.rstrip(".").split()[-1])]
        label = "Irrelevant" if np.isnan(value) else "Yes" if value else "No"
        return Verdict("value", label, {"Yes": 0.75})

    return ask


def verified(path: Path, ask: Any, repeats: int = 1) -> Verdicts:
    log = StageLog(path / "verdicts.jsonl", VerdictLine, "sha")
    return asyncio.run(verify(preferences(6).pairs, RULES, ask, repeats, log, silent))


def test_the_report_says_what_was_counted_by_hand(tmp_path: Path) -> None:
    verdicts = verified(tmp_path, by_hand())
    np.testing.assert_array_equal(verdicts.draws[0], VERDICTS)
    write_report(tmp_path, build_report(ReportConfig(), RULES, preferences(6), verdicts))
    report = json.loads((tmp_path / "report.json").read_text())
    first = report["rules"][0]
    assert (first["agreement"]["value"], first["agreement"]["n"]) == (0.75, 4)
    assert (first["agreement"]["low"], first["agreement"]["high"]) == pytest.approx((0.300642, 0.954413), abs=1e-6)
    assert (first["discordance"]["value"], first["discordance"]["n"]) == (0.8, 5)
    assert report["rules"][2]["agreement"] == {"value": None, "low": None, "high": None, "n": 0}
    assert report["set_accuracy"]["na_excluded"]["value"] == 0.75
    assert report["matrix"]["agreement"][0][1] == report["matrix"]["agreement"][1][0] == pytest.approx(5 / 11)
    assert report["matrix"]["phi"][0][1] == pytest.approx(-0.1)
    assert report["matrix"]["phi"][0][2] is None
    counts = report["counts"]
    assert (counts["answers"], counts["verdicts_asked"]) == (12, 36)
    assert (counts["verdicts_yes"], counts["verdicts_no"], counts["verdicts_not_applicable"]) == (25, 10, 1)
    assert counts["verdicts_asked"] == sum(n for name, n in counts.items() if name.startswith("verdicts_")) - 36


def test_a_second_run_asks_only_for_what_failed(tmp_path: Path) -> None:
    asked: list[str] = []

    async def flaky(prompt: tuple[Message, ...], answer: str, rule: str, draw: int) -> Verdict:
        asked.append(answer + rule)
        if len(asked) % 5 == 0:
            return Verdict("failed", reason="gone")
        return Verdict("unparsed", reason="odd") if len(asked) % 7 == 0 else Verdict("value", "Yes", {"Yes": 1.0})

    first = verified(tmp_path, flaky, repeats=2)
    assert len(asked) == first.counts["asked"] == 72
    assert first.counts["failed"] == 14
    assert sum(count for name, count in first.counts.items() if name != "asked") == 72
    asked.clear()
    verified(tmp_path, by_hand(), repeats=2)
    assert asked == []
    assert len((tmp_path / "verdicts.jsonl").read_text().splitlines()) == 72 + 14


def answer_verdicts(question: Question) -> Answer | JudgeFailure:
    text = str(question.messages[0]["content"])
    number = int(re.findall(r"rule number (\d)", text)[0])
    if number == 2 and "Bad 3" in text:
        return JudgeFailure("timeout", "http://x: no answer within 1 s")
    return Answer("Yes" if ("Good" in text) == (number == 0) else "No")


def run(
    path: Path, reply: Any = answer_verdicts, config: ReportConfig | None = None
) -> tuple[dict[str, Any], CountingBackend]:
    judge, backend = scripted(reply)
    made = asyncio.run(run_report(config or ReportConfig(repeats=2), RULES, preferences(6), judge, path, silent))
    return made, backend


def test_a_whole_report(tmp_path: Path) -> None:
    report, backend = run(tmp_path)
    assert len(backend.questions) == 2 * 6 * 3 * 2
    assert {question.labels for question in backend.questions} == {("Yes", "No", "Irrelevant")}
    assert {question.temperature for question in backend.questions} == {0.0}
    assert report["rules"][0]["agreement"]["value"] == 1.0
    assert report["rules"][1]["agreement"]["value"] == 0.0
    assert report["counts"]["verdicts_failed"] == 2
    assert report["rules"][2]["flip_rate"] == {
        "value": 0.0,
        "low": 0.0,
        "high": pytest.approx(0.2588, abs=1e-3),
        "n": 11,
    }
    again, backend = run(tmp_path)
    assert len(backend.questions) == 2, "only what failed is asked again"
    assert again == report
    with pytest.raises(DataError, match="another configuration"):
        run(tmp_path, config=ReportConfig(repeats=2, temperature=1.0))


def test_nothing_came_back(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 72 verdicts came back; the last: judge teacher: gone"):
        run(tmp_path, lambda _: JudgeFailure("connection", "gone"))
    assert not (tmp_path / "report.json").exists()


def test_the_training_scorer_asks_the_same(tmp_path: Path) -> None:
    _, backend = run(tmp_path, lambda _: Answer("Yes"), ReportConfig())
    judge, scorers = scripted(lambda _: Answer("Yes"))
    one = preferences(1).pairs[0]
    config = RulesConfig(judge="j", rules="unused", na="excluded")
    asyncio.run(RulesScorer(config, RULES, judge).score_one(Context(one.prompt), Completion(str(one.chosen), 3)))
    assert len(scorers.questions) == 3
    for question in scorers.questions:
        greedy = replace(question, temperature=0.0)
        assert greedy in backend.questions, "the same question, so the cache answers it"


class Page(HTMLParser):
    """Collects tags and text; fails on what is loaded from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and not str(value).startswith("#"):
                raise AssertionError(f"<{tag} {name}={value}>")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_everything_and_loads_nothing(tmp_path: Path) -> None:
    hostile = '<script>alert("1")</script> & {{ 7 * 7 }}'
    texts = [hostile, *(f"Rule {k} says {'a great deal of things ' * 8}" for k in range(24))]
    rules = [Rule(id=f"r{k}", text=text) for k, text in enumerate(texts)]
    draws = (np.random.default_rng(0).random((2, 30, 2, 25)) < 0.5).astype(float)
    draws[:, :, :, 3] = 1
    draws[:, :, :, 4] = np.nan
    draws[:, :, :, 6] = draws[:, :, :, 5]
    counts = {"asked": draws.size, "yes": 1, "no": 1, "not_applicable": 1, "unparsed": 0, "truncated": 0, "failed": 0}
    verdicts = Verdicts(draws, np.zeros(draws.shape, bool), counts)
    report = build_report(ReportConfig(repeats=2), rules, preferences(30), verdicts)
    write_report(tmp_path, report)
    html = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(html)
    assert "script" not in page.tags and "img" not in page.tags and "link" not in page.tags
    assert "url(http" not in html and "@import" not in html
    for text in texts:
        assert text in page.text
    assert report["flags"][0] | {"phi": 1.0} == {"kind": "redundant", "rules": ["r5", "r6"], "phi": 1.0, "n": 60}
    assert "redundant" in page.text
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(svg.replace("xlink:href", "href"))
    write_report(tmp_path, report)
    assert (tmp_path / "report.html").read_text() == html, "the same numbers give the same page"


def test_one_rule_needs_no_matrix(tmp_path: Path) -> None:
    verdicts = Verdicts(
        np.ones((1, 2, 2, 1)),
        np.zeros((1, 2, 2, 1), bool),
        dict.fromkeys(("asked", "yes"), 4)
        | dict.fromkeys(("no", "not_applicable", "unparsed", "truncated", "failed"), 0),
    )
    preference = Preference("a", "s", ({"role": "user", "content": "Q"},), "x", "y")
    write_report(tmp_path, build_report(ReportConfig(), RULES[:1], Preferences((preference,) * 2, 2, {}), verdicts))
    assert "Rules against each other" not in (tmp_path / "report.html").read_text()
