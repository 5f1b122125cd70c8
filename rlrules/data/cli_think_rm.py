"""`rlrules data think-rm`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rlrules.data.asking import asking
from rlrules.terminal import print_table, told


def think_rm(
    config: Annotated[str, typer.Argument(help="YAML file: {judge, tokenizer, data, verdict, samples, choose, …}.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted assignments: samples=4 choose=shortest")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of all files; the same one goes on.")] = Path(
        "think_rm"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many preferences.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count questions; asks nothing.")] = False,
) -> None:
    """Thoughts that lead to the right verdict: accepted.jsonl to imitate, skipped.jsonl to leave out."""
    with told():
        from rlrules.data.comparisons import comparisons_of
        from rlrules.data.think_rm import ThinkRmConfig, build_think_rm
        from rlrules.recipe.load import load_config

        found = load_config(config, [*(overrides or ()), *([f"data.limit={limit}"] if limit else [])], ThinkRmConfig)
        preferences = found.data.load()
        if dry_run:
            asked, _, dropped = comparisons_of(preferences, found.verdict, found.seed)
            size = sum(len(str(message["content"])) for one in asked for message in one.messages) // 4 * found.samples
            rows = {"questions": f"{len(asked) * found.samples:,}, about {size:,} tokens to read"}
            rows |= {f"left out: {reason}": str(count) for reason, count in dropped.items()}
            print_table(f"{config}: {len(preferences)} preferences, nothing asked", rows)
            return
        from rlrules.data.tokenizers import load_tokenizer
        from rlrules.models import resolve_model

        tokenizer = load_tokenizer(resolve_model(found.tokenizer))
        made = asking(found.judge, lambda judge, tell: build_think_rm(found, preferences, judge, tokenizer, out, tell))
    print_table(f"{made.accepted} rows to imitate -> {out / 'accepted.jsonl'}", made.counts)
    if failed := made.counts.get("samples_failed"):
        print(f"{failed} questions got no answer; the same command asks them again", file=sys.stderr)
