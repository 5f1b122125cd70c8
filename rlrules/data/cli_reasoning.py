"""`rlrules data rule-reasoning`: generated questions as a file."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from rlrules.terminal import print_table, told


def rule_reasoning(
    out: Annotated[Path, typer.Option("-o", "--out", help="JSONL file of rows for {type: prompts}.")] = Path(
        "rule_reasoning.jsonl"
    ),
    families: Annotated[list[str] | None, typer.Option("--family", help="Again for each; all without it.")] = None,
    depths: Annotated[list[int] | None, typer.Option("--depth", help="Again for each; 1, 2, 3 without it.")] = None,
    size: Annotated[int, typer.Option(help="Questions of each family.")] = 500,
    distractors: Annotated[int, typer.Option(help="Statements that do not bear on the answer.")] = 3,
    world: Annotated[str, typer.Option(help="open, or closed: of deduction, what does not follow is false.")] = "open",
    seed: Annotated[int, typer.Option(help="Of all questions.")] = 0,
    split: Annotated[str, typer.Option(help="train or test; no question is in both.")] = "train",
    form: Annotated[
        bool, typer.Option("--form", help="With completions in the form asked for, answers drawn by lot, to imitate.")
    ] = False,
) -> None:
    """Questions that ask for a deduction, with their answers: the rows that {type: rule_reasoning} makes."""
    with told():
        from pydantic import ValidationError

        from rlrules.data.rule_reasoning import RuleReasoningConfig, in_form
        from rlrules.data.stage_log import write_atomically
        from rlrules.errors import RecipeError
        from rlrules.recipe.load import Sources, validation_problems

        section = {"size": size, "distractors": distractors, "world": world, "seed": seed, "split": split}
        section |= {"families": families} if families else {}
        section |= {"depths": depths} if depths else {}
        try:
            config = RuleReasoningConfig.model_validate(section)
        except ValidationError as error:
            place = Sources(file="rule-reasoning")
            raise RecipeError(validation_problems(error, RuleReasoningConfig, section, place)) from error
        rows = config.load(lambda text: 0).rows
        rows = [in_form(row) for row in rows] if form else rows
        write_atomically(out, "".join(json.dumps(row) + "\n" for row in rows))
    counts = Counter(f"{row['domain']}: {row['answer']}" for row in rows)
    print_table(f"{len(rows)} questions -> {out}", dict(sorted(counts.items())))
