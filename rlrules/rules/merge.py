"""Stage 3: candidates that say the same become one rule, list by list until one list remains.

Every candidate ends as a member of exactly one rule, or dropped with a reason.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rlrules.data.stage_log import Line, StageLog, Tell, content_sha, each
from rlrules.judges import Judge, Question
from rlrules.judges.templates import fenced, render
from rlrules.rules.candidates import Candidate
from rlrules.rules.likeness import by_likeness
from rlrules.rules.merge_reply import Partition, merge_schema, read_partition
from rlrules.rules.replies import ask_json
from rlrules.rules.rule_set import normalised

# A round that merges fewer than one rule in fifty ends the recursion: it costs as much as one that merges half.
LEAST_REDUCTION = 0.02


@dataclass(frozen=True, slots=True)
class Merged:
    """A rule and the candidates it stands for.

    Attributes:
        text: The rule.
        members: Ids of its candidates, in their order.
        kept_because: Why it was not merged although its list was asked about; empty where the model chose so.
    """

    text: str
    members: tuple[str, ...]
    kept_because: str = ""


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What came of merging; members of all rules and dropped candidates together are the candidates, each once.

    Attributes:
        rules: The rules, best supported first.
        dropped: Reason by candidate id.
        counts: candidates, duplicates (of an earlier text, before asking), rounds, calls, repaired_calls,
            salvaged_calls, failed_calls (their lists stayed unmerged), unnamed (kept, because the reply forgot
            them), dropped, rules.
    """

    rules: tuple[Merged, ...]
    dropped: Mapping[str, str]
    counts: Mapping[str, int]


class MergeLine(Line):
    """A line of merges.jsonl: one call.

    Attributes:
        key: Hash of the list asked about.
        round: Its round, from 1.
        size: Rules in the list.
        status: As in `Reply`; another run asks again where it is "unanswered".
        rules: Text ("" for a single member's own) and member numbers.
        dropped: Reasons by number.
        unnamed: Numbers the reply forgot.
        raw: The reply, where it could not be read.
        problem: What was wrong with it.
    """

    key: str
    round: int
    size: int
    status: Literal["ok", "repaired", "salvaged", "failed", "unanswered"]
    rules: tuple[tuple[str, tuple[int, ...]], ...] = ()
    dropped: Mapping[int, str] = {}
    unnamed: tuple[int, ...] = ()
    raw: str | None = None
    problem: str | None = None


def merge_question(texts: Sequence[str]) -> Question:
    """What the model is asked about one list."""
    rules = "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
    content, version = render("merge", rules=fenced(rules), count=len(texts))
    return Question(({"role": "user", "content": content},), version, schema=merge_schema(len(texts)))


async def merge(
    candidates: Sequence[Candidate], judge: Judge, log: StageLog[MergeLine], chunk: int, tell: Tell
) -> MergeResult:
    """Merge candidates by recursion.

    Args:
        candidates: Statements with ids that differ.
        judge: Whom to ask.
        log: Calls that were answered before.
        chunk: Rules in one call, at most.
        tell: Told of progress.
    """
    counts: Counter[str] = Counter(candidates=len(candidates))
    dropped: dict[str, str] = {}
    rules = _united([Merged(candidate.text, (candidate.rule_id,)) for candidate in candidates])
    counts["duplicates"] = len(candidates) - len(rules)
    while len(rules) > 1:
        counts["rounds"] += 1
        lists = _lists(rules, chunk)
        answers = await _ask([[rule.text for rule in part] for part in lists], judge, log, counts["rounds"], tell)
        before = len(rules)
        merged: list[Merged] = []
        for part, answer in zip(lists, answers, strict=True):
            merged += _apply(part, answer, dropped)
            counts.update({"calls": 1, f"{answer.status}_calls": 1, "unnamed": len(answer.unnamed)})
        rules = _united(merged)
        if len(lists) == 1 or before - len(rules) < LEAST_REDUCTION * before:
            break
    rules.sort(key=lambda rule: (-len(rule.members), rule.text))
    counts["failed_calls"] += counts.pop("unanswered_calls", 0)
    counts.pop("ok_calls", None)
    names = ("duplicates", "rounds", "calls", "repaired_calls", "salvaged_calls", "failed_calls", "unnamed")
    told = {"candidates": len(candidates), **{name: counts[name] for name in names}}
    return MergeResult(tuple(rules), dropped, told | {"dropped": len(dropped), "rules": len(rules)})


async def _ask(
    lists: Sequence[Sequence[str]], judge: Judge, log: StageLog[MergeLine], number: int, tell: Tell
) -> list[MergeLine]:
    keys = [content_sha(list(texts)) for texts in lists]
    done = {line.key for line in log.lines if line.status != "unanswered"}

    async def work(key_and_texts: tuple[str, Sequence[str]]) -> None:
        key, texts = key_and_texts
        reply = await ask_json(judge, merge_question(texts), lambda text: read_partition(text, len(texts)))
        found = reply.value or Partition((), {})
        line = MergeLine(
            config_sha=log.config_sha,
            key=key,
            round=number,
            size=len(texts),
            status=reply.status,
            rules=found.rules,
            dropped=found.dropped,
            unnamed=found.unnamed,
            raw=None if reply.status in ("ok", "repaired") else reply.raw,
            problem=reply.problem or None,
        )
        log.append([line])

    todo = [(key, texts) for key, texts in zip(keys, lists, strict=True) if key not in done]
    await each(f"merge, round {number}", todo, work, tell)
    latest = {line.key: line for line in log.lines}
    return [latest[key] for key in keys]


def _lists(rules: Sequence[Merged], chunk: int) -> list[list[Merged]]:
    """Rules in lists of nearly equal size, none longer than `chunk`, like beside like."""
    count = -(-len(rules) // chunk)
    order = by_likeness([rule.text for rule in rules]) if count > 1 else list(range(len(rules)))
    bounds = [len(rules) * part // count for part in range(count + 1)]
    return [[rules[place] for place in order[start:end]] for start, end in pairwise(bounds)]


def _apply(part: Sequence[Merged], answer: MergeLine, dropped: dict[str, str]) -> list[Merged]:
    if answer.status in ("failed", "unanswered"):
        reason = f"the call about its list failed: {answer.problem}"
        return [Merged(rule.text, rule.members, reason) for rule in part]
    merged: list[Merged] = []
    for text, numbers in answer.rules:
        members = tuple(member for number in numbers for member in part[number - 1].members)
        forgotten = "the reply did not mention it" if numbers[0] in answer.unnamed else ""
        merged.append(Merged(text or part[numbers[0] - 1].text, members, forgotten))
    for number, reason in answer.dropped.items():
        dropped |= dict.fromkeys(part[number - 1].members, reason)
    return merged


def _united(rules: Sequence[Merged]) -> list[Merged]:
    """Rules of the same normalised text as one, in the order of their first."""
    groups: dict[str, list[Merged]] = {}
    for rule in rules:
        groups.setdefault(normalised(rule.text), []).append(rule)
    return [
        Merged(group[0].text, tuple(member for rule in group for member in rule.members), group[0].kept_because)
        for group in groups.values()
    ]
