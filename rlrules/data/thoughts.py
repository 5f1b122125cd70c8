"""`rlrules data thoughts`: a model's thoughts that lead to following all constraints (Light-IF, section 3)."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlrules.data.constraint_synthesis import whole_text
from rlrules.data.prompts import FilePromptsConfig
from rlrules.data.prompts_base import CountTokens
from rlrules.data.rows import Row
from rlrules.data.stage_log import Line, StageLog, Tell, content_sha, each, judge_sha, silent, write_atomically
from rlrules.data.thought_gates import Depth, depth
from rlrules.errors import DataError, JudgeError
from rlrules.judges import AnyJudgeConfig, Judge, JudgeFailure, Question
from rlrules.judges.templates import fenced, render
from rlrules.judges.verdict import after_thought
from rlrules.rewards.base import Resources
from rlrules.rewards.constraint_set import read_constraints
from rlrules.rewards.constraints import ConstraintsConfig
from rlrules.rewards.thought import joined, parts_of
from rlrules.types import Completion, Group

Outcome = Literal["accepted", "wrong", "shallow", "not fluent", "cut off", "ungraded", "failed"]
ASKED_AGAIN = ("ungraded", "failed")
_GRADE = re.compile(r"\[\[\s*(10|[1-9])\s*\]\]")


class ThoughtsConfig(BaseModel):
    """One cold-start set."""

    model_config = ConfigDict(extra="forbid")

    model: AnyJudgeConfig = Field(description="Whose thoughts are sampled, at its temperature.")
    judge: AnyJudgeConfig | None = Field(None, description="Grades how fluent an answer is; none: that is not asked.")
    tokenizer: str = Field(description="Model to be trained: lengths are counted in its tokens.")
    data: FilePromptsConfig = Field(description="Prompts with constraints, some answers to which follow all.")
    samples: int = Field(8, ge=1, description="Answers sampled for one prompt.")
    per_prompt: int = Field(1, ge=1, description="Accepted answers of one prompt that are kept: the longest thoughts.")
    min_thought: int = Field(256, ge=0, description="Fewest tokens of a thought; 0: a model that does not think.")
    max_length: int = Field(16000, ge=1, description="Training's `max_length`; a thought may take 0.9 of it.")
    preview: float = Field(0.8, ge=0, le=1, description="Share of constraints that its first half speaks of.")
    self_check: bool = Field(True, description="Its second half has to check what can be counted.")
    fluency: int = Field(6, ge=1, le=10, description="Least grade of an answer.")
    nltk_data: str | None = Field(None, description="Folder of NLTK's data, where NLTK does not find it by itself.")

    @model_validator(mode="after")
    def _samples_differ(self) -> "ThoughtsConfig":
        if self.samples > 1 and self.model.temperature == 0:
            raise ValueError("samples: at model.temperature 0 all are the same; raise it (1.0), or set samples: 1")
        return self


class Sample(Line):
    """A line of samples.jsonl: one answer and what each gate says of it.

    Attributes:
        row: The prompt's number in the data, from 0.
        draw: Which answer, from 0.
        outcome: "accepted"; "wrong": a constraint is not followed; "shallow": its thought is; "not fluent";
            "cut off": no answer behind the thought; "ungraded": no judge said how fluent, and "failed": no answer,
            which another run asks again.
        text: The answer, thought included.
        tokens: The thought's.
        followed: Each constraint's verdict.
        depth: What the gates of the thought say.
        grade: The judge's, of the answer.
        problem: Why it was not accepted.
    """

    row: int
    draw: int
    outcome: Outcome
    text: str = ""
    tokens: int = 0
    followed: dict[str, bool] = Field(default_factory=dict)
    depth: dict[str, float] = Field(default_factory=dict)
    grade: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What was written: rows to imitate, and everything that came in."""

    accepted: int
    counts: Mapping[str, int]


async def build_thoughts(
    config: ThoughtsConfig,
    rows: Sequence[Row],
    model: Judge,
    judge: Judge | None,
    count: CountTokens,
    folder: Path,
    tell: Tell = silent,
) -> Thoughts:
    """Sample what is missing in samples.jsonl, then write accepted.jsonl and rejected.jsonl.

    Args:
        config: The set.
        rows: What `config.data` loads.
        model: Whose thoughts are sampled.
        judge: Grades answers.
        count: Counts tokens as `config.tokenizer` does.
        folder: Where the files go.
        tell: Told of progress.

    Raises:
        DataError: The folder's samples are of another configuration, or a constraint cannot be checked.
        JudgeError: The model answered nothing.
    """
    sampler = _Sampler(config, model, judge, count)
    for number, row in enumerate(rows):
        sampler.refuse(row, number)
    log = StageLog(folder / "samples.jsonl", Sample, sampler.sha(rows))
    done = {(line.row, line.draw) for line in log.lines if line.outcome not in ASKED_AGAIN}

    async def work(item: tuple[int, int]) -> None:
        log.append([await sampler.sample(log.config_sha, rows[item[0]], *item)])

    wanted = [(number, draw) for number in range(len(rows)) for draw in range(config.samples)]
    await each("samples", [item for item in wanted if item not in done], work, tell)
    latest = {(line.row, line.draw): line for line in log.lines}
    lines = [latest[item] for item in wanted]
    if all(line.outcome == "failed" for line in lines):
        raise JudgeError(f"none of {len(lines)} questions was answered; the first: {lines[0].problem}")
    accepted, over = chosen(lines, config.per_prompt)
    rejected = [line for line in lines if line.outcome != "accepted"]
    files = {
        "accepted": [_accepted(rows[line.row], line) for line in accepted],
        "rejected": [_rejected(rows[line.row], line) for line in [*rejected, *over]],
    }
    for name, content in files.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        write_atomically(folder / f"{name}.jsonl", text)
    reasons = Counter(line.outcome for line in rejected)
    return Thoughts(
        len(accepted),
        {
            "prompts": len(rows),
            "samples": len(lines),
            "accepted": len(accepted),
            "accepted, not kept": len(over),
            **{f"rejected: {reason}": number for reason, number in sorted(reasons.items())},
            "prompts with a row": len({line.row for line in accepted}),
        },
    )


def chosen(lines: Sequence[Sample], most: int) -> tuple[list[Sample], list[Sample]]:
    """The accepted samples to keep and those over a prompt's bound: the longest thoughts, of equals the more fluent."""
    by_row: dict[int, list[Sample]] = defaultdict(list)
    for line in lines:
        if line.outcome == "accepted":
            by_row[line.row].append(line)
    ranked = [
        sorted(found, key=lambda line: (-line.tokens, -(line.grade or 0), line.draw)) for found in by_row.values()
    ]
    return [line for found in ranked for line in found[:most]], [line for found in ranked for line in found[most:]]


def read_grade(text: str) -> int | None:
    """The last grade between double square brackets, 1 to 10; None where there is none."""
    found = _GRADE.findall(after_thought(text))
    return int(found[-1]) if found else None


class _Sampler:
    def __init__(self, config: ThoughtsConfig, model: Judge, judge: Judge | None, count: CountTokens) -> None:
        self._config, self._model, self._judge, self._count = config, model, judge, count
        self._reward = ConstraintsConfig(nltk_data=config.nltk_data)
        self._scorer = self._reward.build(Resources())

    def refuse(self, row: Row, number: int) -> None:
        """Refuse a row whose constraints cannot be checked."""
        where = f"data {self._config.data.path!r}, row {number + 1}"
        for column in self._reward.columns():
            if row.get(column) is None:
                raise DataError(f"{where}: no column {column!r}")
        if problem := self._reward.row_problem(row):
            raise DataError(f"{where}: {problem}")

    def sha(self, rows: Sequence[Row]) -> str:
        """Hash of all that a sample depends on."""
        config = self._config
        judges = [judge_sha(one) for one in (config.model, config.judge) if one is not None]
        bounds = [config.min_thought, config.max_length, config.preview, config.self_check, config.fluency]
        return content_sha(judges, config.tokenizer, bounds, [[row["prompt"], *read_constraints(row)] for row in rows])

    async def sample(self, sha: str, row: Row, number: int, draw: int) -> Sample:
        """Ask for one answer and put it to the gates."""
        line = Sample(config_sha=sha, row=number, draw=draw, outcome="failed")
        messages = tuple(row["prompt"])
        try:
            answer = await self._model.ask(Question(messages, "thoughts", draw=draw))
        except JudgeFailure as failure:
            return line.model_copy(update={"problem": f"{self._model.name}: {failure}"})
        text = whole_text(answer)
        parts = parts_of(text)
        tokens = self._count(parts.thought)
        line = line.model_copy(update={"text": text, "tokens": tokens})
        if parts.unclosed or answer.finish_reason == "length":
            return line.model_copy(update={"outcome": "cut off", "problem": "the answer is cut off"})
        [score] = (await self._scorer.score(Group(messages, (Completion(text, 0),), row))).scores
        followed = {name: held for name, held in score.details.items() if name != "errors"}
        found = self._depth(row, parts.thought, tokens)
        line = line.model_copy(update={"followed": followed, "depth": {k: float(v) for k, v in asdict(found).items()}})
        if missed := [name for name, held in followed.items() if not held]:
            return line.model_copy(update={"outcome": "wrong", "problem": f"not followed: {', '.join(missed)}"})
        asked = ("length", "preview", *["self_check"] * self._config.self_check)
        if missed := [name for name in asked if not getattr(found, name)]:
            return line.model_copy(update={"outcome": "shallow", "problem": f"of the thought: {', '.join(missed)}"})
        return await self._graded(line, messages, parts.answer)

    def _depth(self, row: Row, thought: str, tokens: int) -> Depth:
        config = self._config
        constraints = list(zip(*read_constraints(row), strict=True))
        return depth(thought, tokens, constraints, config.min_thought, 0.9 * config.max_length, config.preview)

    async def _graded(self, line: Sample, messages: Any, answer: str) -> Sample:
        if self._judge is None:
            return line.model_copy(update={"outcome": "accepted"})
        request = "\n".join(fenced(str(message["content"])) for message in messages)
        prompt, template = render("fluency", request=request, answer=fenced(answer))
        try:
            said = await self._judge.ask(Question(({"role": "user", "content": prompt},), template))
        except JudgeFailure as failure:
            return line.model_copy(update={"outcome": "ungraded", "problem": f"{self._judge.name}: {failure}"})
        grade = read_grade(said.text)
        if grade is None:
            problem = f"{self._judge.name}: no grade in {said.text[-80:]!r}"
            return line.model_copy(update={"outcome": "ungraded", "problem": problem})
        if grade < self._config.fluency:
            problem = f"grade {grade} of at least {self._config.fluency}"
            return line.model_copy(update={"outcome": "not fluent", "grade": grade, "problem": problem})
        return line.model_copy(update={"outcome": "accepted", "grade": grade})


def _accepted(row: Row, line: Sample) -> dict[str, Any]:
    parts = parts_of(line.text)
    return {
        **_known(row, line),
        "completion": joined(parts.thought, parts.answer),
        "tokens": line.tokens,
    }


def _rejected(row: Row, line: Sample) -> dict[str, Any]:
    kept = line.outcome == "accepted"
    return {
        **_known(row, line),
        "completion": line.text,
        "tokens": line.tokens,
        "outcome": "not kept" if kept else line.outcome,
        "problem": "the prompt has longer thoughts that are kept" if kept else line.problem,
    }


def _known(row: Row, line: Sample) -> dict[str, Any]:
    named = {name: row[name] for name in ("key", "id") if name in row}
    gates = {"followed": line.followed, "depth": line.depth, "grade": line.grade}
    return {**named, "prompt": list(row["prompt"]), "draw": line.draw, **gates}
