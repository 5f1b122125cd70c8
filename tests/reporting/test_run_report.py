"""The run report, on runs that these tests write."""

import json
import math
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rlrules.errors import DataError
from rlrules.reporting.run_report import write_report
from tests.reporting.synthetic import RECIPE, completion_line, write_lines, write_run

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> \x00\x1b[31m \ud800 \u202egnp.exe &amp; {{ 7*7 }} $x^$"


def report(folder: Path) -> str:
    path = write_report(folder)
    assert path == folder / "report.html"
    assert sorted(found.name for found in folder.glob("report*")) == ["report.html"]
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run that has everything."""
    return report(write_run(tmp_path_factory.mktemp("usual")))


class Balanced(HTMLParser):
    """Fails on tags that do not close in order; collects tags, ids, text and attribute values."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "text"):
            self.text += data


def words(html: str) -> str:
    return " ".join(Balanced(html).text.split())


def test_header(usual: str) -> None:
    text = words(usual)
    assert "autorule grpo on org/policy-3b" in text
    assert re.search(r"Steps ?60 ?of 60", text)
    assert re.search(r"Completions ?720", text)
    assert "1 h 30 min" in text  # 60 steps of 90 s
    assert re.search(r"Unscored ?1%", text)
    # Hit rates 0.25 * step / 60 over 60 steps of equal calls.
    assert re.search(r"Cache hits ?12\.7%", text)


def test_first_and_last_fifth_of_the_reward(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    write_lines(tmp_path / "metrics.jsonl", [{"step": step, "reward": float(step)} for step in range(1, 11)])
    text = words(report(tmp_path))
    assert "1.50 → 9.50" in text
    assert "+8 over the run" in text


def test_a_logged_line_stands_for_the_steps_since_the_last(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    write_lines(tmp_path / "metrics.jsonl", [{"step": step, "step_time": 6.0} for step in (10, 20, 25)])
    assert "2 min 30 s" in words(report(tmp_path))


def test_every_section_and_nothing_of_trls_own_reward(usual: str) -> None:
    for anchor in ("reward", "components", "rules", "training", "health", "completions", "recipe", "files"):
        assert f'href="#{anchor}"' in usual
        assert f'id="{anchor}"' in usual
    text = words(usual)
    for title in ("Completion length", "Truncated", "KL to ref", "Entropy", "Loss", "Gradient norm"):
        assert title in text
    assert "held out, last 0.550" in text
    assert "Failed questions" in text
    assert "Retried attempts" not in text  # never happened: a total of 0 says it
    assert "rewards/objective" not in text
    assert "12,34" not in text
    assert 'urls: ["http://localhost:8000/v1"], model: org/judge-8b}' in text
    assert "one line of numbers per logged step" in text
    assert "checkpoints/" not in text


def test_a_run_without_completions(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: rm\nmethod: reward_model\nmodel: {name: org/base}\n")
    steps = [{"step": n, "loss": 0.7 - 0.01 * n, "accuracy": 0.5 + 0.01 * n, "margin": 0.1 * n} for n in range(1, 21)]
    last = [{"step": 20, "train_runtime": 90.0}, {"step": 20, "scores/mean": 0.5, "scores/held_out_accuracy": 0.875}]
    write_lines(tmp_path / "metrics.jsonl", [*steps, {"step": 20, "eval_loss": 0.55, "eval_accuracy": 0.8}, *last])
    page = report(tmp_path)
    text = words(page)
    assert "rm reward_model on org/base" in text
    assert re.search(r"Right order ?87\.5% ?of the held-out pairs", text)
    assert re.search(r"Time ?1 min 30 s", text)
    assert "Pairs in the right order" in text and "held out, last 0.800" in text
    for absent in ("Completions", "Unscored", "Judge health"):
        assert absent not in text
    assert 'id="health"' not in page and 'id="completions"' not in page


def test_rules_stand_in_natural_order(usual: str) -> None:
    assert re.findall(r'<td class="rule">(r\d+)</td>', usual) == [f"r{place}" for place in range(1, 11)]


def test_rewards_stand_in_the_recipes_order(usual: str) -> None:
    assert re.findall(r'<td class="rule">(rules|length)</td>', usual) == ["rules", "length"]


def test_judge_totals(usual: str) -> None:
    text = words(usual)
    assert re.search(r"questions ?9,600", text)
    assert re.search(r"failed ?3", text)
    assert re.search(r"prompt tokens ?5,400,000", text)


def test_samples_show_verdicts_and_reasons(usual: str) -> None:
    text = words(usual)
    for step in (1, 31, 60):
        for group in (0, 1):
            assert f"Question {group} of step {step}:" in text
    assert "Question 2 of step 1:" not in text
    assert usual.count('class="sample"') == 3 * 2 * 4
    for mark, sign in (("yes", "✓"), ("no", "✗"), ("part", "◐"), ("na", "–")):
        assert re.search(rf'<span class="chip {mark}" title="[^"]+">{sign} r\d+</span>', usual)
    assert '<span class="chip missing" title="failed · judge verifier: timeout after 60 s">? r1</span>' in usual
    assert 'title="Yes · p 0.973 · counts 0.630"' in usual
    assert "truncated" in text
    assert "1 of 10 verdicts missing; r1: judge verifier: timeout" in text
    assert "Last completions without a score" in text


def test_best_completion_first_and_unscored_last(usual: str) -> None:
    first = usual[usual.index('<article class="card group">') : usual.index("</article>")]
    rewards = re.findall(r"reward <b>([^<]+)</b>", first)
    assert rewards[-1] == "–"
    known = [float(reward.replace("−", "-")) for reward in rewards[:-1]]
    assert known == sorted(known, reverse=True)


def test_what_the_policy_writes_stays_text(tmp_path: Path) -> None:
    write_run(tmp_path, steps=3)
    recipe = RECIPE.replace("org/policy-3b", json.dumps(EVIL[:60])) + f"# {EVIL[:25]}\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    names = {"rules": {"rules": {EVIL: 1.0}, "verdicts": {EVIL: {"outcome": EVIL, "raw": EVIL}}}, EVIL: {"note": EVIL}}
    line = completion_line(1, 0, 0, ["r1"], random.Random(1)) | {"details": names, "completion": EVIL}
    line |= {"prompt": [{"role": EVIL, "content": [{"type": EVIL}, {"type": "text", "text": EVIL}]}]}
    line |= {"scores": {EVIL: None, "rules": 1.0}, "reasons": {EVIL: EVIL, "rules": EVIL}, "reward": None}
    write_lines(tmp_path / "completions.jsonl", [line])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        for step in (1, 2):
            evil = {f"rewards/{EVIL}/value": 1, f"rewards/rules/rule/{EVIL}": 0.5, f"judge/{EVIL}/calls": 1, EVIL: 2.0}
            file.write(json.dumps({"step": step, **evil, "not_finite": [EVIL]}) + "\n")
    html = report(tmp_path)
    page = Balanced(html)
    assert not page.tags & {"script", "img", "iframe", "object", "link"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "␀␛[31m ? �gnp.exe" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", html)


def test_loads_nothing(usual: str) -> None:
    page = Balanced(usual)
    assert "default-src 'none'" in usual
    assert not page.tags & {"script", "img", "iframe", "object", "link"}
    for name, value in page.attributes:
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#")
    urls = set(re.findall(r"https?://[^\"'<&\s]+", usual))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "http://localhost:8000/v1"}
    assert "@import" not in usual
    assert not re.search(r"url\((?!#)", usual)


def test_evaluations_show_their_last_result(tmp_path: Path) -> None:
    write_run(tmp_path, steps=5)
    evaluated = [
        {"step": 3, "eval/fast/failed": 0, "eval/fast/win_rate": 11.5, "eval/fast/gone": 77.25},
        {"step": 3, "eval/down/failed": 0, "eval/down/score": 88.75},
        {"step": 5, "eval/fast/failed": 1},
        {"step": 5, "eval/fast/failed": 0, "eval/fast/win_rate": 12.5},
        {"step": 5, "eval/down/failed": 1},
    ]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in evaluated)
    html = report(tmp_path)
    Balanced(html)
    section = html.partition('<h2 id="evaluation">')[2].partition("</section>")[0]
    down, fast = section.split("<h3>")[1:]
    assert "down" in down and "It failed" in down and "score" not in down and "step 5" in down
    assert "win_rate" in fast and "12.5" in fast and "It failed" not in fast and "eval/fast/step-5/page.html" in fast
    # Neither numbers of another step, nor a curve of the same further down.
    assert "gone" not in fast and html.count("eval/fast/") == 1


def test_domains_show_what_was_drawn_of_them(tmp_path: Path) -> None:
    lines = [
        {"step": step, "loss": 0.0}
        | {"domains/easy/count": 2, "domains/easy/weight": 0.25, "domains/easy/reward": 0.5 + 0.05 * step}
        | {"domains/<hard>/count": 6, "domains/<hard>/weight": 0.75}
        for step in range(1, 11)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "recipe.yaml").write_text("name: x\nmethod: grpo\n")
    text = words(report(tmp_path))
    assert "easy25% 0.5750.975+0.400 0.2500.250" in text
    assert "<hard>75% –––0.7500.750" in text


def test_same_run_same_page(tmp_path: Path) -> None:
    write_run(tmp_path, steps=5)
    here = report(tmp_path)
    script = "import sys, pathlib; from rlrules.reporting.run_report import write_report; "
    check = "write_report(pathlib.Path(sys.argv[1])); assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    settings = tmp_path / "matplotlibrc"
    settings.write_text("axes.facecolor: red\nfont.size: 30\nsvg.fonttype: path\n")
    environment = {"PYTHONHASHSEED": "5", "MATPLOTLIBRC": str(settings), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    subprocess.run([sys.executable, "-c", script + check, str(tmp_path)], check=True, env=environment)
    assert (tmp_path / "report.html").read_text("utf-8") == here


def test_importing_draws_in_neither_torch_nor_matplotlib() -> None:
    check = "import sys, rlrules.reporting.run_report; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_no_step_logged(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    text = words(report(tmp_path))
    assert "No step was logged" in text
    assert "name: autorule" in text


def test_half_a_line_at_the_end_is_passed_over(tmp_path: Path) -> None:
    write_run(tmp_path, steps=4)
    for name in ("metrics.jsonl", "completions.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 5, "rewa')
    text = words(report(tmp_path))
    assert "read and left out" not in text
    assert re.search(r"Completions ?48", text)


def test_broken_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("{not: [yaml")
    lines = [
        b'{"step": 1, "reward": 1.0}',
        b"garbage",
        b'"text"',
        b"\xff\xfe",
        b'{"reward": 3}',
        b'{"step": 2, "reward": 2}',
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "completions.jsonl").write_bytes(b"[1]\n")
    text = words(report(tmp_path))
    assert "metrics.jsonl: 4 lines could not be read and left out (line 2, 3, 4, 5)." in text
    assert "completions.jsonl: 1 line could not be read and left out (line 1)." in text
    assert "1 → 2" in text
    assert "{not: [yaml" in text


def test_numbers_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    lines: list[dict[str, Any]] = [
        {"step": 1, "reward": 1.0, "loss": math.nan, "kl": None, "entropy": "high", "flag": True},
        {"step": 2, "reward": math.inf, "kl": 10**400, "grad_norm": 2.0},
        {"step": 3, "reward": 3.0, "not_finite": ["loss"]},
    ]
    write_lines(tmp_path / "metrics.jsonl", lines)
    text = words(report(tmp_path))
    assert "1 → 3" in text
    assert "loss was not a finite number at 2 steps, the first of them step 1." in text
    assert "reward was not a finite number at step 2." in text


def test_numbers_out_of_all_proportion(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    values = [1e308, -1e308, 5e-324, 0.0]
    for repeats in (1, 5):
        lines = [{"step": 10**n, "reward": value, "kl": 1e308} for n, value in enumerate(values * repeats)]
        write_lines(tmp_path / "metrics.jsonl", lines)
        assert "Mean reward" in words(report(tmp_path))


def test_odd_completions(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    lines: list[dict[str, Any]] = [
        {"step": 1},
        {"step": 1, "prompt": "plain", "completion": None, "scores": [1], "details": 5, "reasons": None, "reward": "x"},
        {"step": 1, "prompt": ["a", 3], "completion": "", "scores": {"a": "x"}, "details": {"a": {"rules": [1]}}},
        {"step": 1, "scores": {"a": 1}, "details": {"a": {"deep": json.loads("[" * 900 + "]" * 900)}}},
        {"step": 2, "prompt": [{"role": "user", "content": None}], "details": {"rules": {"rules": {"r": "?"}}}},
    ]
    write_lines(tmp_path / "completions.jsonl", lines)
    text = words(report(tmp_path))
    assert "plain" in text
    assert re.search(r"Completions ?5", text)


def test_held_out_completions_are_counted_apart(tmp_path: Path) -> None:
    write_run(tmp_path, steps=2)
    line = completion_line(2, 0, 0, ["r1"], random.Random(1)) | {"mode": "eval", "completion": "held out answer"}
    with (tmp_path / "completions.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    text = words(report(tmp_path))
    assert "and 1 held out" in text
    assert "held out answer" not in text


def test_long_and_large_runs_stay_small(tmp_path: Path) -> None:
    write_run(tmp_path, steps=2000, rules=25, size=2)
    long = [completion_line(2001, group, 0, [f"r{n}" for n in range(25)], random.Random(group)) for group in (0, 1)]
    with (tmp_path / "completions.jsonl").open("a") as file:
        for number, line in enumerate(long):
            file.write(json.dumps(line | {"completion": f"start{number} " + '"<' * 50_000 + " end"}) + "\n")
    html = report(tmp_path)
    assert len(html.encode()) < 3_000_000
    text = words(html)
    assert "100,011 characters, shortened" in text
    assert "94,011 characters left out" in text
    assert "start1" in text
    assert " end" in text


def test_wide_groups_stay_small(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    rules = [f"a rule with a rather long name, number {n}" for n in range(25)]
    draw = random.Random(3)
    lines = [completion_line(1, group, place, rules, draw) for group in range(2) for place in range(64)]
    write_lines(tmp_path / "completions.jsonl", [line | {"completion": "\n<'\"&" * 20_000} for line in lines])
    html = report(tmp_path)
    assert len(html.encode()) < 3_000_000
    assert html.count("32 completions between the best and the worst") == 2


def test_a_run_of_supervised_learning(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: warm\nmethod: sft\n")
    lines = [{"step": step, "loss": 3 / step, "mean_token_accuracy": step / 10} for step in range(1, 6)]
    write_lines(tmp_path / "metrics.jsonl", lines)
    text = words(report(tmp_path))
    assert re.search(r"Loss ?3 → 0.600", text)
    assert "Judge health" not in text
    assert "Cache hits" not in text


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(f"{tmp_path} is no run directory: it holds no recipe.yaml")):
        write_report(tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        write_report(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path: Path) -> None:
    from rlrules.cli import app

    folder = write_run(tmp_path / "runs" / "autorule", steps=2)
    result = CliRunner().invoke(app, ["report", str(folder)])
    assert result.exit_code == 0
    assert "report.html" in result.output
    assert (folder / "report.html").exists()
