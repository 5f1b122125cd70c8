"""Preferences as questions to a judge: which of two replies is better, and the right verdict (Think-RM, section 2)."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from rlrules.data.preferences import AnyPreferenceConfig, Preference, shown_first
from rlrules.data.prompts_base import CountTokens, Prompts, PromptsConfig, prepared
from rlrules.data.rows import Row, read_jsonl
from rlrules.errors import DataError
from rlrules.judges.comparison import LABELS, Kind, comparison_messages
from rlrules.types import Message


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question to a judge.

    Attributes:
        id: The preference's.
        messages: The chat that asks it.
        template: Versions of its templates.
        label: The right verdict; negative: A, the reply shown first, is better.
    """

    id: str
    messages: tuple[Message, ...]
    template: str
    label: str


def comparisons_of(
    preferences: Iterable[Preference], kind: Kind, seed: int
) -> tuple[list[Comparison], dict[str, str], Counter[str]]:
    """Show the better reply of every preference as A or as B, of half of them as A.

    Args:
        preferences: The preferences, in an order of their own.
        kind: Which is better, or also by how much.
        seed: Of the order.

    Returns:
        The questions; why each preference left out was, by its id; and how many fell to each reason.
    """
    made: list[Comparison] = []
    left_out: dict[str, str] = {}
    for number, preference in enumerate(preferences):
        first = shown_first(number, seed)
        reason = _unfit(preference, kind)
        if reason:
            left_out[preference.id] = reason
            continue
        replies = (str(preference.chosen), str(preference.rejected))
        messages, template = comparison_messages(preference.prompt, *(replies if first else replies[::-1]), kind=kind)
        by = int(preference.strength or 0)
        label = ("A" if first else "B") if kind == "binary" else str(-by if first else by)
        made.append(Comparison(preference.id, messages, template, label))
    return made, left_out, Counter(left_out.values())


class ComparisonsConfig(PromptsConfig):
    """Preferences as prompts of a judge in training, with the right verdict in the column `label`."""

    type: Literal["comparisons"] = "comparisons"
    preferences: AnyPreferenceConfig
    verdict: Kind = Field("binary", description="A or B; or -3 to 3, by the preference's strength.")
    seed: int = Field(0, description="Of the order in which two replies are shown.")
    skip: str | None = Field(None, description="JSONL whose `id`s are left out: the skipped.jsonl of data think-rm.")

    def load(self, count_tokens: CountTokens) -> Prompts:
        """Read the preferences and ask about each.

        Raises:
            DataError: The data or the list to skip cannot be had, the list is of other data, or nothing is left.
        """
        found = self.preferences.load()
        made, _, dropped = comparisons_of(found, self.verdict, self.seed)
        skipped = _ids(self.skip) if self.skip is not None else set()
        kept = [one for one in made if one.id not in skipped]
        if skipped and not skipped & {pair.id for pair in found}:
            raise DataError(f"{self.skip}: none of its {len(skipped)} ids is in {self.preferences.path!r}")
        rows: list[Row] = [{"prompt": list(one.messages), "id": one.id, "label": one.label} for one in kept]
        told = {**found.dropped, **dropped, "skip": len(made) - len(kept)}
        return prepared(self, self.preferences.path, rows, count_tokens, told)


def _unfit(preference: Preference, kind: Kind) -> str:
    if not isinstance(preference.chosen, str) or not isinstance(preference.rejected, str):
        return "several turns"
    if preference.strength == 0:
        return "tie"
    if kind == "multiclass":
        if preference.strength is None:
            return "no strength"
        if f"{preference.strength:g}" not in LABELS["multiclass"]:
            return "strength not 1, 2 or 3"
    return ""


def _ids(path: str) -> set[str]:
    found: set[str] = set()
    for line, row in read_jsonl(Path(path)):
        if not isinstance(row.get("id"), str):
            raise DataError(f"{path}:{line}: `id`: expected text, got {row.get('id')!r}")
        found.add(row["id"])
    return found
