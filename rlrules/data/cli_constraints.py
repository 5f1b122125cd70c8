"""`rlrules data constraints|thoughts`: prompts with verifiable constraints, and thoughts of how to follow them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlrules.data.asking import asking
from rlrules.terminal import print_table, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlrules.data.prompts_base import CountTokens
    from rlrules.data.rows import Row
    from rlrules.data.stage_log import Tell
    from rlrules.data.thoughts import Thoughts, ThoughtsConfig
    from rlrules.judges import Judge


def constraints(
    config: Annotated[str, typer.Argument(help="YAML file: {prompts, decontaminate, judge, model, samples, …}.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted assignments: prompts.seed=1 samples=4")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of all files; the same one goes on.")] = Path(
        "constraints"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many prompts.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compose and count; asks nothing, writes nothing.")
    ] = False,
) -> None:
    """Seed prompts with constraints: prompts.jsonl, or with a model hard, easy, pass and trivial.jsonl."""
    with told():
        from rlrules.data.constraint_synthesis import Synthesis, SynthesisConfig
        from rlrules.recipe.load import load_config

        found = load_config(
            config, [*(overrides or ()), *([f"prompts.limit={limit}"] if limit else [])], SynthesisConfig
        )
        made = Synthesis(found, out)
        if dry_run:
            questions = len(made.rows) * ((found.judge is not None) + (found.model is not None) * found.samples)
            print_table(f"{config}: nothing asked", {"prompts": str(len(made.rows)), "questions": f"{questions:,}"})
            return
        if found.judge is not None:
            asking(found.judge, made.judge)
        if found.model is not None:
            asking(found.model, made.sample)
        counts = made.write().counts
    print_table(f"{len(made.rows)} prompts -> {out}", counts)
    failed = sum(counts.get(f"left out: {reason}", 0) for reason in ("unjudged", "unanswered"))
    if failed:
        print(f"{failed} prompts got no answer; the same command asks again", file=sys.stderr)


def thoughts(
    config: Annotated[str, typer.Argument(help="YAML file: {model, judge, tokenizer, data, samples, …}.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted assignments: samples=4 fluency=7")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of all files; the same one goes on.")] = Path(
        "thoughts"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many prompts.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count questions; asks nothing.")] = False,
) -> None:
    """Thoughts that plan and check, and lead to right answers: accepted.jsonl to imitate, rejected.jsonl with why."""
    with told():
        from rlrules.data.thoughts import ThoughtsConfig
        from rlrules.data.tokenizers import counter_of, load_tokenizer
        from rlrules.models import resolve_model
        from rlrules.recipe.load import load_config

        found = load_config(config, [*(overrides or ()), *([f"data.limit={limit}"] if limit else [])], ThoughtsConfig)
        count = counter_of(load_tokenizer(resolve_model(found.tokenizer)))
        rows = found.data.load(count).rows
        if dry_run:
            table = {"questions": f"{len(rows) * found.samples:,}", "of the judge": "one for each right answer"}
            print_table(f"{config}: {len(rows)} prompts, nothing asked", table)
            return
        made = _built(found, rows, count, out)
    print_table(f"{made.accepted} rows to imitate -> {out / 'accepted.jsonl'}", made.counts)
    if failed := sum(made.counts.get(f"rejected: {reason}", 0) for reason in ("ungraded", "failed")):
        print(f"{failed} samples got no answer or no grade; the same command asks again", file=sys.stderr)


def _built(config: "ThoughtsConfig", rows: "Sequence[Row]", count: "CountTokens", out: Path) -> "Thoughts":
    from rlrules.data.thoughts import build_thoughts
    from rlrules.judges import build_judge

    async def work(model: "Judge", tell: "Tell") -> "Thoughts":
        judge = build_judge("judge", config.judge) if config.judge is not None else None
        try:
            return await build_thoughts(config, rows, model, judge, count, out, tell)
        finally:
            if judge is not None:
                await judge.close()

    return asking(config.model, work)
