"""What AlpacaEval's numbers cost: intervals by refitting, and all metrics beside the reference's own."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import typer

MODELS = ("NullModel", "FuseChat-Gemma-2-9B-Instruct", "claude-2", "vicuna-13b-v1.5", "falcon-7b-instruct")


def evaluation(
    data: Annotated[Path, typer.Option(help="Folder with AlpacaEval's published annotations.")] = Path(
        "../shared/data/alpacaeval2"
    ),
    rounds: Annotated[int, typer.Option(help="Rounds in which the contenders take turns.")] = 3,
    reference: Annotated[
        Path | None, typer.Option(help="Where alpaca_eval is installed (pip install --target); none: not compared.")
    ] = None,
) -> None:
    """Seconds of 1,000 length-controlled resamples of 805 rows, and of all metrics against alpaca_eval's own.

    All are given one core.
    """
    from threadpoolctl import threadpool_limits

    from rlrules.evaluation.alpaca_data import annotations_of
    from rlrules.evaluation.alpaca_glm import Inputs
    from rlrules.evaluation.alpaca_inputs import read_difficulty, read_gamed
    from rlrules.evaluation.alpaca_metrics import Settings, alpaca_metrics, intervals, length_controlled
    from rlrules.evaluation.files import located

    gamed_file = data / "df_gamed_reconstructed.csv"
    rows = list(located(data / "annotations_compact_40models.parquet"))
    inputs = Inputs(read_difficulty(data / "instruction_difficulty_recovered.csv"), read_gamed(gamed_file)[0])
    seconds: dict[str, list[float]] = {}
    with threadpool_limits(1):
        for _ in range(rounds):
            for name in MODELS:
                made = annotations_of(rows, "annotations", name)
                fitted = length_controlled(made, inputs, Settings())
                for label, work in (
                    ("intervals, 1,000 refits", lambda m=made, f=fitted: intervals(m, f, Settings())),
                    ("metrics", lambda m=made: alpaca_metrics(m, inputs, Settings(resamples=0))),
                    (
                        "metrics, C by cross-validation",
                        lambda m=made: alpaca_metrics(m, inputs, Settings(cross_validate=True, resamples=0)),
                    ),
                    ("metrics and intervals", lambda m=made: alpaca_metrics(m, inputs, Settings())),
                ):
                    seconds.setdefault(label, []).append(_timed(work))
                if reference is not None:
                    seconds.setdefault("alpaca_eval", []).append(_reference(reference, gamed_file, name, rows))
    for label, times in seconds.items():
        told = f"{label}: median {statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})"
        if reference is not None and label != "alpaca_eval":
            ratios = [theirs / ours for theirs, ours in zip(seconds["alpaca_eval"], times, strict=True)]
            told += f", alpaca_eval over it: {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        print(told)


def _reference(folder: Path, gamed_file: Path, model: str, rows: list[tuple[str, dict[str, Any]]]) -> float:
    """Seconds of the reference's metrics; only its download is replaced by the local file."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    import pandas as pd
    from alpaca_eval.metrics import glm_winrate

    own = [row for _, row in rows if row["model"] == model]
    frame = pd.DataFrame(
        {
            "preference": [row["preference"] for row in own],
            "output_1": ["x" * row["len_1"] for row in own],
            "output_2": ["x" * row["len_2"] for row in own],
            "generator_1": "gpt4_1106_preview",
            "generator_2": model,
            "annotator": "weighted_alpaca_eval_gpt4_turbo",
        }
    ).rename_axis("index")
    with mock.patch.object(glm_winrate, "hf_hub_download", lambda **_: str(gamed_file)):
        return _timed(lambda: glm_winrate.get_length_controlled_winrate(frame, save_weights_dir=None))


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
