"""Human and model preferences: a data set's rows as prompt, chosen and rejected answer."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rlrules.data.preferences_base import (
    LeftOut,
    Preference,
    PreferenceConfig,
    Preferences,
    Response,
    as_turns,
    assistant,
    column_of,
    last_answer,
    located_rows,
    messages_of,
    number_of,
    parted,
    shown_first,
    simplest,
    text_of,
    user,
)
from rlrules.data.preferences_mt_bench import MTBenchHumanConfig, MTBenchPairsConfig
from rlrules.data.rows import Row
from rlrules.errors import DataError
from rlrules.types import Message

__all__ = [
    "AnyPreferenceConfig",
    "HHRLHFConfig",
    "HelpSteer2Config",
    "HelpSteer3Config",
    "JsonlPreferencesConfig",
    "LeftOut",
    "MTBenchHumanConfig",
    "MTBenchPairsConfig",
    "Preference",
    "PreferenceConfig",
    "Preferences",
    "Response",
    "UltraFeedbackConfig",
    "as_turns",
    "last_answer",
    "shown_first",
    "ultrafeedback_filter",
]

_HH_TURN = re.compile(r"\n\n(Human|Assistant):[ ]?")
_HELPSTEER_TURN = re.compile(r"\n<extra_id_1>(User|Assistant)\n")


class JsonlPreferencesConfig(PreferenceConfig):
    """Any rows with `prompt`, `chosen` and `rejected`, each text or messages; other columns as they are.

    `id` and `strength`, a number above 0, may stand beside them.
    """

    type: Literal["jsonl"] = "jsonl"

    def read(self, row: Row, number: int, where: str) -> Preference | LeftOut:
        """Turn one row into a preference."""
        prompt = messages_of(row, "prompt", where)
        if prompt[-1]["role"] != "user":
            raise DataError(f"{where}: `prompt`: ends with {prompt[-1]['role']!r}; it must end with the user's turn")
        strength = number_of(row, "strength", where) if row.get("strength") is not None else None
        if strength is not None and strength <= 0:
            raise DataError(f"{where}: `strength`: {strength:g} is not above 0; swap the answers, or leave the row out")
        named = ("id", "prompt", "chosen", "rejected", "strength")
        return Preference(
            id=str(row.get("id") or f"row-{number}"),
            source=Path(self.path).stem,
            prompt=prompt,
            chosen=_response(row, "chosen", where),
            rejected=_response(row, "rejected", where),
            strength=strength,
            meta={key: value for key, value in row.items() if key not in named},
        )


class UltraFeedbackConfig(PreferenceConfig):
    """UltraFeedback, binarized: `chosen` and `rejected` are whole conversations with a score each."""

    type: Literal["ultrafeedback"] = "ultrafeedback"
    path: str = "HuggingFaceH4/ultrafeedback_binarized"
    split: str = "train_prefs"
    filter_tokenizer: str | None = Field(
        None, description="Apply AutoRule's training filter, lengths counted in this model's tokens; null: all rows."
    )

    def read(self, row: Row, number: int, where: str) -> Preference:
        """Turn one row into a preference; its strength is the difference of the two scores."""
        chosen, rejected = _conversation(row, "chosen", where), _conversation(row, "rejected", where)
        prompt, better, worse = parted(chosen, rejected)
        if not prompt:
            raise DataError(f"{where}: `rejected`: does not begin with the same user turn as `chosen`")
        scores = {name: number_of(row, name, where) for name in ("score_chosen", "score_rejected")}
        return Preference(
            id=f"{self.split}-{number}",
            source="ultrafeedback",
            prompt=prompt,
            chosen=better,
            rejected=worse,
            strength=scores["score_chosen"] - scores["score_rejected"],
            meta=scores | {"prompt_id": row.get("prompt_id")},
        )

    def choose(self, pairs: list[Preference], dropped: Counter[str]) -> list[Preference]:
        """Apply the filter where it is asked for."""
        if self.filter_tokenizer is None:
            return pairs
        from transformers import AutoTokenizer

        from rlrules.models import resolve_model

        tokenizer = AutoTokenizer.from_pretrained(resolve_model(self.filter_tokenizer))
        kept, filtered = ultrafeedback_filter(
            pairs, lambda content: len(tokenizer.encode(content, add_special_tokens=False))
        )
        dropped.update(filtered)
        return kept


class HelpSteer2Config(PreferenceConfig):
    """HelpSteer2's preferences: strength -3 (the first response is much better) to 3; 0 is left out."""

    type: Literal["helpsteer2"] = "helpsteer2"
    path: str = "nvidia/HelpSteer2"
    split: str = Field("train", description="`train` or `validation`, as the rows' own column `split` says.")

    def rows(self) -> Iterator[tuple[str, Row]]:
        """The rows of the split."""
        there: Counter[str] = Counter()
        for where, row in self._all_rows():
            split = str(row.get("split", self.split))
            there[split] += 1
            if split == self.split:
                yield where, row
        if self.split not in there:
            raise DataError(f"data {self.path!r}: no rows of split {self.split!r} (there: {', '.join(there)})")

    def _all_rows(self) -> Iterator[tuple[str, Row]]:
        local = Path(self.path)
        if local.suffix or (local.is_dir() and not (local / "preference").is_dir()):
            yield from located_rows(self.path, "train")
            return
        # On the hub both splits lie in one file, in a folder of their own.
        yield from _hub_rows(self.path, "train", data_dir="preference")

    def read(self, row: Row, number: int, where: str) -> Preference | LeftOut:
        """Turn one row into a preference."""
        first, second = text_of(row, "response_1", where), text_of(row, "response_2", where)
        strength = _signed(row, "preference_strength", where)
        if strength == 0:
            return LeftOut("tie")
        return Preference(
            id=f"{self.split}-{number}",
            source="helpsteer2",
            prompt=_helpsteer_prompt(text_of(row, "prompt", where), where),
            chosen=first if strength < 0 else second,
            rejected=second if strength < 0 else first,
            strength=abs(strength),
            meta={"preference_strength": int(strength)},
        )


class HelpSteer3Config(PreferenceConfig):
    """HelpSteer3's preferences, by the same scale; Think-RM only evaluates on them."""

    type: Literal["helpsteer3"] = "helpsteer3"
    path: str = "nvidia/HelpSteer3"
    split: str = Field("validation", description="`train` or `validation`.")

    def rows(self) -> Iterator[tuple[str, Row]]:
        """The rows of the split."""
        local = Path(self.path)
        if local.suffix or local.is_dir():
            return located_rows(self.path, self.split)
        return _hub_rows(self.path, self.split, name="preference")

    def read(self, row: Row, number: int, where: str) -> Preference | LeftOut:
        """Turn one row into a preference."""
        first, second = text_of(row, "response1", where), text_of(row, "response2", where)
        strength = _signed(row, "overall_preference", where)
        if strength == 0:
            return LeftOut("tie")
        prompt = messages_of(row, "context", where)
        if prompt[-1]["role"] != "user":
            raise DataError(f"{where}: `context`: ends with {prompt[-1]['role']!r}; it must end with the user's turn")
        return Preference(
            id=f"{self.split}-{number}",
            source="helpsteer3",
            prompt=prompt,
            chosen=first if strength < 0 else second,
            rejected=second if strength < 0 else first,
            strength=abs(strength),
            meta={"overall_preference": int(strength), "domain": row.get("domain"), "language": row.get("language")},
        )


class HHRLHFConfig(PreferenceConfig):
    """Anthropic's HH-RLHF: two transcripts "Human: … Assistant: …" that part at the last answer."""

    type: Literal["hh_rlhf"] = "hh_rlhf"
    path: str = "Anthropic/hh-rlhf"

    def read(self, row: Row, number: int, where: str) -> Preference | LeftOut:
        """Turn one row into a preference.

        Transcripts that end with the human or share no first turn stand in the published data: left out.
        """
        chosen, rejected = (_transcript(text_of(row, name, where), name, where) for name in ("chosen", "rejected"))
        if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
            return LeftOut("unanswered")
        prompt, better, worse = parted(chosen, rejected)
        if not prompt:
            return LeftOut("different prompts")
        return Preference(f"{self.split}-{number}", "hh_rlhf", prompt, better, worse)


AnyPreferenceConfig = Annotated[
    JsonlPreferencesConfig
    | UltraFeedbackConfig
    | MTBenchHumanConfig
    | MTBenchPairsConfig
    | HelpSteer2Config
    | HelpSteer3Config
    | HHRLHFConfig,
    Field(discriminator="type"),
]


def ultrafeedback_filter(
    pairs: Iterable[Preference], count_tokens: Callable[[str], int], max_tokens: int = 512
) -> tuple[list[Preference], dict[str, int]]:
    """AutoRule's filter of UltraFeedback, the same for SFT, reward model, RL prompts and evaluation.

    Kept: prompt, chosen and rejected each shorter than `max_tokens`; a strictly better score; no "confidence" in
    either answer, in any case of letters (Wang and Xiong 2025, after Fu et al. 2025).

    Args:
        pairs: Preferences with a strength.
        count_tokens: Length of a text in the policy's tokens.
        max_tokens: A text of this length is already too long.

    Returns:
        The preferences kept, and how many fell to each condition; who fails several counts for the first.

    Raises:
        DataError: A preference has no strength.
    """
    kept: list[Preference] = []
    dropped = dict.fromkeys(("score", "confidence", "prompt_tokens", "chosen_tokens", "rejected_tokens"), 0)
    for pair in pairs:
        reason = _filtered_by(pair, count_tokens, max_tokens)
        if reason is None:
            kept.append(pair)
        else:
            dropped[reason] += 1
    return kept, dropped


def _filtered_by(pair: Preference, count_tokens: Callable[[str], int], max_tokens: int) -> str | None:
    if pair.strength is None:
        raise DataError(f"data {pair.source!r}, {pair.id}: has no scores; the UltraFeedback filter compares them")
    if not pair.strength > 0:
        return "score"
    chosen, rejected = _plain(as_turns(pair.chosen)), _plain(as_turns(pair.rejected))
    if "confidence" in chosen.casefold() or "confidence" in rejected.casefold():
        return "confidence"
    # Counting tokens costs far more than the conditions above, so it comes last.
    texts = {"prompt_tokens": _plain(pair.prompt), "chosen_tokens": chosen, "rejected_tokens": rejected}
    return next((reason for reason, content in texts.items() if count_tokens(content) >= max_tokens), None)


def _plain(turns: tuple[Message, ...]) -> str:
    return "\n".join(str(message["content"]) for message in turns)


def _response(row: Row, name: str, where: str) -> Response:
    if isinstance(column_of(row, name, where), str):
        return text_of(row, name, where)
    turns = messages_of(row, name, where)
    if turns[-1]["role"] != "assistant":
        raise DataError(f"{where}: `{name}`: ends with {turns[-1]['role']!r}; it must end with the assistant's turn")
    return simplest(turns)


def _conversation(row: Row, name: str, where: str) -> tuple[Message, ...]:
    if isinstance(column_of(row, name, where), str):
        raise DataError(f"{where}: `{name}`: expected a list of messages, got text")
    turns = messages_of(row, name, where)
    if turns[-1]["role"] != "assistant":
        raise DataError(f"{where}: `{name}`: ends with {turns[-1]['role']!r}; it must end with the assistant's turn")
    return turns


def _hub_rows(path: str, split: str, **where: str) -> Iterator[tuple[str, Row]]:
    import datasets

    try:
        found = datasets.load_dataset(path, split=split, **where)
    except Exception as error:
        told = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise DataError(f"data {path!r}, split {split!r} of {', '.join(where.values())}: {told}") from error
    for number, row in enumerate(found, 1):
        yield f"{path}, row {number}", row


def _signed(row: Row, name: str, where: str) -> float:
    """A strength from -3, the first response is much better, to 3."""
    strength = number_of(row, name, where)
    if strength not in range(-3, 4):
        raise DataError(f"{where}: `{name}`: expected a whole number from -3 to 3, got {strength:g}")
    return strength


def _helpsteer_prompt(prompt: str, where: str) -> tuple[Message, ...]:
    # Alternates text and role: the first text is the user's.
    parts = ["User", *_HELPSTEER_TURN.split(prompt)]
    turns = [
        user(said) if role == "User" else assistant(said) for role, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    if turns[-1]["role"] != "user":
        raise DataError(f"{where}: `prompt`: ends with the assistant's turn; it must end with the user's")
    return tuple(turns)


def _transcript(transcript: str, name: str, where: str) -> tuple[Message, ...]:
    before, *parts = _HH_TURN.split(transcript)
    if before.strip() or not parts or parts[0] != "Human":
        raise DataError(f'{where}: `{name}`: expected a transcript that begins with "\\n\\nHuman:"')
    return tuple(
        user(said) if role == "Human" else assistant(said) for role, said in zip(parts[::2], parts[1::2], strict=True)
    )
