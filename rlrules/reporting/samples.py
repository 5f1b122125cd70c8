"""A run's completions: counted, and a few groups of them picked and made fit to be shown."""

import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlrules.reporting.run_data import finite, mapping, parsed_line, read_lines, unreadable_notice
from rlrules.reporting.text import Text, number, shorten

GROUPS_PER_STEP = 2
REASONS = 8
# What a page can carry: all texts together, and the part of one.
ALL_TEXTS, ONE_TEXT = 400_000, 6_000
MOST_IN_GROUP = 32

Mark = Literal["yes", "part", "no", "na", "missing"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a completion lacks a score."""

    step: int
    reward: str
    reason: str


@dataclass(frozen=True, slots=True)
class Chip:
    """A rule's verdict on a completion; `told` is what the judge said."""

    rule: str
    mark: Mark
    told: str


@dataclass(frozen=True, slots=True)
class Component:
    """What one reward says of a completion."""

    name: str
    value: float | None
    reason: str
    chips: tuple[Chip, ...]
    details: Text | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion; `place` is its number in the group."""

    place: int
    text: Text
    reward: float | None
    advantage: float | None
    tokens: float | None
    truncated: bool
    components: tuple[Component, ...]


@dataclass(frozen=True, slots=True)
class SampleGroup:
    """A prompt, as (role, text) turns, and its completions, best first; `left_out` is how many are not shown."""

    step: int
    mode: str
    turns: tuple[tuple[str, Text], ...]
    samples: tuple[Sample, ...]
    left_out: int


@dataclass(slots=True)
class CompletionLog:
    """What completions.jsonl says.

    Attributes:
        counts: Completions by mode ("train", "eval").
        rewarded: Those of the training that have a reward.
        groups: A few groups, by step.
        reasons: The last reasons for missing scores, latest first.
        notices: What a reader of them must know.
    """

    counts: Counter[str] = field(default_factory=Counter)
    rewarded: int = 0
    groups: list[SampleGroup] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def has_verdicts(self) -> bool:
        """Whether a shown completion has verdicts on rules."""
        samples = (sample for group in self.groups for sample in group.samples)
        return any(component.chips for sample in samples for component in sample.components)


def read_completions(path: Path) -> CompletionLog:
    """Read the log in one pass that keeps only where groups lie: it may be larger than memory."""
    log = CompletionLog()
    places: dict[str, dict[int, list[list[int]]]] = {}
    reasons: deque[Reason] = deque(maxlen=REASONS)
    unreadable: list[int] = []
    previous: object = None
    current: list[int] = []
    for count, offset, line in read_lines(path):
        step = finite(line.get("step")) if line is not None else None
        if line is None or step is None:
            unreadable.append(count)
            continue
        mode = str(line.get("mode", "train"))
        log.counts[mode] += 1
        log.rewarded += mode == "train" and finite(line.get("reward")) is not None
        reasons.extend(_missing(line, int(step)))
        groups = places.setdefault(mode, {}).setdefault(int(step), [])
        # A group's lines stand together; the prompt tells apart two rollouts within one step.
        key = (mode, step, line.get("group"), line.get("prompt"))
        if key == previous:
            current.append(offset)
            continue
        previous, current = key, [offset]
        if len(groups) < GROUPS_PER_STEP:
            groups.append(current)
    log.reasons = list(reversed(reasons))
    log.notices = [unreadable_notice(path.name, unreadable)] if unreadable else []
    log.groups = _groups(path, places.get("train") or next(iter(places.values()), {}))
    return log


def _missing(line: Mapping[str, Any], step: int) -> list[Reason]:
    reasons = mapping(line.get("reasons"))
    missing = [name for name, value in mapping(line.get("scores")).items() if value is None]
    return [Reason(step, shorten(name, 80), shorten(reasons.get(name, ""), 400)) for name in missing]


def _groups(path: Path, places: Mapping[int, Sequence[Sequence[int]]]) -> list[SampleGroup]:
    steps = sorted(places)
    chosen = [steps[at] for at in sorted({0, len(steps) // 2, len(steps) - 1})] if steps else []
    wanted = [(step, offsets) for step in chosen for offsets in places[step]]
    if not wanted:
        return []
    shown = sum(min(len(offsets), MOST_IN_GROUP) for _, offsets in wanted)
    limit = min(ONE_TEXT, ALL_TEXTS // max(1, shown))
    groups = []
    with path.open("rb") as file:
        for step, offsets in wanted:
            lines = []
            for offset in offsets:
                file.seek(offset)
                lines.append(parsed_line(file.readline()) or {})
            groups.append(_group(step, lines, limit))
    return groups


def _group(step: int, lines: Sequence[Mapping[str, Any]], limit: int) -> SampleGroup:
    samples = [_sample(place, line, limit) for place, line in enumerate(lines, 1)]
    samples.sort(key=lambda sample: (sample.reward is None, -(sample.reward or 0.0)))
    left_out = max(0, len(samples) - MOST_IN_GROUP)
    if left_out:
        samples = samples[: MOST_IN_GROUP // 2] + samples[-MOST_IN_GROUP // 2 :]
    mode = shorten(lines[0].get("mode", "train"), 20)
    return SampleGroup(step, mode, _turns(lines[0].get("prompt", "")), tuple(samples), left_out)


def _turns(prompt: Any) -> tuple[tuple[str, Text], ...]:
    messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    limit = max(500, 3 * ONE_TEXT // max(1, len(messages)))
    # A conversation of hundreds of turns: its beginning and its end.
    kept = messages if len(messages) <= 24 else [*messages[:12], *messages[-12:]]
    return tuple((shorten(mapping(message).get("role", "?"), 20), Text.of(_said(message), limit)) for message in kept)


def _said(message: Any) -> str:
    content = message.get("content", "") if isinstance(message, Mapping) else message
    if not isinstance(content, list):
        return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    parts = [mapping(part) for part in content]
    return "\n".join(str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]" for part in parts)


def _sample(place: int, line: Mapping[str, Any], limit: int) -> Sample:
    reasons, details = mapping(line.get("reasons")), mapping(line.get("details"))
    components = [
        _component(name, value, reasons.get(name, ""), mapping(details.get(name)), limit)
        for name, value in mapping(line.get("scores")).items()
    ]
    return Sample(
        place,
        Text.of(line.get("completion", ""), limit),
        finite(line.get("reward")),
        finite(line.get("advantage")),
        finite(line.get("tokens")),
        line.get("truncated") is True,
        tuple(components),
    )


def _component(name: str, value: Any, reason: Any, details: Mapping[str, Any], limit: int) -> Component:
    rules = mapping(details.get("rules"))
    verdicts = mapping(details.get("verdicts")) if rules else {}
    rest = {key: detail for key, detail in details.items() if not rules or key not in ("rules", "verdicts")}
    return Component(
        shorten(name, 80),
        finite(value),
        shorten(reason, 400),
        tuple(_chip(rule, said, verdicts.get(rule)) for rule, said in rules.items()),
        Text.of(_dumped(rest), min(limit, 2_000)) if rest else None,
    )


def _dumped(details: Mapping[str, Any]) -> str:
    try:
        return json.dumps(details, ensure_ascii=False, indent=1)
    except RecursionError:
        return "nested too deeply to be shown"


def _chip(rule: str, said: Any, verdict: Any) -> Chip:
    fields = mapping(verdict)
    value = finite(said)
    if value is None:
        mark: Mark = "na" if "label" in fields or not fields else "missing"
    else:
        mark = "yes" if value >= 0.99 else "no" if value <= 0.01 else "part"
    told = [str(fields[key]) for key in ("label", "outcome", "reason", "raw") if fields.get(key)]
    probability = finite(fields.get("p"))
    told += [] if probability is None else [f"p {number(probability)}"]
    # A soft rule counts the probability of Yes, whichever verdict it stands beside.
    told += [f"counts {number(value)}"] if mark == "part" else []
    return Chip(shorten(rule, 60), mark, shorten(" · ".join(told), 200) or "no verdict in the log")
