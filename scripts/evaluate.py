"""Evaluate a model, a judge or a reward model: python scripts/evaluate.py alpaca RECIPE -o FOLDER."""

from rlrules.environment import prepare_environment
from rlrules.evaluation.cli import app

if __name__ == "__main__":
    prepare_environment()
    app()
