"""Rules in natural language, verified by a judge (AutoRule, Wang and Xiong 2025, section 3).

One call a rule and completion, its verdict one constrained token; or, in joint mode, one call for several rules.
What all calls of a completion share comes first in the prompt and one call goes ahead of the others, so that the
server reads the conversation once.
"""

import asyncio
import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from rlrules.judges import Judge, JudgeFailure, Question
from rlrules.judges.fit import ask_fitting
from rlrules.judges.templates import conversation, fenced, render
from rlrules.judges.verdict import Verdict, after_thought, ask_verdict, parse_label
from rlrules.rewards.base import Context, PointwiseScorer, Resources, ScorerConfig, judge_of
from rlrules.rewards.rule_set import Rule, load_rules
from rlrules.types import Completion, Message, Score

YES, NO, IRRELEVANT = "Yes", "No", "Irrelevant"


class RulesConfig(ScorerConfig):
    """The value is scale * (mean - offset), `mean` the weighted share of rules that the answer satisfies."""

    type: Literal["rules"] = "rules"
    judge: str = Field(description="The recipe's judge that verifies.")
    rules: str = Field(description="Rules file: {rules: [{id, text, weight?}]}.")
    mode: Literal["per_rule", "joint"] = Field("per_rule", description="A call per rule, or one for several.")
    rules_per_call: int = Field(10, ge=1, description="Rules in one call of joint mode.")
    na: Literal["satisfied", "excluded"] = Field(
        "satisfied", description="A rule that does not apply counts as satisfied, or not at all."
    )
    require_concise: bool = Field(False, description="A rule is satisfied only by an answer that is also concise.")
    soft: bool = Field(False, description="Count the probability of Yes instead of the verdict.")
    scale: float = 1.0
    offset: float = 0.0

    @model_validator(mode="after")
    def _soft_needs_single_tokens(self) -> "RulesConfig":
        if self.soft and self.mode == "joint":
            raise ValueError("soft: true needs mode: per_rule, whose verdicts have probabilities")
        return self

    def judge_names(self) -> tuple[str, ...]:
        """The verifier."""
        return (self.judge,)

    def calls_per_completion(self) -> float:
        """One per rule, or one per `rules_per_call` rules."""
        count = len(load_rules(self.rules))
        return count if self.mode == "per_rule" else math.ceil(count / self.rules_per_call)

    def build(self, resources: Resources) -> "RulesScorer":
        """Make the scorer."""
        return RulesScorer(self, load_rules(self.rules), judge_of(resources, self.judge))


class RulesScorer(PointwiseScorer):
    """Verifies every rule on every completion.

    A missing verdict leaves the completion unscored: a mean over the other rules would be another reward.

    Args:
        config: The recipe's section.
        rules: K rules.
        judge: Who verifies.
    """

    def __init__(self, config: RulesConfig, rules: Sequence[Rule], judge: Judge) -> None:
        self._config = config
        self._rules = tuple(rules)
        self._judge = judge

    async def score_one(self, context: Context, completion: Completion) -> Score:
        """Verify all K rules on one completion."""
        verify = self._one_by_one if self._config.mode == "per_rule" else self._joint
        answer = after_thought(completion.text)
        verdicts, shown = await verify(context.prompt, answer)
        return self._score(verdicts, cut=shown != answer)

    def _score(self, verdicts: Mapping[str, Verdict], cut: bool) -> Score:
        values = {rule.id: self._value(verdicts[rule.id]) for rule in self._rules}
        details = {"rules": values, "verdicts": {key: _short(verdict) for key, verdict in verdicts.items()}}
        failed = [f"{key}: {verdict.reason}" for key, verdict in verdicts.items() if verdict.outcome != "value"]
        counts = dict.fromkeys(("unparsed", "truncated", "failed"), 0.0)
        for verdict in verdicts.values():
            if verdict.outcome != "value":
                counts[verdict.outcome] += 1 / len(verdicts)
        metrics = {f"verdicts_{outcome}": share for outcome, share in counts.items()} | {"answer_cut": float(cut)}
        if failed:
            reason = f"{len(failed)} of {len(verdicts)} verdicts missing; {failed[0]}"
            return Score(None, "unscored", reason, metrics, details)
        applying = [(rule.weight, values[rule.id]) for rule in self._rules]
        counted = [(weight, value) for weight, value in applying if value is not None]
        weight = sum(weight for weight, _ in counted)
        # Where no rule applies, or only rules of no weight, none is broken.
        mean = sum(w * value for w, value in counted) / weight if weight else 1.0
        metrics |= {"satisfied": mean, "applicable": len(counted) / len(values)}
        metrics |= {f"rule/{key}": value for key, value in values.items() if value is not None}
        return Score(self._config.scale * (mean - self._config.offset), metrics=metrics, details=details)

    def _value(self, verdict: Verdict) -> float | None:
        if verdict.outcome != "value" or verdict.label == IRRELEVANT:
            return None
        if not self._config.soft:
            return float(verdict.label == YES)
        yes, no = verdict.probabilities[YES], verdict.probabilities[NO]
        # Neither may have any: all of it on the third word, while the label that was written is one of these two.
        return yes / (yes + no) if yes + no else float(verdict.label == YES)

    async def _one_by_one(self, prompt: tuple[Message, ...], answer: str) -> tuple[dict[str, Verdict], str]:
        shared = {"conversation": conversation(prompt), **self._wording()}

        async def ask(rule: Rule, text: str) -> Verdict:
            content, version = render("rules", answer=fenced(text), rule=rule.text, **shared)
            messages: tuple[Message, ...] = ({"role": "user", "content": content},)
            return await ask_verdict(self._judge, Question(messages, version, labels=self._labels))

        async def verdict(rule: Rule, text: str) -> tuple[Verdict, str]:
            try:
                return await ask_fitting(lambda shown: ask(rule, shown), text)
            except JudgeFailure as failure:
                return Verdict("failed", reason=f"judge {self._judge.name}: {failure}"), text

        first, shown = await verdict(self._rules[0], answer)
        others = await asyncio.gather(*(verdict(rule, shown) for rule in self._rules[1:]))
        verdicts = [first, *(verdict for verdict, _ in others)]
        return {rule.id: verdict for rule, verdict in zip(self._rules, verdicts, strict=True)}, shown

    async def _joint(self, prompt: tuple[Message, ...], answer: str) -> tuple[dict[str, Verdict], str]:
        # A seeded order per answer: no rule always profits from its place, and the same answer asks the same again.
        order = random.Random(json.dumps(answer)).sample(self._rules, len(self._rules))
        size = self._config.rules_per_call
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        shared = {"conversation": conversation(prompt), **self._wording()}

        async def ask(rules: list[Rule], text: str) -> dict[str, Verdict]:
            content, version = render("rules_joint", answer=fenced(text), rules=rules, **shared)
            schema = {
                "type": "object",
                "properties": {rule.id: {"enum": list(self._labels)} for rule in rules},
                "required": [rule.id for rule in rules],
                "additionalProperties": False,
            }
            question = Question(({"role": "user", "content": content},), version, schema=schema)
            reply = await self._judge.ask(question)
            return _read_joint(reply.text, reply.finish_reason, rules, self._labels)

        async def verdicts(rules: list[Rule], text: str) -> tuple[dict[str, Verdict], str]:
            try:
                return await ask_fitting(lambda shown: ask(rules, shown), text)
            except JudgeFailure as failure:
                reason = f"judge {self._judge.name}: {failure}"
                return {rule.id: Verdict("failed", reason=reason) for rule in rules}, text

        first, shown = await verdicts(chunks[0], answer)
        others = await asyncio.gather(*(verdicts(chunk, shown) for chunk in chunks[1:]))
        found = {key: verdict for part in (first, *(part for part, _ in others)) for key, verdict in part.items()}
        return {rule.id: found[rule.id] for rule in self._rules}, shown

    def _wording(self) -> dict[str, bool]:
        return {"irrelevant": self._config.na == "excluded", "require_concise": self._config.require_concise}

    @property
    def _labels(self) -> tuple[str, ...]:
        return (YES, NO, IRRELEVANT) if self._config.na == "excluded" else (YES, NO)


def _read_joint(text: str, finish: str, rules: Sequence[Rule], labels: Sequence[str]) -> dict[str, Verdict]:
    try:
        said = json.loads(after_thought(text))
        said = said if isinstance(said, dict) else {}
    except ValueError:
        said = {}
    verdicts: dict[str, Verdict] = {}
    for rule in rules:
        label = parse_label(str(said.get(rule.id, "")), labels)
        if label is not None:
            verdicts[rule.id] = Verdict("value", label, {x: float(x == label) for x in labels}, text)
        elif finish == "length":
            verdicts[rule.id] = Verdict("truncated", raw=text, reason="the judge was cut off; raise its max_tokens")
        else:
            verdicts[rule.id] = Verdict("unparsed", raw=text, reason=f"no verdict in {text[:80]!r}")
    return verdicts


def _short(verdict: Verdict) -> dict[str, object]:
    if verdict.outcome != "value":
        return {"outcome": verdict.outcome, "reason": verdict.reason, "raw": verdict.raw}
    return {"label": verdict.label, "p": round(verdict.probabilities.get(verdict.label, 1.0), 6)}
