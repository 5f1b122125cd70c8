"""`rlrules data constraints`: prompts with constraints, filtered, and split by how hard a served model finds them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlrules.data.constraint_filters import NGRAM, SPLITS, Contamination, split_of
from rlrules.data.constraints import ConstraintPromptsConfig, compose
from rlrules.data.rows import Row, read_named
from rlrules.data.stage_log import Line, StageLog, Tell, content_sha, each, judge_sha, silent, write_atomically
from rlrules.errors import DataError, JudgeError
from rlrules.judges import AnyJudgeConfig, Judge, JudgeFailure, Question
from rlrules.judges.base import Answer
from rlrules.judges.templates import fenced, render
from rlrules.judges.verdict import ask_verdict
from rlrules.rewards.base import Resources
from rlrules.rewards.constraints import ConstraintsConfig
from rlrules.rewards.thought import joined
from rlrules.types import Completion, Group, Message

UNSPLIT = "prompts"


class SynthesisConfig(BaseModel):
    """One set of prompts."""

    model_config = ConfigDict(extra="forbid")

    prompts: ConstraintPromptsConfig = Field(
        description="Seed prompts and constraints, as in `data.train` of a recipe."
    )
    decontaminate: list[str] = Field(
        default_factory=list, description="Files of benchmarks, with `prompt`: who shares a run of words is left out."
    )
    ngram: int = Field(NGRAM, ge=1, description="Words of such a run.")
    judge: AnyJudgeConfig | None = Field(None, description="Says of every prompt whether it makes sense; none: all do.")
    model: AnyJudgeConfig | None = Field(None, description="Whose answers say how hard a prompt is; none: no split.")
    samples: int = Field(8, ge=1, description="Answers sampled for one prompt.")
    threshold: float = Field(0.7, ge=0, le=1, description="Mean share of constraints followed that makes one easy.")
    nltk_data: str | None = Field(None, description="Folder of NLTK's data, where NLTK does not find it by itself.")

    @model_validator(mode="after")
    def _has_effect(self) -> "SynthesisConfig":
        if self.model is not None and self.samples > 1 and self.model.temperature == 0:
            raise ValueError("samples: at model.temperature 0 all are the same; raise it (1.0), or set samples: 1")
        if self.prompts.shuffle is not None or self.prompts.max_prompt_tokens is not None:
            raise ValueError("prompts: shuffle and max_prompt_tokens are of training; set them in the recipe")
        return self


class Judged(Line):
    """A line of judged.jsonl: whether a prompt makes sense; "failed": nobody said, another run asks again."""

    key: int
    outcome: str
    problem: str = ""


class Sampled(Line):
    """A line of answers.jsonl: one answer.

    Attributes:
        key: The prompt's.
        draw: Which answer, from 0.
        followed: Each constraint's verdict; None where there was no answer, and another run asks again.
        text: The answer, thought included.
        problem: Why there is none.
    """

    key: int
    draw: int
    followed: list[bool] | None = None
    text: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Synthesised:
    """What was written: everything that came in, and what became of it."""

    counts: Mapping[str, int]


class Synthesis:
    """Makes one set in a folder; the same folder goes on where it was left.

    Args:
        config: The set.
        folder: Where the files go.

    Raises:
        DataError: A file cannot be read, or a constraint cannot be checked here.
    """

    def __init__(self, config: SynthesisConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        source = config.prompts
        named, left_out = read_named(source.path, source.split, source.columns, source.where)
        made = compose(source, [(place, dict(row)) for place, row in named])
        self.seeds = len(named) * source.variants
        self.left_out = left_out
        self.dropped: list[Row] = list(made.dropped)
        self.rows = self._clean(made.rows)
        self._identity = content_sha(
            [[row["key"], row["prompt"], row["instruction_id_list"], row["kwargs"]] for row in self.rows]
        )
        self._reward = ConstraintsConfig(nltk_data=config.nltk_data)
        for row in self.rows:
            if problem := self._reward.row_problem(row):
                raise DataError(f"prompt {row['key']}: {problem}")

    def _clean(self, rows: Sequence[Row]) -> list[Row]:
        prompts = [prompt for path in self.config.decontaminate for prompt in _benchmark(path)]
        known = Contamination(prompts, self.config.ngram)
        kept: list[Row] = []
        for row in rows:
            if known.found(row["prompt"]) or known.found(row["seed_prompt"]):
                self.dropped.append({**row, "reason": "in a benchmark"})
            elif len(kept) == self.config.prompts.limit:
                self.dropped.append({**row, "reason": "limit"})
            else:
                kept.append(row)
        return kept

    async def judge(self, judge: Judge, tell: Tell = silent) -> None:
        """Leave out what makes no sense.

        Raises:
            JudgeError: The judge answered nothing.
        """
        assert self.config.judge is not None
        sha = content_sha(judge_sha(self.config.judge), self._identity)
        log = StageLog(self.folder / "judged.jsonl", Judged, sha)
        done = {line.key for line in log.lines if line.outcome != "failed"}

        async def work(row: Row) -> None:
            prompt, template = render("constrained_task", request=fenced(row["prompt"]))
            question = Question(({"role": "user", "content": prompt},), template, labels=("Yes", "No"))
            verdict = await ask_verdict(judge, question)
            outcome = verdict.label or ("failed" if verdict.outcome == "failed" else "unread")
            log.append([Judged(config_sha=sha, key=row["key"], outcome=outcome, problem=verdict.reason)])

        await each("judged", [row for row in self.rows if row["key"] not in done], work, tell)
        outcomes = {line.key: line.outcome for line in log.lines}
        failed = [line.problem for line in log.lines if outcomes[line.key] == line.outcome == "failed"]
        _refuse_silence(failed, len(self.rows))
        reasons = {"No": "makes no sense", "unread": "the judge's answer is no verdict", "failed": "unjudged"}
        kept: list[Row] = []
        for row in self.rows:
            if (outcome := outcomes[row["key"]]) == "Yes":
                kept.append(row)
            else:
                self.dropped.append({**row, "reason": reasons[outcome]})
        self.rows = kept

    async def sample(self, model: Judge, tell: Tell = silent) -> None:
        """Give every prompt its split; leave out those that were not answered.

        Raises:
            JudgeError: The model answered nothing.
        """
        assert self.config.model is not None
        sha = content_sha(judge_sha(self.config.model), self._identity)
        log = StageLog(self.folder / "answers.jsonl", Sampled, sha)
        done = {(line.key, line.draw) for line in log.lines if line.followed is not None}
        scorer = self._reward.build(Resources())

        async def work(item: tuple[Row, int]) -> None:
            row, draw = item
            line = Sampled(config_sha=sha, key=row["key"], draw=draw)
            messages: tuple[Message, ...] = ({"role": "user", "content": row["prompt"]},)
            try:
                text = whole_text(await model.ask(Question(messages, "constraints", draw=draw)))
            except JudgeFailure as failure:
                log.append([line.model_copy(update={"problem": f"{model.name}: {failure}"})])
                return
            [score] = (await scorer.score(Group(messages, (Completion(text, 0),), row))).scores
            followed = [bool(held) for name, held in score.details.items() if name != "errors"]
            log.append([line.model_copy(update={"followed": followed, "text": text})])

        wanted = [(row, draw) for row in self.rows for draw in range(self.config.samples)]
        await each("answers", [one for one in wanted if (one[0]["key"], one[1]) not in done], work, tell)
        latest = {(line.key, line.draw): line for line in log.lines}
        lines = [latest[row["key"], draw] for row, draw in wanted]
        _refuse_silence([line.problem for line in lines if line.followed is None], len(wanted))
        split: list[Row] = []
        for row in self.rows:
            answers = [latest[row["key"], draw].followed for draw in range(self.config.samples)]
            known = [answer for answer in answers if answer is not None]
            if len(known) < len(answers):
                self.dropped.append({**row, "reason": "unanswered"})
                continue
            split.append({**row, **_measured(known, self.config.threshold)})
        self.rows = split

    def write(self) -> Synthesised:
        """Write a file for every split, or one where there is none; what was left out; and the set's manifest."""
        names = SPLITS if self.config.model is not None else (UNSPLIT,)
        kept = {name: [row for row in self.rows if row.get("split", UNSPLIT) == name] for name in names}
        for name, rows in (*kept.items(), ("dropped", self.dropped)):
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_atomically(self.folder / f"{name}.jsonl", content)
        reasons = Counter(row["reason"] for row in self.dropped)
        counts = {
            "rows": self.seeds + self.left_out * self.config.prompts.variants,
            "left out: where": self.left_out * self.config.prompts.variants,
            **{f"left out: {reason}": count for reason, count in sorted(reasons.items())},
            **{name: len(rows) for name, rows in kept.items()},
        }
        manifest = {"config": self.config.model_dump(mode="json"), "counts": counts, **self._measured_with()}
        write_atomically(self.folder / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        return Synthesised(counts)

    def _measured_with(self) -> dict[str, Any]:
        model = self.config.model
        if model is None:
            return {}
        told = {"model": model.model, "revision": model.revision, "temperature": model.temperature}
        return {"split": {**told, "n": self.config.samples, "threshold": self.config.threshold}}


def whole_text(answer: Answer) -> str:
    """An answer with its thought where it belongs, wherever the server puts it."""
    return joined(answer.reasoning, answer.text)


def _measured(followed: Sequence[Sequence[bool]], threshold: float) -> dict[str, Any]:
    return {
        "split": split_of(followed, threshold),
        "passes": sum(all(answer) for answer in followed),
        "samples": len(followed),
        "fraction": sum(map(sum, followed)) / sum(map(len, followed)),
    }


def _benchmark(path: str) -> Iterator[str]:
    for place, row in read_named(path, "train", {}, {})[0]:
        if not isinstance(row.get("prompt"), str):
            raise DataError(f"{place}: `prompt`: expected text, got {row.get('prompt')!r:.60}")
        yield row["prompt"]


def _refuse_silence(problems: Sequence[str], asked: int) -> None:
    if problems and len(problems) >= asked:
        raise JudgeError(f"none of {len(problems)} questions was answered; the first: {problems[0]}")
