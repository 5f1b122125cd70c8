"""One rank's batch of completions: folded into groups, scored, counted, logged."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from rlrules.errors import RlrulesError, TrainingError
from rlrules.judges import Judge
from rlrules.judges.base import Usage
from rlrules.rewards.advantages import Scale, advantages
from rlrules.rewards.ahead import Ahead
from rlrules.rewards.base import Context
from rlrules.rewards.engine import RewardEngine, ScoredGroup, summed, totals
from rlrules.training.images import IMAGES
from rlrules.training.log import RunLog
from rlrules.training.sampling import DomainSampler
from rlrules.types import Completion, Group, Progress

LogMetric = Callable[[str, float], None]
ERRORS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """What TRL hands over: B*G rows of one rank, the G rows of a group next to each other.

    Attributes:
        inputs: The data rows, one per completion.
        texts: The completions, decoded; empty before they are generated.
        ids: The completions' token ids; empty before they are generated.
        group_size: G.
        progress: Where the run is.
        mode: "train" or "eval".
        ends: Token ids that end a completion; one without any of them was truncated.
    """

    inputs: Sequence[Mapping[str, Any]]
    texts: Sequence[str]
    ids: Sequence[Sequence[int]]
    group_size: int
    progress: Progress
    mode: str
    ends: frozenset[int]

    def groups(self) -> list[Group]:
        """B groups, in order."""
        rows = zip(self.inputs, self.texts, self.ids, strict=True)
        made = iter([self.completion(text, ids) for _, text, ids in rows])
        return [
            Group(context.prompt, tuple(itertools.islice(made, size)), context.row, context.progress)
            for context, size in self.announced()
        ]

    def announced(self) -> list[tuple[Context, int]]:
        """Of each group what its completions share, and their number: what is known before they are generated."""
        contexts: list[tuple[Context, int]] = []
        for start in range(0, len(self.inputs), self.group_size):
            row = dict(self.inputs[start])
            prompt = row.pop("prompt")
            # The prompt says which images; their pixels are the processor's business.
            row.pop(IMAGES, None)
            messages = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)
            size = min(self.group_size, len(self.inputs) - start)
            contexts.append((Context(messages, row, self.progress), size))
        return contexts

    def completion(self, text: str, ids: Sequence[int]) -> Completion:
        """One completion, as scorers see it."""
        return Completion(text, len(ids), not ids or ids[-1] not in self.ends)


class BatchScorer:
    """Scores batches during training.

    All ranks call it together: what went wrong on one is known to all, and all stop together.

    Args:
        engine: The recipe's rewards.
        judges: Whose usage is logged.
        log: Where completions go; None on all ranks but the first.
        max_unscored: Share of completions without a required score past which the run stops.
        scale: How TRL scales advantages, for the log.
        sampler: What learns from the scores of training which domains to draw.
    """

    def __init__(
        self,
        engine: RewardEngine,
        judges: Mapping[str, Judge],
        log: RunLog | None,
        max_unscored: float,
        scale: Scale,
        sampler: DomainSampler | None = None,
    ) -> None:
        self._engine = engine
        self._judges = dict(judges)
        self._log = log
        self._max_unscored = max_unscored
        self._scale = scale
        self._sampler = sampler
        self._errors: deque[str] = deque(maxlen=ERRORS_SHOWN)
        self._ahead: Ahead | None = None
        self._used = self._usage()

    def begin(self, batch: Batch) -> Ahead:
        """Score a batch that is about to be generated as far as it is known, until `score` or `give_up`.

        Args:
            batch: This rank's part, without completions.
        """
        self._used = self._usage()
        self._ahead = Ahead(self._engine, batch.announced())
        return self._ahead

    def give_up(self) -> None:
        """End what `begin` began and nobody has collected; nothing, where there is no such thing."""
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None

    def score(self, batch: Batch, log_metric: LogMetric) -> list[float | None]:
        """Score one batch.

        Args:
            batch: This rank's part.
            log_metric: TRL's; averages what all ranks give under a name.

        Returns:
            A reward per completion, in order; None where there is none.

        Raises:
            TrainingError: On all ranks: scoring failed on one of them, or too much is unscored over all.
        """
        ahead, self._ahead = self._ahead, None
        before = self._usage() if ahead is None else self._used
        started = time.monotonic()
        scored: list[ScoredGroup] = []
        failure = ""
        try:
            scored = self._engine.score(batch.groups()) if ahead is None else ahead.collect(batch.groups())
        except RlrulesError as error:
            failure = str(error)
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        everywhere = self._stop_together(scored, failure)
        scored = self._engine.settle(scored, everywhere)
        if batch.mode == "train":
            self._engine.learn(everywhere)
        log_metric("time/scoring_s", time.monotonic() - started)
        if ahead is not None:
            log_metric("time/overlapped_s", ahead.overlapped_s)
            log_metric("overlap/rescored", ahead.rescored)
        _log_scores(scored, log_metric)
        if self._sampler is not None:
            _log_domains(self._sampler, scored, batch.mode, log_metric)
        for name, judge in self._judges.items():
            _log_usage(name, judge.usage.since(before[name]), log_metric)
        self._log_completions(scored, batch.mode)
        return [reward for group in scored for reward in group.outcome.rewards]

    def _usage(self) -> dict[str, Usage]:
        return {name: replace(judge.usage) for name, judge in self._judges.items()}

    def _stop_together(self, scored: Sequence[ScoredGroup], failure: str) -> tuple[float, ...]:
        """Stop on all ranks where one must; otherwise returns the batch's totals over all ranks."""
        blanked = [
            "; ".join(f"{name}: {reason}" for name, reason in group.reasons(index).items())
            for group in scored
            for index, blank in enumerate(group.blanked)
            if blank
        ]
        total = sum(len(group.blanked) for group in scored)
        told = gather_object([(failure, blanked[-ERRORS_SHOWN:], len(blanked), total, totals(scored))])
        failures = [text for text, *_ in told if text]
        if failures:
            raise TrainingError(f"scoring failed: {failures[0]}")
        self._errors.extend(text for _, texts, *_ in told for text in texts)
        share = sum(entry[2] for entry in told) / max(1, sum(entry[3] for entry in told))
        if share > self._max_unscored:
            raise TrainingError(
                f"{share:.1%} of this batch has no required score, objective.max_unscored is {self._max_unscored:.1%}; "
                f"the last errors: {' | '.join(self._errors)}"
            )
        return summed([entry[4] for entry in told])

    def _log_completions(self, scored: Sequence[ScoredGroup], mode: str) -> None:
        rank = PartialState().process_index
        groups = gather_object([_records(group, f"{rank}-{number}", mode) for number, group in enumerate(scored)])
        if self._log is None:
            return
        made = advantages([[record["reward"] for record in group] for group in groups], self._scale)
        for group, group_advantages in zip(groups, made, strict=True):
            for record, advantage in zip(group, group_advantages.tolist(), strict=True):
                record["advantage"] = advantage
            self._log.completions(group)


def _records(scored: ScoredGroup, name: str, mode: str) -> list[dict[str, Any]]:
    group, step = scored.group, scored.group.progress.step
    return [
        {
            **group.row,
            "step": step,
            "mode": mode,
            "group": f"{mode}-{step}-{name}",
            "prompt": list(group.prompt),
            "completion": completion.text,
            "tokens": completion.tokens,
            "truncated": completion.truncated,
            **scored.record(index),
        }
        for index, completion in enumerate(group.completions)
    ]


def _log_scores(groups: Sequence[ScoredGroup], log_metric: LogMetric) -> None:
    for group in groups:
        for name, scored in group.scored.items():
            for score in scored.scores:
                if score.value is not None:
                    log_metric(f"rewards/{name}/value", score.value)
                log_metric(f"rewards/{name}/unscored", float(score.status == "unscored"))
                log_metric(f"rewards/{name}/malformed", float(score.status == "malformed"))
                for key, value in score.metrics.items():
                    log_metric(f"rewards/{name}/{key}", value)
            for key, value in scored.metrics.items():
                log_metric(f"rewards/{name}/{key}", value)
        for key, value in group.outcome.metrics.items():
            log_metric(f"objective/{key}", value)
        for blank in group.blanked:
            log_metric("unscored", float(blank))


def _log_domains(sampler: DomainSampler, scored: Sequence[ScoredGroup], mode: str, log_metric: LogMetric) -> None:
    """Let the sampler learn from training; of held-out prompts their mean by domain is logged alone."""
    signals = sampler.signals(scored)
    if mode == "train":
        for name, value in sampler.learn(gather_object(signals)).items():
            log_metric(name, value)
        return
    for signal in signals:
        log_metric(f"domains/{signal.domain}/reward", signal.value)
        log_metric(f"domains/{signal.domain}/malformed", float(signal.malformed))


def _log_usage(name: str, used: Usage, log_metric: LogMetric) -> None:
    answered = used.asked - used.cached - used.failed
    log_metric(f"judge/{name}/calls", used.asked)
    log_metric(f"judge/{name}/cache_hit_rate", used.cached / used.asked if used.asked else 0.0)
    log_metric(f"judge/{name}/failed", used.failed)
    log_metric(f"judge/{name}/retried", used.retried)
    log_metric(f"judge/{name}/latency_s", used.seconds / answered if answered else 0.0)
    log_metric(f"judge/{name}/prompt_tokens", used.prompt_tokens)
    log_metric(f"judge/{name}/completion_tokens", used.completion_tokens)
