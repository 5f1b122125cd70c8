"""IFEval and IFBench (Zhou et al. 2023; Pyatkin et al. 2025): the share of instructions that answers follow."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrules.errors import DataError
from rlrules.evaluation.files import need
from rlrules.evaluation.stats import RESAMPLES, bootstrap
from rlrules.rewards.instruction_checks import Benchmark, Checked, check

COLUMNS = ("key", "prompt", "instruction_id_list", "kwargs")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and its instructions."""

    key: str | int
    prompt: str
    instructions: tuple[str, ...]
    kwargs: tuple[Mapping[str, Any] | None, ...]
    where: str


def read_prompts(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Prompt]:
    """Read {key, prompt, instruction_id_list, kwargs}.

    Raises:
        DataError: A column is missing or malformed, or a key stands twice.
    """
    found: dict[str | int, Prompt] = {}
    for where, row in rows:
        need(row, COLUMNS, where)
        instructions, kwargs = row["instruction_id_list"], row["kwargs"]
        if not isinstance(instructions, list) or not isinstance(kwargs, list) or not isinstance(row["prompt"], str):
            raise DataError(f"{where}: expected text in `prompt`, lists in `instruction_id_list` and `kwargs`")
        _refuse_strange(row, where)
        if row["key"] in found:
            raise DataError(f"{where}: `key`: {row['key']!r} stands more than once")
        found[row["key"]] = Prompt(row["key"], row["prompt"], tuple(instructions), tuple(kwargs), where)
    if not found:
        raise DataError("no prompts")
    return list(found.values())


def check_responses(
    benchmark: Benchmark, prompts: Sequence[Prompt], responses: Sequence[str | None], reference_rng: bool = False
) -> list[list[Checked]]:
    """Check every response; a missing one is unscored."""
    return [
        [Checked(None, None, "no response")] * len(prompt.instructions)
        if response is None
        else check(benchmark, response, prompt.instructions, prompt.kwargs, prompt.prompt, prompt.where, reference_rng)
        for prompt, response in zip(prompts, responses, strict=True)
    ]


def row_of(prompt: Prompt, response: str | None, checked: Sequence[Checked]) -> dict[str, Any]:
    """What a results file says of one prompt."""
    row: dict[str, Any] = {
        "key": prompt.key,
        "prompt": prompt.prompt,
        "instruction_id_list": list(prompt.instructions),
        "response": response,
        "strict": [one.strict for one in checked],
        "loose": [one.loose for one in checked],
    }
    reasons = [one.reason for one in checked]
    return {**row, "reasons": reasons} if any(reasons) else row


def instruction_metrics(
    prompts: Sequence[Prompt],
    responses: Sequence[str | None],
    checked: Sequence[Sequence[Checked]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """The four accuracies, by group and kind, and intervals over prompts.

    A prompt counts where all of its instructions were checked, an instruction where it was.
    """
    metrics: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for name, flag in (("strict", _strict), ("loose", _loose)):
        flags = [[flag(one) for one in row] for row in checked]
        whole = [float(all(row)) if None not in row else np.nan for row in flags]
        known = [[value for value in row if value is not None] for row in flags]
        for level, found in (
            ("prompt", bootstrap(whole, resamples=resamples, seed=seed)),
            ("instruction", bootstrap([sum(r) for r in known], [len(r) for r in known], resamples, seed)),
        ):
            metrics[f"{level}_{name}"] = found.value
            intervals[f"{level}_{name}"] = found.record()
    unscored = [one.reason for row in checked for one in row if one.strict is None]
    return {
        **metrics,
        "n_prompts": sum(all(one.strict is not None for one in row) for row in checked),
        "n_instructions": sum(one.strict is not None for row in checked for one in row),
        "n_unscored": len(unscored),
        "unscored": {reason: unscored.count(reason) for reason in dict.fromkeys(unscored)},
        "empty_responses": [
            prompt.key for prompt, text in zip(prompts, responses, strict=True) if text is not None and not text.strip()
        ],
        "by_group": _table(prompts, checked, lambda name: name.partition(":")[0]),
        "by_kind": _table(prompts, checked, lambda name: name),
        "intervals": intervals if resamples else {},
    }


def _refuse_strange(row: Mapping[str, Any], where: str) -> None:
    key = row["key"]
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise DataError(f"{where}: `key`: expected text or an integer, got {key!r}")
    for name in row["instruction_id_list"]:
        if not isinstance(name, str):
            raise DataError(f"{where}: `instruction_id_list`: expected texts, got {name!r}")
    for given in row["kwargs"]:
        if given is not None and not isinstance(given, Mapping):
            raise DataError(f"{where}: `kwargs`: expected objects or null, got {given!r}")


def _strict(one: Checked) -> bool | None:
    return one.strict


def _loose(one: Checked) -> bool | None:
    return one.loose


def _table(
    prompts: Sequence[Prompt], checked: Sequence[Sequence[Checked]], part: Callable[[str], str]
) -> dict[str, dict[str, float | int]]:
    parts: dict[str, list[Checked]] = defaultdict(list)
    for prompt, row in zip(prompts, checked, strict=True):
        for name, one in zip(prompt.instructions, row, strict=True):
            if one.strict is not None:
                parts[part(name)].append(one)
    return {
        name: {
            "strict": float(np.mean([one.strict for one in ones])),
            "loose": float(np.mean([one.loose for one in ones])),
            "n": len(ones),
        }
        for name, ones in sorted(parts.items())
    }
