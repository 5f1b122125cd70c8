"""RewardBench, RM-Bench and preference accuracy, from rows of data to numbers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrules.data.preferences import Response, as_turns
from rlrules.data.prompts import as_messages
from rlrules.data.stage_log import Tell, content_sha
from rlrules.errors import DataError
from rlrules.evaluation.config import PreferenceEvalConfig, RewardBenchConfig, RMBenchConfig, ScoringConfig
from rlrules.evaluation.files import asked_for, listed, need
from rlrules.evaluation.preference import preference_metrics
from rlrules.evaluation.results import (
    ResultRows,
    check_failures,
    open_manifest,
    usage_record,
    write_results,
)
from rlrules.evaluation.reward_bench import (
    TIES,
    TiedPrompt,
    best_of_n,
    reward_bench_2_metrics,
    reward_bench_metrics,
)
from rlrules.evaluation.rm_bench import STYLES, read_items, rm_bench_metrics
from rlrules.evaluation.scoring import (
    Item,
    order_metrics,
    outcomes,
    rate_items,
    rating_key,
    row_keys,
    score_items,
    scorer_identity,
    template_of,
)
from rlrules.judges import Judge
from rlrules.judges.templates import plain_text

Floats = NDArray[np.float64]
Metrics = dict[str, Any]

REWARD_BENCH_HUB, RM_BENCH_HUB = "allenai/reward-bench", "THU-KEG/RM-Bench"
_STYLE_PAIRS = tuple((i, len(STYLES) + j) for i in range(len(STYLES)) for j in range(len(STYLES)))


async def run_reward_bench(
    config: RewardBenchConfig, judge: Judge | None, model: Judge | None, folder: Path, tell: Tell
) -> Metrics:
    """RewardBench 1 or, where rows hold several rejected answers, 2.

    Raises:
        DataError: A row is malformed, or the folder holds another result.
        JudgeError: Too many rows have no result.
    """
    rows = asked_for(config.data, REWARD_BENCH_HUB, "filtered", "`data`")[: config.limit]
    second = any(isinstance(row.get("rejected"), list) for _, row in rows)
    items = [_reward_bench_2_item(*row) if second else _reward_bench_item(*row) for row in rows]
    subsets = [str(row.get("subset", "")) for _, row in rows]
    if second:
        return await _run_second(config, items, [row for _, row in rows], judge, folder, tell)

    def metrics(found: list[Floats]) -> Metrics:
        return reward_bench_metrics(subsets, np.concatenate(found), config.resamples, config.seed)

    return await _run("reward-bench", config, items, judge, folder, tell, metrics)


async def run_rm_bench(
    config: RMBenchConfig, judge: Judge | None, model: Judge | None, folder: Path, tell: Tell
) -> Metrics:
    """RM-Bench: nine comparisons an item.

    Raises:
        DataError: A row is malformed, or the folder holds another result.
        JudgeError: Too many rows have no result.
    """
    files: list[str | None] = [*config.data] or [None]
    rows = [row for file in files for row in asked_for(file, RM_BENCH_HUB, "train", "`data`")]
    read = read_items(rows)[: config.limit]
    items = [
        Item(item.id, tuple(as_messages(item.prompt, item.id)), (*item.chosen, *item.rejected), _STYLE_PAIRS)
        for item in read
    ]

    def metrics(found: list[Floats]) -> Metrics:
        table = np.stack(found).reshape(len(found), len(STYLES), len(STYLES))
        return rm_bench_metrics([item.domain for item in read], table, config.resamples, config.seed)

    return await _run("rm-bench", config, items, judge, folder, tell, metrics)


async def run_preference(
    config: PreferenceEvalConfig, judge: Judge | None, model: Judge | None, folder: Path, tell: Tell
) -> Metrics:
    """Accuracy on any preferences.

    Raises:
        DataError: The data is malformed, or the folder holds another result.
        JudgeError: Too many rows have no result.
    """
    preferences = config.data.load().pairs[: config.limit]
    parting = [pair.id for pair in preferences if max(len(as_turns(pair.chosen)), len(as_turns(pair.rejected))) > 1]
    if parting and config.judge is None:
        raise DataError(
            f"data {config.data.path!r}: {listed(parting, 3)}: the conversations part before their last answers, which "
            "a reward model cannot score as answers to one prompt; take a judge"
        )
    items = [Item(pair.id, pair.prompt, (_shown(pair.chosen), _shown(pair.rejected))) for pair in preferences]

    def metrics(found: list[Floats]) -> Metrics:
        groups = [str(pair.meta.get("subset", pair.source)) for pair in preferences]
        return preference_metrics(np.concatenate(found), groups, config.resamples, config.seed)

    return await _run("preference", config, items, judge, folder, tell, metrics)


async def _run(
    benchmark: str,
    config: ScoringConfig,
    items: Sequence[Item],
    judge: Judge | None,
    folder: Path,
    tell: Tell,
    metrics_of: Callable[[list[Floats]], Metrics],
) -> Metrics:
    rows = _open(benchmark, config, items, folder)
    found = await outcomes(config, items, judge, rows, tell)
    counts = check_failures(rows, row_keys(config, items), config.max_failed, "rows")
    metrics = metrics_of(found) | {"counts": counts}
    if judge is not None:
        metrics |= {"orders": order_metrics(items, rows), "usage": {"judge": usage_record(judge.usage)}}
    right = {
        item.key: [float((part == 1).sum()), float((~np.isnan(part)).sum())]
        for item, part in zip(items, found, strict=True)
        if not np.isnan(part).all()
    }
    name = "accuracy" if benchmark == "preference" else "example_weighted"
    write_results(folder, {"benchmark": benchmark, **metrics}, {name: right})
    return metrics


async def _run_second(
    config: RewardBenchConfig,
    items: Sequence[Item],
    lines: Sequence[Mapping[str, Any]],
    judge: Judge | None,
    folder: Path,
    tell: Tell,
) -> Metrics:
    rows = _open("reward-bench", config, items, folder)
    if judge is None:
        scores, keys = await score_items(config, items, rows, tell), row_keys(config, items)
    else:
        # Several answers are graded each on its own: which stands first among four would decide too much.
        scores = await rate_items(items, judge, rows, tell)
        keys = [rating_key(item, place) for item in items for place in range(len(item.answers))]
    counts = check_failures(rows, keys, config.max_failed, "rows")
    credits: dict[str, list[float]] = {}
    ties: list[TiedPrompt] = []
    units: dict[str, list[float]] = {}
    for item, line, found in zip(items, lines, scores, strict=True):
        if line["subset"] == TIES:
            ties.append(TiedPrompt(item.key, len(line["chosen"]), tuple(found.tolist())))
            continue
        known = not np.isnan(found).any()
        credit = best_of_n(found.tolist()) if known else float("nan")
        credits.setdefault(line["subset"], []).append(credit)
        if known:
            units[item.key] = [credit, 1.0]
    metrics = reward_bench_2_metrics(credits, ties, config.resamples, config.seed) | {"counts": counts}
    write_results(folder, {"benchmark": "reward-bench", **metrics}, {"example_weighted": units})
    return metrics


def _open(benchmark: str, config: ScoringConfig, items: Sequence[Item], folder: Path) -> ResultRows:
    keys = [item.key for item in items]
    twice = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
    if twice:
        raise DataError(f"{benchmark}: `id`: {twice[0]!r} stands more than once")
    if not items:
        raise DataError(f"{benchmark}: no rows")
    name = config.judge.model if config.judge is not None else config.reward_model.model if config.reward_model else ""
    identity = {
        "benchmark": benchmark,
        "name": name,
        **scorer_identity(config),
        "template": template_of(config),
        "questions": content_sha([[item.key, item.prompt, item.answers] for item in items]),
    }
    return ResultRows(folder / "rows.jsonl", open_manifest(folder, identity))


def _shown(response: Response) -> str:
    """A response as text; of one that goes on over several turns, all of them."""
    turns = as_turns(response)
    if len(turns) == 1:
        return plain_text(turns[0])
    return "\n\n".join(f"{turn['role'].capitalize()}: {plain_text(turn)}" for turn in turns)


def _reward_bench_item(where: str, row: Mapping[str, Any]) -> Item:
    need(row, ("prompt", "chosen", "rejected", "subset"), where)
    for side in ("chosen", "rejected"):
        if not isinstance(row[side], str):
            raise DataError(f"{where}: `{side}`: expected text, got {type(row[side]).__name__}")
    key = str(row.get("id", where))
    # Ids are unique within a subset.
    return Item(f"{row['subset']}:{key}", tuple(as_messages(row["prompt"], where)), (row["chosen"], row["rejected"]))


def _reward_bench_2_item(where: str, row: Mapping[str, Any]) -> Item:
    need(row, ("id", "prompt", "chosen", "rejected", "subset"), where)
    for side in ("chosen", "rejected"):
        if not isinstance(row[side], list) or not row[side] or not all(isinstance(text, str) for text in row[side]):
            raise DataError(f"{where}: `{side}`: expected texts")
    return Item(str(row["id"]), tuple(as_messages(row["prompt"], where)), (*row["chosen"], *row["rejected"]))
