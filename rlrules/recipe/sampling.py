"""How often each domain of the data is drawn: a recipe's `sampling` section, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from trl import GRPOConfig

Problem = tuple[str, str]
"""A field of the section, and what is wrong with it."""


class SamplingConfig(BaseModel):
    """Fields that every way of sampling has."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    column: str = Field("domain", description="Column of the data that names a row's domain.")
    min_per_domain: int | None = Field(
        None, ge=0, description="Prompts of each domain in a rollout; null: 1 where there is room for all, else 0."
    )

    def minimum(self, domains: int, prompts: int) -> int:
        """Prompts that each of `domains` domains gets of a rollout's `prompts`."""
        if self.min_per_domain is not None:
            return self.min_per_domain
        return int(prompts >= domains)

    def problems(self, domains: Sequence[str]) -> list[Problem]:
        """What is wrong with the section for these domains."""
        return []


class UniformConfig(SamplingConfig):
    """All domains are drawn equally often."""

    type: Literal["uniform"] = "uniform"


class ProportionalConfig(SamplingConfig):
    """Domains are drawn by how many rows they have."""

    type: Literal["proportional"] = "proportional"


class CurriculumConfig(SamplingConfig):
    """Domains are opened one after the other, from easy to hard; those that are open are drawn equally often."""

    type: Literal["curriculum"] = "curriculum"
    order: list[str] | None = Field(
        None, description="All domains, the easiest first; null: by the column's values, numbers in ascending order."
    )
    open_by: float = Field(0.5, gt=0, le=1, description="Share of the run's steps after which all domains are open.")

    def problems(self, domains: Sequence[str]) -> list[Problem]:
        """A line where the order is not one of these domains."""
        if self.order is None or sorted(self.order) == sorted(domains):
            return []
        return [("order", f"must name each domain of the data once: {', '.join(domains)}")]


class DomainAwareConfig(SamplingConfig):
    """Domains are drawn the more often, the further their smoothed mean reward is from 1 (arXiv 2506.08672, Alg. 1)."""

    type: Literal["domain_aware"] = "domain_aware"
    signal: str = Field(description="The reward whose mean, from 0 to 1, says how well a domain is solved.")
    alpha: float = Field(0.5, ge=0, lt=1, description="Weight of the past in a domain's smoothed mean.")
    temperature: float = Field(0.5, gt=0, description="The lower, the more the unsolved domains are preferred.")
    epsilon: float = Field(0.1, ge=0, description="Added to each exponential: evens the weights out.")
    max_weight: float | None = Field(
        None, gt=0, le=1, description="Bound of a domain's share, so that one that cannot be learned does not take all."
    )

    def problems(self, domains: Sequence[str]) -> list[Problem]:
        """A line where so many domains cannot all stay under the bound."""
        if self.max_weight is None or self.max_weight * len(domains) >= 1:
            return []
        return [("max_weight", f"{self.max_weight:g} for each of {len(domains)} domains makes less than a whole batch")]


AnySamplingConfig = Annotated[
    UniformConfig | ProportionalConfig | CurriculumConfig | DomainAwareConfig, Field(discriminator="type")
]


class _Places(Protocol):
    def problem(self, path: tuple[str | int, ...], message: str) -> str: ...


def domains_of(rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    """All domains of the data as text, in order: numbers by size, others by name."""
    values = {row[column] for row in rows}
    numeric = all(isinstance(value, (int, float)) for value in values)
    return list(dict.fromkeys(str(value) for value in sorted(values, key=None if numeric else str)))


def sampling_problems(
    loaded: _Places, config: SamplingConfig, arguments: "GRPOConfig | None", rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What is wrong with sampling these rows, a line each.

    Args:
        loaded: Makes the lines.
        config: The section.
        arguments: TRL's; None where they cannot be made.
        rows: The prompts to train on.
    """
    column = config.column
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get(column), (str, int, float)):
            there = f"has a {type(row[column]).__name__} in" if row.get(column) is not None else "lacks"
            message = f"row {number} of data.train {there} the column {column!r} (there: {', '.join(sorted(row))})"
            return [loaded.problem(("sampling", "column"), message)]
    domains = domains_of(rows, column)
    problems = [loaded.problem(("sampling", field), message) for field, message in config.problems(domains)]
    if arguments is not None and not arguments.shuffle_dataset:
        message = "has no effect with `sampling`, which shuffles each domain; remove it"
        problems.append(loaded.problem(("training", "shuffle_dataset"), message))
    if arguments is not None:
        prompts = (arguments.generation_batch_size or 1) // arguments.num_generations
        least = config.minimum(len(domains), prompts) * len(domains)
        if least > prompts:
            message = f"{config.min_per_domain} of each of {len(domains)} domains make {least} prompts"
            message += f", but a rollout has {prompts}; lower it or enlarge the rollout"
            problems.append(loaded.problem(("sampling", "min_per_domain"), message))
    return problems
