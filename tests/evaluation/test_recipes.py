"""Every evaluation recipe loads, and the door opens."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from rlrules.evaluation.benchmarks import BENCHMARKS
from rlrules.recipe.load import load_config
from tests.evaluation.shared import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "recipes/eval").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_load(path: Path) -> None:
    model = BENCHMARKS[path.stem.removesuffix("_cpu").replace("_", "-")].config()
    assert isinstance(load_config(path, (), model), model)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_a_run(name: str) -> None:
    benchmark = BENCHMARKS[name]
    run = benchmark.work()
    parameters = list(inspect.signature(run).parameters)
    assert parameters == ["config", "judge", "model", "folder", "tell"] and benchmark.headline


def test_the_door_lists_every_benchmark() -> None:
    told = subprocess.run(
        [sys.executable, "scripts/evaluate.py", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    names = (
        "alpaca mt-bench reward-bench rm-bench preference ifeval ifbench arena-hard gui jigsaw rules calibrate compare"
    )
    for name in names.split():
        assert f" {name} " in told
    code = (
        "import sys, rlrules.evaluation.cli, rlrules.evaluation.alpaca_run, rlrules.evaluation.reward_run, "
        "rlrules.evaluation.mt_bench_run, rlrules.evaluation.calibration, rlrules.evaluation.compare; "
        "found = {'torch', 'trl', 'transformers', 'datasets', 'sklearn'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
