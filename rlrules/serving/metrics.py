"""What the server counts, for Prometheus, in a registry of its own."""

import re
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rlrules.judges import Judge
from rlrules.rewards.engine import ScoredGroup
from rlrules.serving.admission import Admission

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
# Reasons are sentences with URLs and numbers in them, and a label must have few values. In the order of looking.
_CAUSES = (
    ("deadline", re.compile(r"no score within|out of time")),
    ("timeout", re.compile(r"no answer within")),
    ("connection", re.compile(r"no endpoint answers|status (?:408|409|429|5\d\d)\b|Connect|Read(?:Error|Timeout)")),
    ("overflow", re.compile(r"context length|maximum model length|too long|max_length is|too many tokens", re.I)),
    ("rejected", re.compile(r"status 4\d\d\b|cannot be sent")),
    ("garbled", re.compile(r"not an answer that was asked for|no single number")),
    ("no verdict", re.compile(r"no verdict|cut off|comparisons missing|no label")),
)
CAUSES = (*(name for name, _ in _CAUSES), "other")


def cause_of(reason: str) -> str:
    """One of `CAUSES`: the class that a reason for an unscored completion belongs to."""
    return next((name for name, pattern in _CAUSES if pattern.search(reason)), "other")


class Metrics:
    """All counts of one server.

    Args:
        judges: Whose usage is told, by name.
        admission: Whose queue is told.
    """

    def __init__(self, judges: Mapping[str, Judge], admission: Admission) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("rlrules_requests", "Requests answered.", ("route", "status"), registry=self._registry)
        self._latency = Histogram(
            "rlrules_request_seconds",
            "From a request's arrival to the end of its answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._completions = Counter(
            "rlrules_completions", "Completions scored, by what came of it.", ("reward", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._unscored = Counter(
            "rlrules_unscored", "Completions that a reward left unscored.", ("reward", "reason"),
            registry=self._registry,
        )  # fmt: skip
        self._registry.register(_Live(judges, admission))
        ProcessCollector(registry=self._registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def scored(self, groups: Iterable[ScoredGroup]) -> None:
        """Count what was said of these groups."""
        for group in groups:
            for name, given in group.scored.items():
                for score in given.scores:
                    self._completions.labels(name, score.status).inc()
                    if score.value is None:
                        self._unscored.labels(name, cause_of(score.reason)).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Live(Collector):
    """What others count already, read when it is asked for."""

    def __init__(self, judges: Mapping[str, Judge], admission: Admission) -> None:
        self._judges = judges
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        """The judges' usage and the state of the queue."""
        yield GaugeMetricFamily("rlrules_in_flight", "Requests being scored.", self._admission.in_flight)
        yield GaugeMetricFamily("rlrules_queue", "Requests waiting for their turn.", self._admission.queued)
        per_judge = ("asked", "cached", "failed", "retried")
        questions = CounterMetricFamily("rlrules_judge_questions", "Questions to a judge.", labels=("judge", "what"))
        tokens = CounterMetricFamily("rlrules_judge_tokens", "Tokens read and written.", labels=("judge", "what"))
        seconds = CounterMetricFamily("rlrules_judge_seconds", "Sum of answers' latencies.", labels=("judge",))
        for name, judge in self._judges.items():
            for what in per_judge:
                questions.add_metric((name, what), getattr(judge.usage, what))
            tokens.add_metric((name, "prompt"), judge.usage.prompt_tokens)
            tokens.add_metric((name, "completion"), judge.usage.completion_tokens)
            seconds.add_metric((name,), judge.usage.seconds)
        yield from (questions, tokens, seconds)
