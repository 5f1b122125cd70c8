"""`rlrules data thinking`: the training set of a judge of reasoning."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rlrules.data.asking import asking
from rlrules.terminal import print_table, told


def thinking(
    config: Annotated[str, typer.Argument(help="YAML file: {judge, data, per_level, held_out, seed}.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted assignments: per_level=500")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of all files; the same one goes on.")] = Path(
        "thinking"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many completions.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count questions; asks nothing.")] = False,
) -> None:
    """Grades of a stronger judge on reasonings: train.jsonl and held_out.jsonl, even over the levels."""
    with told():
        from rlrules.data.thinking import PARTS, ThinkingDataConfig, build_thinking, reasonings
        from rlrules.recipe.load import load_config

        given = [*(overrides or ()), *([f"data.limit={limit}"] if limit else [])]
        found = load_config(config, given, ThinkingDataConfig)
        conversations = found.data.load(lambda text: 0)
        if dry_run:
            asked, skipped = reasonings(conversations)
            size = sum(len(one.thought) for one in asked) // 4
            rows = {
                "questions": f"{len(asked):,}, about {size:,} tokens of reasoning to read",
                "left out": len(skipped),
            }
            print_table(f"{config}: {len(conversations.items)} completions, nothing asked", rows)
            return
        made = asking(found.judge, lambda judge, tell: build_thinking(found, conversations, judge, out, tell))
    sizes = " and ".join(f"{made.rows[name]} -> {out / f'{name}.jsonl'}" for name in PARTS)
    print_table(f"rows: {sizes}", made.counts)
    if failed := made.counts.get("skipped: unanswered"):
        print(f"{failed} questions got no answer; the same command asks them again", file=sys.stderr)
