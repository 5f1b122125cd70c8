"""Measure what docs/benchmarks.md reports: python scripts/benchmark.py NAME.

Machines are shared and noisy, so every figure is a ratio of runs that took turns, with its spread.
"""

import typer

from rlrules.environment import prepare_environment

prepare_environment()

from benchmarks.comparisons import comparisons  # noqa: E402
from benchmarks.evaluation import evaluation  # noqa: E402
from benchmarks.judging import judging  # noqa: E402
from benchmarks.learning import learning  # noqa: E402
from benchmarks.overhead import overhead  # noqa: E402
from benchmarks.pairs import pairs  # noqa: E402
from benchmarks.serving import serving  # noqa: E402
from benchmarks.shorter import shorter  # noqa: E402
from benchmarks.verdicts import verdicts  # noqa: E402

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
for command in (verdicts, overhead, learning, pairs, comparisons, shorter, evaluation, judging, serving):
    app.command()(command)

if __name__ == "__main__":
    app()
