"""Scoring logged completions without training: the same engine, judges and objective as in a run."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlrules.data.messages import completion_text
from rlrules.data.prompts import as_messages
from rlrules.data.rows import read_jsonl
from rlrules.data.stage_log import make_place, write_atomically
from rlrules.errors import DataError, RecipeError, RlrulesError
from rlrules.recipe.arguments import scale_problems
from rlrules.recipe.checks import made_rewards
from rlrules.recipe.load import LoadedRecipe
from rlrules.recipe.scoring import TokenCounts, columns_read, group_problem, row_problem, settled
from rlrules.rewards.engine import ScoredGroup
from rlrules.types import Completion, Group, Message, Progress

# What a line says of the completion itself, or of an earlier scoring; all else are the scorers' columns.
_NOT_COLUMNS = {
    "prompt", "completion", "group", "tokens", "truncated", "scores", "reasons", "details", "reward", "advantage",
}  # fmt: skip


@dataclass(slots=True)
class _Lines:
    """The lines of one group: the place of the first, for messages; where they stand among all; what they hold."""

    first: str
    prompt: tuple[Message, ...]
    row: dict[str, Any]
    indices: list[int] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and means over a scored file.

    Attributes:
        lines: Lines in and out.
        groups: Groups they form.
        means: Mean of each reward over the lines it scored; None where it scored none.
        unscored: Lines that each reward left unscored.
        reward: Mean reward over the lines that have one, or None.
    """

    lines: int
    groups: int
    means: Mapping[str, float | None]
    unscored: Mapping[str, int]
    reward: float | None


def score_file(loaded: LoadedRecipe, rows: Path, out: Path, progress: Progress) -> Summary:
    """Score a JSONL file of completions; the output appears whole or not at all.

    Args:
        loaded: A recipe; `judges`, `rewards` and `objective` are enough.
        rows: Lines with `prompt`, `completion`, and what else the scorers read. Lines with an equal `group`, or
            without it an equal prompt, are one group.
        out: Where the same lines go, in order, with `scores`, `reasons`, `details`, `reward` and `advantage`.
        progress: What the scorers are told of the run.

    Raises:
        RecipeError: All that is wrong: the rewards cannot be made, `out` cannot be written, a line is malformed,
            or a column, a count or a group is not what a scorer needs. Nothing is asked then.
    """
    rewards, problems = made_rewards(loaded)
    problems += scale_problems(loaded)
    lines: list[dict[str, Any]] = []
    groups: list[_Lines] = []
    try:
        make_place(out)
    except DataError as error:
        problems.append(str(error))
    try:
        # Read once: it may be a pipe.
        numbered = list(read_jsonl(rows))
        lines = [line for _, line in numbered]
        groups = _groups(loaded, rows, numbered)
    except RlrulesError as error:
        problems.append(str(error))
    if problems or rewards is None:
        raise RecipeError(problems)
    scored = rewards.engine.score(
        [Group(group.prompt, tuple(group.completions), group.row, progress) for group in groups]
    )
    scored, made = settled(loaded, rewards, scored)
    for group, result, group_advantages in zip(groups, scored, made, strict=True):
        for number, (index, advantage) in enumerate(zip(group.indices, group_advantages.tolist(), strict=True)):
            lines[index] = {**lines[index], **result.record(number), "advantage": advantage}
    write_atomically(out, "".join(json.dumps(line) + "\n" for line in lines))
    return _summary(len(lines), scored)


def _groups(loaded: LoadedRecipe, path: Path, numbered: Sequence[tuple[int, dict[str, Any]]]) -> list[_Lines]:
    groups: dict[str, _Lines] = {}
    counts, read = TokenCounts(loaded.recipe), columns_read(loaded.recipe)
    for index, (number, line) in enumerate(numbered):
        where = f"{path}:{number}"
        prompt = _prompt(line, where)
        row = _row(loaded, line, where)
        key = json.dumps(line["group"] if line.get("group") is not None else prompt, sort_keys=True)
        group = groups.setdefault(key, _Lines(where, prompt, row))
        if group.prompt != prompt or any(group.row.get(column) != row.get(column) for column in read):
            # A group is one data row sampled several times: a second row would be scored against the first.
            raise DataError(f"{where}: group {key[:60]} has another prompt or other columns in an earlier line")
        group.indices.append(index)
        group.completions.append(_completion(line, where, counts))
    if not groups:
        raise DataError(f"{path} has no lines")
    for group in groups.values():
        if problem := group_problem(loaded.recipe, len(group.completions)):
            raise DataError(f"{group.first}: {problem}; the group that begins here has {len(group.completions)}")
    return list(groups.values())


def _prompt(line: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    if "prompt" not in line:
        raise DataError(f"{where}: `prompt` is missing")
    return tuple(as_messages(line["prompt"], where))


def _row(loaded: LoadedRecipe, line: Mapping[str, Any], where: str) -> dict[str, Any]:
    row = {key: value for key, value in line.items() if key not in _NOT_COLUMNS}
    if problem := row_problem(loaded.recipe, row):
        raise DataError(f"{where}: {problem[1]}")
    return row


def _completion(line: Mapping[str, Any], where: str, counts: TokenCounts) -> Completion:
    text, tokens, truncated = completion_text(line.get("completion"), where), line.get("tokens"), line.get("truncated")
    if tokens is not None and (not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0):
        raise DataError(f"{where}: `tokens` is {tokens!r}, not a count")
    if truncated is not None and not isinstance(truncated, bool):
        raise DataError(f"{where}: `truncated` is {truncated!r}, neither true nor false")
    try:
        counted = counts.of(text) if tokens is None else tokens
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    return Completion(text, counted, bool(truncated))


def _summary(lines: int, scored: Sequence[ScoredGroup]) -> Summary:
    values: dict[str, list[float]] = {}
    unscored: Counter[str] = Counter()
    rewards: list[float] = []
    for group in scored:
        rewards += [reward for reward in group.outcome.rewards if reward is not None]
        for name, answers in group.scored.items():
            values.setdefault(name, []).extend(s.value for s in answers.scores if s.value is not None)
            unscored[name] += sum(score.value is None for score in answers.scores)
    return Summary(
        lines,
        len(scored),
        {name: sum(known) / len(known) if known else None for name, known in values.items()},
        dict(unscored),
        sum(rewards) / len(rewards) if rewards else None,
    )
