"""Train a recipe: accelerate launch scripts/train.py RECIPE [key.path=value …] [--resume auto|CHECKPOINT]."""

import os
import sys
from typing import Annotated

import typer

from rlrules.ending import without_finalization
from rlrules.environment import prepare_environment
from rlrules.errors import RlrulesError


def main(
    recipe: Annotated[str, typer.Argument(help="The recipe's YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted assignments: training.max_steps=10")] = None,
    resume: Annotated[str | None, typer.Option(help="auto, or a checkpoint's folder.")] = None,
) -> None:
    """Train a recipe."""
    prepare_environment()
    try:
        from rlrules.training.run import train

        finished = train(recipe, overrides or (), resume)
    except RlrulesError as error:
        # All ranks fail with the same error; one says it.
        if os.environ.get("RANK", "0") == "0":
            print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    if finished.signal is not None:
        raise typer.Exit(128 + finished.signal)


if __name__ == "__main__":
    with without_finalization():
        typer.run(main)
