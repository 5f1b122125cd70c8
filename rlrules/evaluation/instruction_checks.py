"""Instructions that a program can verify (IFEval, IFBench): an adapter over the checkers of `if-verifiable`.

What the checkers draw at random comes from a seed per instruction, and symbols that are no letters are counted as
they stand, where the reference counts a random letter instead.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from rlrules.errors import DataError
from rlrules.judges.verdict import after_thought

Benchmark = Literal["ifeval", "ifbench"]

_LETTERS = "keywords:letter_frequency"


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether a response follows one instruction; None where that cannot be told, for `reason`."""

    strict: bool | None
    loose: bool | None
    reason: str = ""


def prepare(nltk_data: Path | None) -> None:
    """Tell NLTK where its data lies, and langdetect how to draw.

    Raises:
        DataError: `if-verifiable` is not installed, or `nltk_data` does not exist.
    """
    if nltk_data is not None and not nltk_data.is_dir():
        raise DataError(f"--nltk-data: {nltk_data} is no folder")
    try:
        import langdetect
        import nltk
    except ImportError:
        raise DataError("the checkers are not installed; run: pip install 'rlrules[ifeval]'") from None
    langdetect.DetectorFactory.seed = 0
    if nltk_data is not None and str(nltk_data.absolute()) not in nltk.data.path:
        nltk.data.path.insert(0, str(nltk_data.absolute()))


def check(
    benchmark: Benchmark,
    response: str,
    instructions: Sequence[str],
    kwargs: Sequence[Mapping[str, Any] | None],
    prompt: str,
    where: str,
    reference_rng: bool = False,
) -> list[Checked]:
    """Check a response against all instructions of its prompt.

    Args:
        benchmark: Whose checkers.
        response: The model's answer; its thought is cut off. An empty answer follows nothing.
        instructions: Ids.
        kwargs: What each instruction says; None entries mean "not given".
        prompt: The prompt, which some instructions repeat.
        where: The row's place, for messages.
        reference_rng: Draw a letter where a symbol is to be counted, as the reference does, from a fixed seed.

    Raises:
        DataError: An instruction is unknown, or its kwargs do not fit it.
    """
    if len(instructions) != len(kwargs):
        raise DataError(f"{where}: `kwargs`: {len(kwargs)} entries for {len(instructions)} instructions")
    answer = after_thought(response)
    known = _registry(benchmark, reference_rng)
    found: list[Checked] = []
    for number, (name, given) in enumerate(zip(instructions, kwargs, strict=True)):
        if name not in known:
            raise DataError(f"{where}: `instruction_id_list`: {benchmark} has no instruction {name!r}")
        arguments = {key: value for key, value in (given or {}).items() if value is not None}
        with _drawing_from(f"{prompt}\0{number}"):
            _refuse_draws(known[name], name, arguments, where)
            found.append(_checked(known, name, arguments, answer, prompt))
    return found


def _checked(known: Mapping[str, Any], name: str, arguments: Mapping[str, Any], answer: str, prompt: str) -> Checked:
    from if_verifiable.common import evaluate_instructions

    try:
        results, _ = evaluate_instructions(answer, [name], [dict(arguments)], prompt, known)
    except LookupError as error:
        told = " ".join(str(error).split())
        resource = told.partition("Resource ")[2].partition(" ")[0]
        return Checked(None, None, f"NLTK's {resource or 'data'} is not there; give its folder with --nltk-data")
    if not results:
        return Checked(False, False)
    return Checked(bool(results[0].strict_pass), bool(results[0].loose_pass))


def _refuse_draws(checker: Any, name: str, arguments: Mapping[str, Any], where: str) -> None:
    """Refuse kwargs without which the checker would invent what it checks."""
    made = checker(name)
    try:
        made.build_description(**arguments)
    except TypeError as error:
        raise DataError(f"{where}: `kwargs`: {name}: {str(error).split('() ')[-1]}") from error
    except ValueError as error:
        raise DataError(f"{where}: `kwargs`: {name}: {error}") from error
    needed = made.get_instruction_args() or {}
    missing = [key for key, value in needed.items() if value is not None and key not in arguments and key != "prompt"]
    if missing:
        raise DataError(f"{where}: `kwargs`: {name}: {missing[0]!r} is missing")


@cache
def _registry(benchmark: Benchmark, reference_rng: bool) -> dict[str, Any]:
    import nltk

    # One of the modules downloads NLTK's data when it is imported.
    download, nltk.download = nltk.download, lambda *_, **__: False
    try:
        found: dict[str, Any] = dict(import_module(f"if_verifiable.{benchmark}.instructions_registry").INSTRUCTION_DICT)
    except ImportError as error:
        raise DataError(f"the checkers cannot be loaded ({error}); run: pip install 'rlrules[ifeval]'") from error
    finally:
        nltk.download = download
    if _LETTERS in found and not reference_rng:
        found[_LETTERS] = _literal(found[_LETTERS])
    return found


def _literal(letters: Any) -> Any:
    class LiteralLetters(letters):  # type: ignore[misc]
        """Counts the symbol that is asked for, letter or not."""

        def build_description(self, *, letter: str | None = None, **others: Any) -> Any:
            described = super().build_description(letter=letter, **others)
            if letter is not None:
                self._letter = letter.strip().lower()
            return described

    return LiteralLetters


@contextmanager
def _drawing_from(seed: str) -> Iterator[None]:
    # The checkers draw from the process's generator, which goes on afterwards as if they had not.
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
