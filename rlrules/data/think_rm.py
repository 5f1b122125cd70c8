"""Warm-up data of a judge that thinks: a reasoner's thoughts that lead to the right verdict (Think-RM, section 1)."""

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlrules.data.comparisons import Comparison, comparisons_of
from rlrules.data.conversations import Conversation, Conversations
from rlrules.data.preferences import AnyPreferenceConfig, Preferences
from rlrules.data.stage_log import Line, StageLog, Tell, content_sha, each, judge_sha, silent, write_atomically
from rlrules.data.tokens import conversation_rows
from rlrules.errors import JudgeError
from rlrules.judges import AnyJudgeConfig, Judge, JudgeFailure, Question
from rlrules.judges.compare import LABEL_TOKENS
from rlrules.judges.comparison import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    LABELS,
    OPENING,
    UNCLOSED,
    Kind,
    label_behind_tag,
    read_comparison,
)
from rlrules.judges.verdict import THINK_CLOSE, THINK_OPEN, Verdict, read_verdict, thought_and_answer
from rlrules.types import Message

Choice = Literal["longest", "shortest", "random"]
Outcome = Literal["correct", "wrong", "unparsed", "truncated", "no_thought", "marked", "failed"]


class ThinkRmConfig(BaseModel):
    """One warm-up set."""

    model_config = ConfigDict(extra="forbid")

    judge: AnyJudgeConfig = Field(description="The reasoner whose thoughts are sampled, at its temperature.")
    tokenizer: str = Field(description="Model to be trained: lengths are counted in its tokens, with its template.")
    data: AnyPreferenceConfig
    verdict: Kind = Field("binary", description="A or B; or -3 to 3, which must be right exactly.")
    samples: int = Field(10, ge=1, description="Thoughts sampled for one preference.")
    choose: Literal["longest", "shortest", "random"] = Field(
        "longest", description="Which of the correct ones to keep."
    )
    seed: int = Field(0, description="Of the order in which two replies are shown, and of random choices.")
    max_length: int = Field(16384, ge=1, description="Longer rows, prompt and target, are left out, never cut.")
    force: bool = Field(False, description="Close a thought that comes to no verdict, and decode one behind it.")

    @model_validator(mode="after")
    def _samples_differ(self) -> "ThinkRmConfig":
        if self.samples > 1 and self.judge.temperature == 0:
            raise ValueError("samples: at judge.temperature 0 all are the same; raise it (0.6), or set samples: 1")
        return self


class Trajectory(Line):
    """A line of trajectories.jsonl: one sample.

    Attributes:
        id: The preference's.
        draw: Which sample of it, from 0.
        outcome: "correct", "wrong"; "unparsed" and "truncated" as of verdicts; "no_thought"; "marked": the thought
            holds think tags or control tokens; "failed": the judge gave no answer, another run asks again.
        label: The right verdict.
        verdict: The one given; empty where there is none.
        thought: The reasoner's, without its tags.
        tokens: The thought's.
        forced: Whether the verdict was decoded behind a thought that came to none.
        problem: Why there is no verdict.
    """

    id: str
    draw: int
    outcome: Outcome
    label: str
    verdict: str = ""
    thought: str = ""
    tokens: int = 0
    forced: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ThinkRmData:
    """What was written.

    Attributes:
        accepted: Rows to imitate.
        counts: Everything that came in, and what became of it.
    """

    accepted: int
    counts: Mapping[str, int]


async def build_think_rm(
    config: ThinkRmConfig, preferences: Preferences, judge: Judge, tokenizer: Any, folder: Path, tell: Tell = silent
) -> ThinkRmData:
    """Sample what is missing in trajectories.jsonl, then write accepted.jsonl and skipped.jsonl.

    Args:
        config: The warm-up set.
        preferences: What `config.data` loads.
        judge: The reasoner.
        tokenizer: Of `config.tokenizer`.
        folder: Where the files go.
        tell: Told of progress.

    Raises:
        DataError: The folder's trajectories are of another configuration.
        JudgeError: The judge answered nothing.
    """
    comparisons, left_out, _ = comparisons_of(preferences, config.verdict, config.seed)
    sha = _sha(config, comparisons)
    log = StageLog(folder / "trajectories.jsonl", Trajectory, sha)
    done = {(line.id, line.draw) for line in log.lines if line.outcome != "failed"}
    sampler = _Sampler(judge, config, tokenizer, sha)

    async def work(item: tuple[Comparison, int]) -> None:
        log.append([await sampler.sample(*item)])

    wanted = [(one, draw) for one in comparisons for draw in range(config.samples)]
    await each("samples", [item for item in wanted if (item[0].id, item[1]) not in done], work, tell)
    latest = {(line.id, line.draw): line for line in log.lines}
    samples = {one.id: [latest[one.id, draw] for draw in range(config.samples)] for one in comparisons}
    failed = [line for lines in samples.values() for line in lines if line.outcome == "failed"]
    if failed and len(failed) == len(wanted):
        raise JudgeError(f"none of {len(failed)} questions was answered; the first: {failed[0].problem}")
    accepted, skipped = _chosen(config, comparisons, samples, tokenizer)
    skipped = [{"id": id_, "reason": reason} for id_, reason in left_out.items()] + skipped
    for name, rows in (("accepted", accepted), ("skipped", skipped)):
        write_atomically(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return ThinkRmData(len(accepted), _counts(preferences, samples, accepted, skipped))


def target(thought: str, label: str) -> str:
    """What a judge is trained to write: its thought, then its verdict."""
    return f"{_closed(thought)}{ANSWER_OPEN}{label}{ANSWER_CLOSE}"


def _closed(thought: str) -> str:
    # Stripped: a blank line after the opening tag could become one token with its line break.
    return f"{THINK_OPEN}\n{thought.strip()}\n{THINK_CLOSE}\n\n"


class _Sampler:
    def __init__(self, judge: Judge, config: ThinkRmConfig, tokenizer: Any, sha: str) -> None:
        self._judge = judge
        self._config = config
        self._tokenizer = tokenizer
        self._sha = sha
        tokens = tokenizer.added_tokens_decoder.items()
        self._special = {number for number, token in tokens if token.special}

    async def sample(self, one: Comparison, draw: int) -> Trajectory:
        """Ask for one thought and verdict."""
        known = Trajectory(config_sha=self._sha, id=one.id, draw=draw, outcome="failed", label=one.label)
        question = Question(one.messages, one.template, draw=draw)
        try:
            answer = await self._judge.ask(question)
            thought, said = thought_and_answer(answer)
            verdict = read_comparison(answer, self._config.verdict)
            forced = not verdict.label and self._config.force
            if forced:
                # All that a model wrote which does not know of thoughts is one.
                thought = thought or said
                verdict = await self._forced(question, thought)
        except JudgeFailure as failure:
            return known.model_copy(update={"problem": f"judge {self._judge.name}: {failure}"})
        ids: list[int] = self._tokenizer(thought, add_special_tokens=False)["input_ids"]
        found = {
            "outcome": self._outcome(thought, ids, verdict, one.label),
            "verdict": verdict.label,
            "thought": thought,
            "tokens": len(ids),
            "forced": forced,
            "problem": verdict.reason,
        }
        return known.model_copy(update=found)

    def _outcome(self, thought: str, ids: Sequence[int], verdict: Verdict, label: str) -> str:
        if not verdict.label:
            return verdict.outcome
        if not thought:
            return "no_thought"
        if THINK_OPEN in thought or THINK_CLOSE in thought or self._special & set(ids):
            return "marked"
        return "correct" if verdict.label == label else "wrong"

    async def _forced(self, question: Question, thought: str) -> Verdict:
        turn: Message = {"role": "assistant", "content": _closed(thought) + UNCLOSED}
        labels = LABELS[self._config.verdict]
        asked = replace(
            question,
            messages=(*question.messages, turn),
            labels=tuple(OPENING + label for label in labels),
            max_tokens=LABEL_TOKENS,
        )
        answer = await self._judge.ask(asked)
        return read_verdict(replace(answer, text=label_behind_tag(answer.text)), labels)


def _sha(config: ThinkRmConfig, comparisons: Iterable[Comparison]) -> str:
    asked = [[one.id, one.label, one.template, one.messages] for one in comparisons]
    return content_sha(judge_sha(config.judge), config.tokenizer, config.verdict, config.force, asked)


def _chosen(
    config: ThinkRmConfig,
    comparisons: Sequence[Comparison],
    samples: Mapping[str, Sequence[Trajectory]],
    tokenizer: Any,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows for accepted.jsonl and skipped.jsonl, in the comparisons' order."""
    picked = {one.id: choose(samples[one.id], config.choose, config.seed) for one in comparisons}
    targets = [
        Conversation(one.id, one.messages, target(best.thought, one.label))
        for one in comparisons
        if (best := picked[one.id]) is not None
    ]
    rows = conversation_rows(tokenizer, Conversations(targets, {}), None).rows if targets else []
    tokens = {made.where: len(row["input_ids"]) for made, row in zip(targets, rows, strict=True)}
    accepted: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    for one in comparisons:
        best, outcomes = picked[one.id], Counter(line.outcome for line in samples[one.id])
        if best is None or tokens[one.id] > config.max_length:
            reason = _reason(outcomes) if best is None else "too long"
            told = {"id": one.id, "reason": reason, "samples": config.samples, "outcomes": dict(outcomes)}
            skipped.append(told | ({} if best is None else {"tokens": tokens[one.id]}))
            continue
        accepted.append(
            {
                "id": one.id,
                "prompt": list(one.messages),
                "completion": target(best.thought, one.label),
                "label": one.label,
                "samples": config.samples,
                "correct": outcomes["correct"],
                "lengths": [line.tokens for line in samples[one.id]],
                "chosen": best.draw,
                "tokens": tokens[one.id],
            }
        )
    return accepted, skipped


def choose(lines: Sequence[Trajectory], how: Choice, seed: int) -> Trajectory | None:
    """The correct sample to keep, the first of equals; None where none is correct."""
    correct = [line for line in lines if line.outcome == "correct"]
    if not correct:
        return None
    if how == "random":
        return random.Random(f"{seed}:{correct[0].id}").choice(correct)
    return (max if how == "longest" else min)(correct, key=lambda line: line.tokens)


def _reason(outcomes: Counter[Outcome]) -> str:
    # What the judge did not answer may still have been right.
    if outcomes["failed"]:
        return "unanswered"
    return "none correct" if outcomes["wrong"] else "no verdict"


def _counts(
    preferences: Preferences,
    samples: Mapping[str, Sequence[Trajectory]],
    accepted: Sequence[Mapping[str, Any]],
    skipped: Sequence[Mapping[str, Any]],
) -> dict[str, int]:
    lines = [line for found in samples.values() for line in found]
    outcomes, reasons = Counter(line.outcome for line in lines), Counter(row["reason"] for row in skipped)
    return {
        "rows": preferences.read,
        **{f"rows_dropped: {reason}": count for reason, count in preferences.dropped.items()},
        "preferences": len(preferences),
        "samples": len(lines),
        **{f"samples_{outcome}": count for outcome, count in sorted(outcomes.items())},
        "samples_forced": sum(line.forced for line in lines),
        "accepted": len(accepted),
        **{f"skipped: {reason}": count for reason, count in sorted(reasons.items())},
    }
