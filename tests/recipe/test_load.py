"""Inheritance, overrides, and errors that name their line."""

from pathlib import Path

import pytest

from rlrules.errors import RecipeError
from rlrules.recipe.load import dump_resolved, load_mapping, load_recipe, merge

GOOD = """\
judges:
  verifier: {type: openai, urls: ["http://localhost:8000/v1"], model: m}
rewards:
  short: {type: length, free: 10}
  form: {type: format}
objective: {type: weighted_sum, weights: {short: 1, form: 0.5}}
training: {learning_rate: 5.0e-7, num_generations: 2}
"""


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as error:
        load_recipe(path, overrides)
    return error.value.problems


def test_merge_rules() -> None:
    below = {"a": {"x": 1, "y": [1, 2]}, "b": {"type": "p", "k": 1}, "c": 3, "d": {"type": "p", "k": 1}}
    above = {"a": {"y": [3], "z": 4}, "b": {"type": "q", "m": 2}, "c": None, "d": {"type": "p", "m": 2}}
    assert merge(below, above) == {
        "a": {"x": 1, "y": [3], "z": 4},
        "b": {"type": "q", "m": 2},
        "d": {"type": "p", "k": 1, "m": 2},
    }


def test_bases_chain_and_overrides_win(tmp_path: Path) -> None:
    write(tmp_path, top=GOOD, middle="base: top.yaml\ntraining: {num_generations: 4, beta: 0.1}\n")
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", leaf="base: ../middle.yaml\nrewards: {form: null}\nobjective: {weights: {form: null}}\n")
    loaded = load_recipe(tmp_path / "sub" / "leaf.yaml", ["training.learning_rate=1e-6", "rewards.short.free=7"])
    assert loaded.recipe.name == "leaf"
    assert loaded.recipe.training == {"learning_rate": 1e-6, "num_generations": 4, "beta": 0.1}
    assert list(loaded.recipe.rewards) == ["short"]
    assert loaded.recipe.rewards["short"].free == 7  # type: ignore[attr-defined]


def test_values_are_plain_python(tmp_path: Path) -> None:
    write(tmp_path, r=GOOD + 'name: "quoted"\n')
    recipe = load_recipe(tmp_path / "r.yaml").recipe
    assert {type(value) for value in recipe.training.values()} == {int, float}
    assert type(recipe.name) is str


def test_an_override_can_remove_and_replace(tmp_path: Path) -> None:
    write(tmp_path, r=GOOD)
    overrides = [
        "judges.verifier={type: local, model: m}",
        "training.num_generations=null",
        "objective.weights.form=null",
    ]
    recipe = load_recipe(tmp_path / "r.yaml", overrides).recipe
    assert recipe.judges["verifier"].type == "local"
    assert recipe.training == {"learning_rate": 5e-7}


def test_a_cycle_is_named(tmp_path: Path) -> None:
    write(tmp_path, a="base: b.yaml\n", b="base: a.yaml\n")
    [problem] = problems(tmp_path / "a.yaml")
    assert "cycle" in problem and "a.yaml" in problem and "b.yaml" in problem


def test_all_problems_come_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
judges:
  verifier: {type: openai, ulrs: ["http://localhost:8000/v1"], model: m}
rewards:
  rules:
    type: rules
    judge: verifierr
    rules: x.json
    sclae: 3
  short: {type: lenght}
  other: {type: length, free: -1}
  last: {type: rules, judge: verifyer, rules: x.json}
objective: {type: weighted_sum, weights: {rules: 1, missing: 1}}
bogus: 1
"""
    write(tmp_path, r=text)
    found = problems(tmp_path / "r.yaml", "judges.verifier.timeout_s=soon")
    expected = [
        ("r.yaml:8:", "rewards.rules.sclae: unknown key; did you mean 'scale'?"),
        ("r.yaml:9:", "rewards.short: no scorer 'lenght'; did you mean 'length'?"),
        ("r.yaml:10:", "rewards.other.free:"),
        ("r.yaml:2:", "judges.verifier.urls: is missing"),
        ("override judges.verifier.timeout_s:", "number"),
        ("r.yaml:2:", "judges.verifier.ulrs: unknown key; did you mean 'urls'?"),
        ("r.yaml:13:", "bogus: unknown key"),
        ("r.yaml:11:", "rewards.last.judge: no judge 'verifyer'"),
        ("r.yaml:12:", "objective: no reward 'missing'"),
    ]
    assert len(found) == len(expected), found
    for problem, (place, message) in zip(found, expected, strict=True):
        assert place in problem and message in problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected a mapping"),
        ("a: [1\nb: 2\n", "not valid YAML"),
        ("a: 1\na: 2\n", "not valid YAML"),
        ("rewards: 3\nobjective: {type: gate, gate: a, of: b}\n", "rewards"),
        ("rewards: {a: 3}\nobjective: {type: gate, gate: a, of: a}\n", "a reward is a mapping with a `type`"),
        ("rewards: {a: {type: format}}\n", "objective: is missing"),
        ("rewards: {a: {type: format}}\nobjective: {type: wighted}\n", "objective"),
        ("base: [a]\n", "expected one file name"),
    ],
)
def test_malformed_recipes(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, r=text)
    assert any(message in problem for problem in problems(tmp_path / "r.yaml"))


def test_missing_files(tmp_path: Path) -> None:
    [problem] = problems(tmp_path / "none.yaml")
    assert "none.yaml does not exist" in problem
    write(tmp_path, r="base: gone.yaml\n")
    [problem] = problems(tmp_path / "r.yaml")
    assert "gone.yaml does not exist" in problem


@pytest.mark.parametrize("override", ["novalue", "=3", "a..b=3", "a=[1"])
def test_malformed_overrides(tmp_path: Path, override: str) -> None:
    write(tmp_path, r=GOOD)
    [problem] = problems(tmp_path / "r.yaml", override)
    assert problem.startswith("override")


def test_the_resolved_recipe_loads_to_the_same(tmp_path: Path) -> None:
    write(tmp_path, r=GOOD)
    recipe = load_recipe(tmp_path / "r.yaml").recipe
    dump_resolved(recipe, tmp_path / "out" / "recipe.yaml")
    assert load_recipe(tmp_path / "out" / "recipe.yaml").recipe == recipe
    assert "base" not in load_mapping(tmp_path / "out" / "recipe.yaml")
