"""Scoring logged completions without training: the same engine, judges and objective as in a run."""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlrules.data.prompts import as_messages
from rlrules.data.rows import read_jsonl
from rlrules.errors import DataError, RecipeError
from rlrules.models import resolve_model
from rlrules.recipe.build import build_rewards
from rlrules.recipe.checks import objective_problems, token_counter
from rlrules.recipe.load import LoadedRecipe
from rlrules.rewards.advantages import Scale, advantages
from rlrules.rewards.engine import ScoredGroup, totals
from rlrules.types import Completion, Group, Message, Progress

# What a line says of the completion itself, or of an earlier scoring; all else are the scorers' columns.
_NOT_COLUMNS = {
    "prompt", "completion", "group", "tokens", "truncated", "scores", "reasons", "details", "reward", "advantage",
}  # fmt: skip


@dataclass(slots=True)
class _Lines:
    """The lines of one group: where they stand in the file, and what they hold."""

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
        DataError: A malformed line, with its number, or a column or count that a scorer needs and has not.
        RecipeError: The rewards cannot be made.
    """
    if problems := objective_problems(loaded):
        raise RecipeError(problems)
    rewards = build_rewards(loaded)
    lines = [line for _, line in read_jsonl(rows)]
    groups = _groups(loaded, rows)
    scored = rewards.engine.score(
        [Group(group.prompt, tuple(group.completions), group.row, progress) for group in groups]
    )
    scored = rewards.engine.settle(scored, totals(scored))
    made = advantages([group.outcome.rewards for group in scored], _scale(loaded))
    for group, result, group_advantages in zip(groups, scored, made, strict=True):
        for number, (index, advantage) in enumerate(zip(group.indices, group_advantages.tolist(), strict=True)):
            lines[index] = {**lines[index], **result.record(number), "advantage": advantage}
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    draft.replace(out)
    return _summary(len(lines), scored)


def _groups(loaded: LoadedRecipe, path: Path) -> list[_Lines]:
    groups: dict[str, _Lines] = {}
    count = _counter(loaded)
    for index, (number, line) in enumerate(read_jsonl(path)):
        where = f"{path}:{number}"
        completion = line.get("completion")
        if not isinstance(completion, str):
            raise DataError(f"{where}: `completion` is missing or no text")
        if "prompt" not in line:
            raise DataError(f"{where}: `prompt` is missing")
        prompt = tuple(as_messages(line["prompt"], where))
        row = {key: value for key, value in line.items() if key not in _NOT_COLUMNS}
        for name, reward in loaded.recipe.rewards.items():
            for column in reward.columns():
                if row.get(column) is None:
                    raise DataError(f"{where}: reward {name!r} needs the column {column!r}")
        key = json.dumps(line["group"] if line.get("group") is not None else prompt, sort_keys=True)
        group = groups.setdefault(key, _Lines(prompt, row))
        read = {column for reward in loaded.recipe.rewards.values() for column in reward.columns()}
        if group.prompt != prompt or any(group.row[column] != row[column] for column in read):
            # A group is one data row sampled several times: a second row would be scored against the first.
            raise DataError(f"{where}: group {key[:60]} has another prompt or other columns in an earlier line")
        group.indices.append(index)
        tokens = line.get("tokens")
        if tokens is not None and (not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0):
            raise DataError(f"{where}: `tokens` is {tokens!r}, not a count")
        tokens = count(completion, where) if tokens is None else tokens
        group.completions.append(Completion(completion, tokens, bool(line.get("truncated", False))))
    if not groups:
        raise DataError(f"{path} has no lines")
    return list(groups.values())


def _counter(loaded: LoadedRecipe) -> Callable[[str, str], int]:
    needing = [name for name, reward in loaded.recipe.rewards.items() if reward.needs_tokens]
    if not needing:
        return lambda text, where: 0
    count: Callable[[str], int] | None = None

    def counted(text: str, where: str) -> int:
        nonlocal count
        if count is None:
            if loaded.recipe.model is None:
                raise DataError(
                    f"{where}: reward {needing[0]!r} needs token counts: give `tokens` in each line, "
                    "or `model` in the recipe to count with"
                )
            count = token_counter(resolve_model(loaded.recipe.model.name))
        return count(text)

    return counted


def _scale(loaded: LoadedRecipe) -> Scale:
    if loaded.recipe.objective.makes_advantages:
        return "none"
    scale = loaded.recipe.training.get("scale_rewards", "group")
    named: Scale = {True: "group", False: "none"}.get(scale, scale)
    return named


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
