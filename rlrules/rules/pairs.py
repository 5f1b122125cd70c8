"""Stage 0: preferences as pairs of answers A and B, in a seeded order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from rlrules.data.preferences import Preference, Response, shown_first
from rlrules.data.stage_log import write_atomically
from rlrules.errors import DataError
from rlrules.rules.config import PairsConfig
from rlrules.types import Message


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers as they are shown, the first as assistant A's and the second as assistant B's.

    Attributes:
        pair_id: The preference's id and the winner's place: "ID:1" or "ID:2".
        source: Name of the data set.
        prompt: What both answers reply to.
        first: Assistant A's answer.
        second: Assistant B's answer.
        winner: 1 or 2.
        order_seed: Seed of the order.
        question_id: The question's number in a benchmark, where it has one.
        turn: The turn that was judged, where the source says.
    """

    pair_id: str
    source: str
    prompt: tuple[Message, ...]
    first: Response
    second: Response
    winner: Literal[1, 2]
    order_seed: int
    question_id: int | None = None
    turn: int | None = None

    @property
    def letter(self) -> str:
        """The winner's name in prompts: "A" or "B"."""
        return "AB"[self.winner - 1]

    @property
    def order(self) -> str:
        """Whose answer comes first: "chosen_first" or "rejected_first"."""
        return "chosen_first" if self.winner == 1 else "rejected_first"


class _PairLine(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    pair_id: str
    source: str
    question_id: int | None
    turn: int | None
    prompt: tuple[Mapping[str, Any], ...]
    first: str | tuple[Mapping[str, Any], ...]
    second: str | tuple[Mapping[str, Any], ...]
    winner: int
    order_seed: int


def build_pairs(preferences: Iterable[Preference], config: PairsConfig) -> tuple[Pair, ...]:
    """Show each preference in one order, or in both; in the random one half show the winner first."""
    pairs: list[Pair] = []
    for number, preference in enumerate(preferences):
        winners: dict[str, tuple[Literal[1, 2], ...]] = {
            "random": (1,) if shown_first(number, config.seed) else (2,),
            "both": (1, 2),
            "chosen_first": (1,),
        }
        pairs += [_pair(preference, winner, config.seed) for winner in winners[config.order]]
    return tuple(pairs)


def save_pairs(path: Path, pairs: Sequence[Pair]) -> str:
    """Write pairs.jsonl, a line a pair.

    Returns:
        What was written.

    Raises:
        DataError: The file is there with other pairs, to which the other files of its folder belong.
    """
    lines = (_PairLine.model_validate(pair).model_dump_json(exclude_none=True) for pair in pairs)
    content = "".join(f"{line}\n" for line in lines)
    if path.exists() and path.read_text("utf-8") != content:
        raise DataError(
            f"{path}: holds pairs of other data, another limit or another order; choose another output folder "
            "(answers already paid for come from the judge's cache)"
        )
    write_atomically(path, content)
    return content


def _pair(preference: Preference, winner: Literal[1, 2], seed: int) -> Pair:
    answers = (preference.chosen, preference.rejected)
    first, second = answers if winner == 1 else answers[::-1]
    return Pair(
        pair_id=f"{preference.id}:{winner}",
        source=preference.source,
        prompt=preference.prompt,
        first=first,
        second=second,
        winner=winner,
        order_seed=seed,
        question_id=preference.meta.get("question_id"),
        turn=preference.meta.get("turn"),
    )
