"""What the page shows, made from what was read: tiles, charts, tables."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from rlrules.reporting import figures
from rlrules.reporting.run_data import Run
from rlrules.reporting.samples import CompletionLog
from rlrules.reporting.series import Series, weighted_mean
from rlrules.reporting.text import duration, natural, number, percent, shorten, signed
from rlrules.training.log import COMPLETIONS, EVALUATIONS, METRICS, RECIPE, result_folder

WIDE, NARROW, SMALL = (940, 280), (400, 240), (320, 140)
STRIP_CELLS = 60
MOST_OTHERS = 60

# What is worth a look in any run: metric, title, unit or remark.
_TRAINING = (
    ("completions/mean_length", "Completion length", "tokens"),
    ("completions/clipped_ratio", "Truncated", "share"),
    ("kl", "KL to reference", "nats"),
    ("entropy", "Entropy", "nats per token"),
    ("loss", "Loss", ""),
    ("grad_norm", "Gradient norm", ""),
    ("reward_std", "Reward spread", "SD"),
    ("frac_reward_zero_std", "Groups without spread", ""),
    ("mean_token_accuracy", "Token accuracy", "share"),
    ("accuracy", "Pairs in the right order", "share"),
    ("margin", "Lead of the better answer", "score"),
    ("step_time", "Time per step", "s"),
    ("time/scoring_s", "Waiting for scores", "s"),
    ("time/overlapped_s", "Scoring beside the rollout", "s"),
    ("learning_rate", "Learning rate", ""),
)
_JUDGE = (
    ("calls", "Questions", "per step"),
    ("cache_hit_rate", "Cache hits", "share"),
    ("latency_s", "Latency", "s"),
    ("prompt_tokens", "Prompt tokens", "per step"),
    ("completion_tokens", "Answer tokens", "per step"),
    ("failed", "Failed questions", "per step"),
    ("retried", "Retried attempts", "per step"),
)
_FILES = (
    (RECIPE, "the resolved recipe: starts the same run again"),
    (METRICS, "one line of numbers per logged step"),
    (COMPLETIONS, "every completion with its scores, verdicts and reasons"),
    ("checkpoints/", "states to continue from with --resume auto"),
    ("model/", "the trained model with its tokenizer"),
    (f"{EVALUATIONS}/", "the model's results in benchmarks, a folder with a page each"),
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A number of the header."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric's curve.

    Attributes:
        title: Whose curve it is.
        unit: Unit or remark.
        first: Mean of the first fifth.
        last: Mean of the last fifth.
        smoothed: Whether a smoothed line stands beside the logged one.
        held_out: The last value on held-out prompts, where there is any.
        svg: The drawing.
        narrow: What replaces it on a small screen, where anything does.
    """

    title: str
    unit: str
    first: float
    last: float
    smoothed: bool
    held_out: float | None
    svg: Markup
    narrow: Markup | None = None


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule's share of completions that satisfy it."""

    rule: str
    first: float
    last: float
    strip: Markup


@dataclass(frozen=True, slots=True)
class RuleTable:
    """All rules of one reward, between two steps."""

    reward: str
    first_step: int
    last_step: int
    rows: tuple[RuleRow, ...]


@dataclass(frozen=True, slots=True)
class RewardRow:
    """A reward over the run; shares of its completions that were unreadable or got no score."""

    name: str
    first: float | None
    last: float | None
    malformed: float | None
    unscored: float | None


@dataclass(frozen=True, slots=True)
class JudgeView:
    """A judge over the run."""

    name: str
    facts: tuple[Tile, ...]
    charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True)
class EvaluationTable:
    """The last result of one benchmark.

    Attributes:
        name: The evaluation's.
        step: Whose model it is of.
        failed: Whether it came to no numbers.
        page: Its page, within the run directory.
        numbers: Metric and value.
    """

    name: str
    step: int
    failed: bool
    page: str
    numbers: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """All that the template shows beside the completions."""

    tiles: tuple[Tile, ...]
    reward: Chart | None
    components: tuple[Chart, ...]
    rules: tuple[RuleTable, ...]
    rewards: tuple[RewardRow, ...]
    evaluations: tuple[EvaluationTable, ...]
    training: tuple[Chart, ...]
    others: tuple[Chart, ...]
    others_left_out: int
    judges: tuple[JudgeView, ...]
    notices: tuple[str, ...]
    files: tuple[tuple[str, str], ...]


class _Charts:
    """Draws charts of a run and knows which metrics were shown."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._keys = 0
        self.shown: set[str] = set()

    def key(self) -> str:
        """A new prefix for a figure's ids."""
        self._keys += 1
        return f"f{self._keys}"

    def draw(self, metric: str, title: str, unit: str, size: tuple[int, int], also: tuple[int, int] | None) -> Chart:
        """Draw a metric that was logged, held-out points with it."""
        series, held_out = self._run.metrics[metric], self._run.metrics.get(f"eval_{metric}")
        self.shown |= {metric, f"eval_{metric}"}
        first, last = series.fifths()
        return Chart(
            title,
            unit,
            first,
            last,
            series.is_noisy,
            None if held_out is None else float(held_out.values[-1]),
            Markup(figures.curve(series, held_out, size, self.key())),
            Markup(figures.curve(series, held_out, also, self.key())) if also else None,
        )

    def small(self, named: Iterable[tuple[str, str, str]]) -> tuple[Chart, ...]:
        """Small charts of those metrics that were logged."""
        return tuple(
            self.draw(metric, shorten(title, 60), unit, SMALL, None)
            for metric, title, unit in named
            if metric in self._run.metrics
        )


def page(run: Run, completions: CompletionLog, folder: Path) -> Page:
    """Make all of it."""
    charts = _Charts(run)
    rewards = _rewards(run)
    reward = charts.draw("reward", "Mean reward", "over the steps", WIDE, NARROW) if "reward" in run.metrics else None
    components = charts.small((f"rewards/{name}/value", name, "") for name in rewards)
    rules = _rules(run, charts)
    training = charts.small(_TRAINING)
    judges = _judges(run, charts)
    evaluations = _evaluations(run, charts)
    others = [metric for metric in run.metrics if _is_other(run, metric, charts.shown)]
    return Page(
        tiles=_tiles(run, completions, judges),
        reward=reward,
        components=components,
        rules=rules,
        rewards=tuple(_reward_row(run, name) for name in rewards),
        evaluations=evaluations,
        training=training,
        others=charts.small((metric, metric, "") for metric in others[:MOST_OTHERS]),
        others_left_out=max(0, len(others) - MOST_OTHERS),
        judges=judges,
        notices=(*run.notices, *completions.notices),
        files=tuple((name, told) for name, told in _FILES if (folder / name).exists()),
    )


def _tiles(run: Run, completions: CompletionLog, judges: Sequence[JudgeView]) -> tuple[Tile, ...]:
    tiles = [Tile("Steps", f"{run.steps:,}", f"of {run.total_steps:,}" if run.total_steps else "")]
    # Methods without rewards make no completions.
    samples = bool(run.rewards) or sum(completions.counts.values()) > 0
    if samples:
        held_out = sum(completions.counts.values()) - completions.counts["train"]
        told = f"and {held_out:,} held out" if held_out else ""
        tiles.append(Tile("Completions", f"{completions.counts['train']:,}", told))
    tiles.append(Tile("Time", duration(_seconds(run)), "of training steps"))
    for metric, label in (("reward", "Reward"), ("eval_reward", "Held-out reward"), ("loss", "Loss")):
        series = run.metrics.get(metric)
        # The loss of a policy gradient says nothing; where there is a reward, that is the number.
        if series is not None and not (metric == "loss" and "reward" in run.metrics):
            first, last = series.fifths()
            tiles.append(Tile(label, f"{number(first)} → {number(last)}", f"{signed(last - first)} over the run"))
    for part, told in (("held_out", "of the held-out pairs"), ("train", "of the training pairs")):
        series = run.metrics.get(f"scores/{part}_accuracy")
        if series is not None:
            tiles.append(Tile("Right order", percent(float(series.values[-1])), told))
    if samples:
        tiles.append(Tile("Unscored", percent(_unscored(run, completions)), "completions without a reward"))
    if judges:
        tiles.append(Tile("Cache hits", percent(_cache_hits(run)), "of the judges' questions"))
    return tuple(tiles)


def _seconds(run: Run) -> float | None:
    times = run.metrics.get("step_time")
    if times is None:
        # Only GRPO's trainer times its steps; of others the whole of each session is known, once it has ended.
        sessions = run.metrics.get("train_runtime")
        return None if sessions is None else sessions.total
    # With logging_steps over 1, a line is the mean of the steps since the line before.
    return float((times.values * np.diff(times.steps, prepend=0.0)).sum())


def _unscored(run: Run, completions: CompletionLog) -> float | None:
    if "unscored" in run.metrics:
        return run.metrics["unscored"].mean
    total = completions.counts["train"]
    return 1 - completions.rewarded / total if total else None


def _cache_hits(run: Run) -> float | None:
    calls = hits = 0.0
    for name in _judge_names(run):
        asked, rate = run.metrics.get(f"judge/{name}/calls"), run.metrics.get(f"judge/{name}/cache_hit_rate")
        share = weighted_mean(rate, asked)
        if asked is not None and share is not None:
            calls += asked.total
            hits += asked.total * share
    return hits / calls if calls else None


def _rewards(run: Run) -> list[str]:
    found = (re.fullmatch(r"rewards/(.+)/(?:value|unscored|malformed)", metric) for metric in run.metrics)
    logged = dict.fromkeys(match[1] for match in found if match)
    return [*(name for name in run.rewards if name in logged), *(name for name in logged if name not in run.rewards)]


def _reward_row(run: Run, name: str) -> RewardRow:
    value, malformed, unscored = (
        run.metrics.get(f"rewards/{name}/{part}") for part in ("value", "malformed", "unscored")
    )
    first, last = value.fifths() if value is not None else (None, None)
    return RewardRow(
        shorten(name, 80),
        first,
        last,
        None if malformed is None else malformed.mean,
        None if unscored is None else unscored.mean,
    )


def _rules(run: Run, charts: _Charts) -> tuple[RuleTable, ...]:
    by_reward: dict[str, dict[str, Series]] = {}
    for metric, series in run.metrics.items():
        match = re.fullmatch(r"rewards/(.+?)/rule/(.+)", metric)
        if match:
            charts.shown |= {metric, f"eval_{metric}"}
            by_reward.setdefault(match[1], {})[match[2]] = series
    tables: list[RuleTable] = []
    for reward, rules in by_reward.items():
        first_step = min(series.steps[0] for series in rules.values())
        last_step = max(series.steps[-1] for series in rules.values())
        rows = []
        for rule in sorted(rules, key=natural):
            cells = rules[rule].strip(first_step, last_step, STRIP_CELLS)
            drawn = Markup(figures.strip(cells, charts.key()))
            rows.append(RuleRow(shorten(rule, 80), *rules[rule].fifths(), drawn))
        tables.append(RuleTable(shorten(reward, 80), int(first_step), int(last_step), tuple(rows)))
    return tuple(tables)


def _evaluations(run: Run, charts: _Charts) -> tuple[EvaluationTable, ...]:
    found: dict[str, dict[str, Series]] = {}
    for metric, series in run.metrics.items():
        match = re.fullmatch(rf"{EVALUATIONS}/([^/]+)/(.+)", metric)
        if match:
            charts.shown.add(metric)
            found.setdefault(match[1], {})[match[2]] = series
    tables: list[EvaluationTable] = []
    for name, metrics in found.items():
        outcomes = metrics.pop("failed", None)
        step = int(max(series.steps[-1] for series in (*metrics.values(), *([outcomes] if outcomes else []))))
        failed = outcomes is not None and outcomes.values[-1] > 0
        numbers = [(shorten(key, 80), float(one.values[-1])) for key, one in metrics.items() if one.steps[-1] == step]
        page = result_folder(Path(), name, step) / "page.html"
        tables.append(EvaluationTable(shorten(name, 80), step, failed, shorten(str(page), 200), tuple(numbers)))
    return tuple(tables)


def _judge_names(run: Run) -> list[str]:
    parts = "|".join(part for part, *_ in _JUDGE)
    found = (re.fullmatch(rf"judge/(.+)/(?:{parts})", metric) for metric in run.metrics)
    return list(dict.fromkeys(match[1] for match in found if match))


def _judges(run: Run, charts: _Charts) -> tuple[JudgeView, ...]:
    views: list[JudgeView] = []
    for name in _judge_names(run):
        found = {part: run.metrics.get(f"judge/{name}/{part}") for part, *_ in _JUDGE}
        # A curve of zeros is a fact, not a picture.
        flat = {part for part in ("failed", "retried") if (one := found[part]) is not None and one.total == 0}
        charts.shown |= {f"{prefix}judge/{name}/{part}" for part in flat for prefix in ("", "eval_")}
        drawn = [(f"judge/{name}/{part}", title, unit) for part, title, unit in _JUDGE if part not in flat]
        views.append(JudgeView(shorten(name, 80), _judge_facts(found), charts.small(drawn)))
    return tuple(views)


def _judge_facts(found: dict[str, Series | None]) -> tuple[Tile, ...]:
    calls, hits, latency = found["calls"], found["cache_hit_rate"], found["latency_s"]
    # A step in which every answer came from the cache logs no latency, as 0.
    answered = None if latency is None else Series(latency.steps, (latency.values > 0).astype(float))
    mean = weighted_mean(latency, answered)
    facts = [
        Tile(label, number(series.total))
        for part, label in (
            ("calls", "questions"),
            ("failed", "failed"),
            ("retried", "retried"),
            ("prompt_tokens", "prompt tokens"),
            ("completion_tokens", "answer tokens"),
        )
        if (series := found[part]) is not None
    ]
    facts.insert(1, Tile("from the cache", percent(weighted_mean(hits, calls))))
    facts.append(Tile("mean latency", "–" if mean is None else f"{number(mean)} s"))
    return tuple(facts)


def _is_other(run: Run, metric: str, shown: set[str]) -> bool:
    # TRL logs the objective as if it were a reward function of its own; `reward` says the same.
    known = {"epoch", "rewards/objective/mean", "rewards/objective/std"}
    plain = metric.removeprefix("eval_")
    drawn_with_another = plain != metric and plain in run.metrics
    return len(run.metrics[metric]) > 1 and metric not in shown and plain not in known and not drawn_with_another
