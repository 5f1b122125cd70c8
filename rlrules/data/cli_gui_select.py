"""`rlrules data gui-select`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rlrules.data.asking import asking
from rlrules.terminal import print_table, told


def gui_select(
    config: Annotated[str, typer.Argument(help="YAML file: {judge, sources, keep, at_least, per_image, …}.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted assignments: keep=136 per_image=2")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of all files; the same one goes on.")] = Path(
        "gui_select"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only what is sound; asks nothing.")] = False,
) -> None:
    """Steps on screenshots that are sound, too hard for the untouched model, and of every kind."""
    with told():
        from collections import Counter

        from rlrules.data.gui_select import GuiSelectConfig, select, sound
        from rlrules.recipe.load import load_config

        found = load_config(config, list(overrides or ()), GuiSelectConfig)
        candidates, left_out = sound(found)
        if dry_run:
            reasons = sorted(Counter(left_out.values()).items())
            rows = {"questions": str(len(candidates))} | {f"left out: {why}": str(n) for why, n in reasons}
            print_table(f"{config}: {len(candidates) + len(left_out)} steps, nothing asked", rows)
            return
        made = asking(found.judge, lambda judge, tell: select(found, candidates, left_out, judge, out, tell))
    kinds = {f"of these: {kind}": count for kind, count in sorted(made.kinds.items())}
    print_table(f"{made.selected} steps -> {out / 'selected.jsonl'}", {**made.counts, **kinds})
    if unanswered := made.counts.get("left out: unanswered"):
        print(f"{unanswered} questions got no answer; the same command asks them again", file=sys.stderr)
