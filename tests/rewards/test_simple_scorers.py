"""Length, format and pattern rewards, and how a recipe finds scorers."""

import asyncio
import subprocess
import sys

import pytest
from pydantic import ValidationError

from rlrules.rewards.base import Context, Resources, known_types, scorer_config
from rlrules.types import Completion, Group, Score

CONTEXT = Context(({"role": "user", "content": "?"},))


def value(section: dict[str, object], completion: Completion) -> Score:
    scorer = scorer_config(section).build(Resources())
    group = Group(CONTEXT.prompt, (completion,))
    return asyncio.run(scorer.score(group)).scores[0]


@pytest.mark.parametrize(("tokens", "expected"), [(0, 0.0), (300, 0.0), (301, -1 / 600), (600, -0.5), (900, -1.0)])
def test_length_penalty(tokens: int, expected: float) -> None:
    assert value({"type": "length"}, Completion("x", tokens)).value == pytest.approx(expected)
    assert value({"type": "length", "free": 300, "per_tokens": 600}, Completion("x", tokens)).value == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think> b", 1.0),
        ("  <think>\na\n</think>\n\nb\n", 1.0),
        ("<think></think>b", 1.0),
        ("b", 0.0),
        ("", 0.0),
        ("<think>a</think>", 0.0),
        ("<think>a</think>  ", 0.0),
        ("<think>a", 0.0),
        ("x <think>a</think> b", 0.0),
        ("<think>a</think> b </think> c", 0.0),
        ("<think>a<think>b</think> c", 0.0),
    ],
)
def test_format(text: str, expected: float) -> None:
    made = value({"type": "format"}, Completion(text, 1))
    assert made.value == expected
    assert made.status == ("ok" if expected else "malformed")


def test_regex() -> None:
    section: dict[str, object] = {"type": "regex", "pattern": r"\s*(\S+\s+){0,2}\S+\s*"}
    assert value(section, Completion("three words\nhere", 1)).value == 1.0
    assert value(section, Completion("four words are many", 1)).value == 0.0
    with pytest.raises(ValidationError, match="not a regular expression"):
        scorer_config({"type": "regex", "pattern": "("})


def test_unknown_types_name_what_was_meant() -> None:
    assert {"format", "length", "regex", "remote", "rules", "verdict"} <= set(known_types())
    with pytest.raises(ValueError, match="did you mean 'length'"):
        scorer_config({"type": "lenght"})
    with pytest.raises(ValueError, match="No module named 'nowhere'"):
        scorer_config({"type": "nowhere:Thing"})
    with pytest.raises(ValueError, match="not a subclass"):
        scorer_config({"type": "pathlib:Path"})


def test_scores_cannot_lie() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Score(None)
    with pytest.raises(ValueError, match="does not fit"):
        Score(1.0, "unscored")
    with pytest.raises(ValueError, match="not finite"):
        Score(float("nan"))


@pytest.mark.parametrize(
    "module", ["rlrules.types", "rlrules.rewards.engine", "rlrules.rewards.rules", "rlrules.recipe.load"]
)
def test_the_core_imports_without_torch(module: str) -> None:
    code = f"import sys, {module}; assert not {{'torch', 'transformers', 'trl', 'aiohttp'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
