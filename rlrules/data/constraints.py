"""Prompts with verifiable constraints: seed prompts, and constraints that go together behind them (Light-IF)."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator

from rlrules.data.constraint_conflicts import contradiction
from rlrules.data.constraint_families import FAMILIES, POOLS, SHOWN, Family
from rlrules.data.prompts_base import CountTokens, Prompts, PromptsConfig, prepared
from rlrules.data.rows import Row, read_named
from rlrules.errors import DataError
from rlrules.rewards.constraint_set import checker_of, description

# Sets of kinds drawn for one prompt before it is given up.
_TRIES = 100
_REPEAT = "combination:repeat_prompt"
Kinds = Mapping[str, Mapping[str, Sequence[Any]]]


class ConstraintPromptsConfig(PromptsConfig):
    """Seed prompts, each with constraints put behind it; the columns are IFEval's.

    The same seed, prompts and kinds give the same rows; what a prompt gets does not depend on the others.
    """

    type: Literal["constraints"] = "constraints"
    path: str = Field("data/prompts.jsonl", description="Rows with a `prompt`, a text: file, folder, or hub id.")
    split: str = "train"
    columns: dict[str, str] = Field(default_factory=dict, description="Our name -> the data's: {prompt: instruction}.")
    where: dict[str, str | int | bool] = Field(default_factory=dict, description="Keep rows with these values.")
    kinds: dict[str, dict[str, list[Any]]] | None = Field(
        None, description="Ids of constraints, with values for their parameters where not the usual ones."
    )
    per_prompt: int = Field(2, ge=1, description="Constraints of a prompt.")
    variants: int = Field(1, ge=1, description="Prompts made of one seed prompt.")
    seed: int = Field(0, description="Of what is drawn.")
    language: Literal["en", "zh"] = Field("en", description="Of the seed prompts; which kinds there are by default.")

    @field_validator("kinds", mode="before")
    @classmethod
    def _named(cls, kinds: Any) -> Any:
        return {name: {} for name in kinds} if isinstance(kinds, list) else kinds

    def load(self, count_tokens: CountTokens) -> Prompts:
        """Read the seed prompts and put constraints behind them.

        Raises:
            DataError: The seeds cannot be had or are no texts, a kind or a value does not exist, or nothing is left.
        """
        named, left_out = read_named(self.path, self.split, self.columns, self.where)
        made = compose(self, [(place, dict(row)) for place, row in named])
        dropped = {"where": left_out, **Counter(str(one["reason"]) for one in made.dropped)}
        return prepared(self, self.path, made.rows, count_tokens, dropped)


@dataclass(frozen=True, slots=True)
class Composed:
    """Prompts with constraints.

    Attributes:
        rows: `key`, `seed_prompt`, `prompt`, `instruction_id_list`, `kwargs`, and the seed's `id` where it has one.
        dropped: What gave no row: `seed_prompt`, `variant`, `reason`.
    """

    rows: Sequence[Row]
    dropped: Sequence[Row]


def compose(config: ConstraintPromptsConfig, seeds: Sequence[tuple[str, Row]]) -> Composed:
    """Put constraints behind every seed prompt, `variants` times; rows and dropped ones together are all of them.

    Args:
        config: What to draw.
        seeds: Each prompt's place, for messages, and row.

    Raises:
        DataError: A seed is no text, or a kind or a value does not exist.
    """
    kinds = kinds_of(config)
    rows: list[Row] = []
    dropped: list[Row] = []
    seen: set[str] = set()
    for place, row in seeds:
        if not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
            raise DataError(f"{place}: `prompt`: expected text, got {row.get('prompt')!r:.60}")
        for variant in range(config.variants):
            rng = random.Random(f"{config.seed}\0{variant}\0{row['prompt']}")
            drawn = _drawn(rng, kinds, config.per_prompt, row["prompt"])
            made = None if drawn is None else _row(rng, row, drawn, len(rows) + len(dropped))
            reason = "no constraints go together" if made is None else "made before" if _identity(made) in seen else ""
            if made is None or reason:
                dropped.append({"seed_prompt": row["prompt"], "variant": variant, "reason": reason})
                continue
            seen.add(_identity(made))
            rows.append(made)
    return Composed(rows, dropped)


def kinds_of(config: ConstraintPromptsConfig) -> Kinds:
    """The kinds to draw from, with the values that their parameters may have where not the usual ones.

    Raises:
        DataError: One does not exist, or has no such parameter.
    """
    kinds: Kinds = config.kinds or {name: {} for name, one in FAMILIES.items() if one.language == config.language}
    for name, given in kinds.items():
        if empty := [key for key, values in given.items() if not values]:
            raise DataError(f"kinds: {name}: {empty[0]!r} has no values")
        try:
            for arguments in _extremes(name, given):
                checker_of(name, arguments)
        except DataError as error:
            raise DataError(f"kinds: {str(error).partition(': ')[2]}") from error
    if config.per_prompt > len(kinds):
        raise DataError(f"per_prompt: {config.per_prompt} constraints of {len(kinds)} kinds")
    return kinds


def _family(name: str) -> Family:
    return FAMILIES.get(name, Family(()))


def _extremes(name: str, given: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Arguments that hold every value of every parameter at least once."""
    family = _family(name)
    values = {**family.values, **given}
    joint = [{key: one[key] for key in one if key not in given} for one in family.joint]
    for index in range(max([len(joint), *map(len, values.values())])):
        arguments = dict(joint[index % len(joint)])
        arguments |= {key: found[index % len(found)] for key, found in values.items()}
        arguments |= {key: ["a"] * count or "a" for key, count in family.words.items() if key not in given}
        yield arguments | ({"prompt_to_repeat": "a"} if name == _REPEAT else {})


def _drawn(rng: random.Random, kinds: Kinds, count: int, prompt: str) -> list[tuple[str, dict[str, Any]]] | None:
    """Constraints that go together; None where none were found."""
    for _ in range(_TRIES):
        chosen = [(name, _arguments(rng, name, kinds[name], prompt)) for name in rng.sample(sorted(kinds), count)]
        if not contradiction(chosen):
            return chosen
    return None


def _arguments(rng: random.Random, name: str, given: Mapping[str, Sequence[Any]], prompt: str) -> dict[str, Any]:
    family = _family(name)
    together = rng.choice(family.joint)
    arguments = {key: value for key, value in together.items() if key not in given}
    arguments |= {key: rng.choice(values) for key, values in sorted({**family.values, **given}.items())}
    for key, count in sorted(family.words.items()):
        if key not in given:
            words = rng.sample(POOLS[family.language], max(count, 1))
            arguments[key] = words if count else words[0]
    if name == _REPEAT:
        arguments["prompt_to_repeat"] = prompt
    return arguments


def _row(rng: random.Random, seed: Row, drawn: Sequence[tuple[str, dict[str, Any]]], number: int) -> dict[str, Any]:
    said = [_said(rng, name, arguments) for name, arguments in drawn]
    return {
        **({"id": seed["id"]} if "id" in seed else {}),
        "key": number,
        "seed_prompt": seed["prompt"],
        "prompt": "\n".join([seed["prompt"].strip(), "", *said]),
        "instruction_id_list": [name for name, _ in drawn],
        "kwargs": [arguments for _, arguments in drawn],
    }


def _said(rng: random.Random, name: str, arguments: Mapping[str, Any]) -> str:
    texts = _family(name).texts
    if not texts:
        return description(name, arguments)
    return rng.choice(texts).format(**{key: _shown(key, value) for key, value in arguments.items()})


def _shown(key: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return " and ".join(filter(None, [", ".join(map(str, value[:-1])), str(value[-1])]))
    return SHOWN.get(key, {}).get(value, str(value))


def _identity(row: Row) -> str:
    """A row's seed prompt and constraints, however they are spaced, cased and ordered."""
    told = sorted(
        f"{name} {sorted(given.items())}" for name, given in zip(row["instruction_id_list"], row["kwargs"], strict=True)
    )
    return "\0".join([" ".join(row["seed_prompt"].lower().split()), *told])
