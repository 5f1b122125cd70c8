"""Asking, for every answer of every preference, whether it satisfies every rule."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlrules.data.preferences import Preference, last_answer
from rlrules.data.stage_log import Line, StageLog, Tell, each
from rlrules.judges import Judge, JudgeFailure, Question
from rlrules.judges.fit import ask_fitting
from rlrules.judges.templates import conversation, fenced, render
from rlrules.judges.verdict import Verdict, after_thought, ask_verdict
from rlrules.rewards.rule_set import Rule
from rlrules.rewards.rules import IRRELEVANT, NO, YES
from rlrules.rules.agreement import Bools, Floats
from rlrules.types import Message

Ask = Callable[[tuple[Message, ...], str, str, int], Awaitable[Verdict]]
"""Prompt messages, answer, rule text, draw (which of several independent verdicts) -> verdict: Yes, No or another."""

Side = Literal["chosen", "rejected"]
SIDES: tuple[Side, Side] = ("chosen", "rejected")


class VerdictLine(Line):
    """A line of verdicts.jsonl.

    Attributes:
        preference_id: The preference.
        side: Which of its answers.
        rule_id: The rule.
        draw: Which of several verdicts on the same question.
        outcome: As in `Verdict`; another run asks again where it is "failed".
        label: "Yes", "No" or that the rule does not apply.
        p_yes: Probability of Yes, where there is a label.
        problem: Why there is none.
    """

    preference_id: str
    side: Side
    rule_id: str
    draw: int
    outcome: Literal["value", "unparsed", "truncated", "failed"]
    label: str = ""
    p_yes: float | None = None
    problem: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What was asked."""
        return self.preference_id, self.side, self.rule_id, self.draw


@dataclass(frozen=True, slots=True)
class Verdicts:
    """All verdicts.

    Attributes:
        draws: Shape (R repeats, N preferences, 2 [chosen, rejected], K rules): 1 satisfied, 0 not, NaN otherwise.
        failed: Same shape: there is no verdict; where it is False, NaN says that the rule does not apply.
        counts: asked, yes, no, not_applicable, unparsed, truncated, failed; the first is the sum of the others.
    """

    draws: Floats
    failed: Bools
    counts: Mapping[str, int]


def judge_asker(judge: Judge, temperature: float = 0.0) -> Ask:
    """Asks as the training scorer does where rules that do not apply are excluded, so both share their answers."""

    async def ask(prompt: tuple[Message, ...], answer: str, rule: str, draw: int) -> Verdict:
        async def about(shown: str) -> Verdict:
            content, version = render(
                "rules",
                conversation=conversation(prompt),
                answer=fenced(shown),
                rule=rule,
                irrelevant=True,
                require_concise=False,
            )
            labels = (YES, NO, IRRELEVANT)
            messages: tuple[Message, ...] = ({"role": "user", "content": content},)
            return await ask_verdict(
                judge, Question(messages, version, labels=labels, temperature=temperature, draw=draw)
            )

        try:
            return (await ask_fitting(about, after_thought(answer)))[0]
        except JudgeFailure as failure:
            return Verdict("failed", reason=f"judge {judge.name}: {failure}")

    return ask


async def verify(
    preferences: Sequence[Preference],
    rules: Sequence[Rule],
    ask: Ask,
    repeats: int,
    log: StageLog[VerdictLine],
    tell: Tell,
) -> Verdicts:
    """Ask for every verdict that `log` has none of.

    Args:
        preferences: N preferences.
        rules: K rules.
        ask: Who verifies.
        repeats: R verdicts on each question.
        log: Verdicts of an earlier run.
        tell: Told of progress.
    """
    done = {line.key for line in log.lines if line.outcome != "failed"}
    # Few answers at a time: the K questions on one share its text, which a server's prefix cache then still holds.
    slots = asyncio.Semaphore(max(4, 256 // len(rules)))

    async def work(item: tuple[Preference, Side]) -> None:
        preference, side = item
        prompt, answer = last_answer(preference.prompt, preference.chosen if side == "chosen" else preference.rejected)

        async def one(rule: Rule, draw: int) -> None:
            verdict = await ask(prompt, answer, rule.text, draw)
            line = VerdictLine(
                config_sha=log.config_sha,
                preference_id=preference.id,
                side=side,
                rule_id=rule.id,
                draw=draw,
                outcome=verdict.outcome,
                label=verdict.label,
                p_yes=verdict.probabilities.get(YES),
                problem=verdict.reason,
            )
            log.append([line])

        todo = [(r, d) for r in rules for d in range(repeats) if (preference.id, side, r.id, d) not in done]
        async with slots:
            for rule, draw in todo[:1]:
                await one(rule, draw)
            await asyncio.gather(*(one(rule, draw) for rule, draw in todo[1:]))

    await each("verdicts", [(preference, side) for preference in preferences for side in SIDES], work, tell)
    return _table(preferences, rules, repeats, log)


def _table(
    preferences: Sequence[Preference], rules: Sequence[Rule], repeats: int, log: StageLog[VerdictLine]
) -> Verdicts:
    latest = {line.key: line for line in log.lines}
    draws = np.full((repeats, len(preferences), 2, len(rules)), np.nan)
    failed = np.zeros(draws.shape, bool)
    counts: Counter[str] = Counter()
    for n, preference in enumerate(preferences):
        for s, side in enumerate(SIDES):
            for k, rule in enumerate(rules):
                for draw in range(repeats):
                    line = latest[preference.id, side, rule.id, draw]
                    failed[draw, n, s, k] = line.outcome != "value"
                    if line.label in (YES, NO):
                        draws[draw, n, s, k] = float(line.label == YES)
                    counts[_kind(line)] += 1
    names = ("yes", "no", "not_applicable", "unparsed", "truncated", "failed")
    return Verdicts(draws, failed, {"asked": draws.size, **{name: counts[name] for name in names}})


def _kind(line: VerdictLine) -> str:
    if line.outcome != "value":
        return line.outcome
    return {YES: "yes", NO: "no"}.get(line.label, "not_applicable")
