"""Measure what docs/benchmarks.md reports: python scripts/benchmark.py NAME.

Machines are shared and noisy, so every figure is a ratio of runs that took turns, with its spread.
"""

import typer

from rlrules.environment import prepare_environment

prepare_environment()

from benchmarks.comparisons import comparisons  # noqa: E402
from benchmarks.constraint_speed import constraint_speed  # noqa: E402
from benchmarks.evaluation import evaluation  # noqa: E402
from benchmarks.jigsaw import jigsaw  # noqa: E402
from benchmarks.judging import judging  # noqa: E402
from benchmarks.learning import learning  # noqa: E402
from benchmarks.light_if import light_if  # noqa: E402
from benchmarks.overhead import overhead  # noqa: E402
from benchmarks.overlap import overlap  # noqa: E402
from benchmarks.pairs import pairs  # noqa: E402
from benchmarks.rollouts import rollouts  # noqa: E402
from benchmarks.sampling import sampling  # noqa: E402
from benchmarks.scoring_speed import speed  # noqa: E402
from benchmarks.serving import serving  # noqa: E402
from benchmarks.shorter import shorter  # noqa: E402
from benchmarks.tea_step import tea_step  # noqa: E402
from benchmarks.trust import trust  # noqa: E402
from benchmarks.verdicts import verdicts  # noqa: E402

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
COMMANDS = (
    verdicts,
    overhead,
    overlap,
    learning,
    pairs,
    comparisons,
    shorter,
    evaluation,
    judging,
    jigsaw,
    sampling,
    serving,
    speed,
    light_if,
    tea_step,
    constraint_speed,
    trust,
    rollouts,
)
for command in COMMANDS:
    app.command()(command)

if __name__ == "__main__":
    app()
