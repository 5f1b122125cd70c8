"""Instructions that a program can verify (IFEval, IFBench): an adapter over the checkers of `if-verifiable`.

What the checkers draw at random comes from a seed per instruction.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from rlrules.errors import DataError
from rlrules.judges.verdict import THINK_CLOSE, THINK_OPEN, after_thought
from rlrules.rewards.instruction_arguments import argument_problem, said
from rlrules.rewards.instruction_mending import mended

Benchmark = Literal["ifeval", "ifbench"]


class Checker(Protocol):
    """Checks one instruction."""

    def check_following(self, value: str) -> bool:
        """Whether a text follows it; may raise."""
        ...


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether a response follows one instruction; None where that cannot be told, for `reason`."""

    strict: bool | None
    loose: bool | None
    reason: str = ""


class MissingData(Exception):
    """NLTK's data that a checker needs is not there."""


def prepare(nltk_data: Path | None) -> None:
    """Tell NLTK where its data lies, and langdetect how to draw.

    Raises:
        DataError: `if-verifiable` is not installed, or `nltk_data` does not exist.
    """
    if nltk_data is not None and not nltk_data.is_dir():
        raise DataError(f"nltk_data: {nltk_data} is no folder (looked in {Path.cwd()})")
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
    known = registry(benchmark, reference_rng)
    texts = variants(_answer(response))
    found: list[Checked] = []
    for number, (name, given) in enumerate(zip(instructions, kwargs, strict=True)):
        if name not in known:
            raise DataError(f"{where}: `instruction_id_list`: {benchmark} has no instruction {name!r}")
        try:
            checker = build(known[name], name, said(given), prompt, number)
        except DataError as error:
            raise DataError(f"{where}: `kwargs`: {error}") from error
        found.append(_checked(checker, texts))
    return found


def _answer(response: str) -> str:
    # Without a thought it stays as it is: blank lines around it are lines, one of which a loose check leaves out.
    answer = after_thought(response) if THINK_CLOSE in response else response
    return "" if answer.lstrip().startswith(THINK_OPEN) else answer


def _checked(checker: Checker, texts: Sequence[str]) -> Checked:
    try:
        strict, reason = follows(checker, texts[:1])
        loose, _ = (strict, "") if strict else follows(checker, texts)
    except MissingData as error:
        return Checked(None, None, f"{error}; give its folder with --nltk-data")
    return Checked(strict, loose, reason)


def variants(answer: str) -> list[str]:
    """What a loose check looks at, the answer itself first: less its first and last line and its asterisks.

    Empty ones, which follow nothing, and repetitions are left out.
    """
    lines = answer.split("\n")
    cut = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    texts = [answer, answer.replace("*", ""), *cut[1:], *(text.replace("*", "") for text in cut[1:])]
    return list(dict.fromkeys(text for text in texts if text.strip()))


def follows(checker: Checker, texts: Sequence[str]) -> tuple[bool, str]:
    """Whether one of `texts` follows the instruction, and what a checker raised where none does.

    Raises:
        MissingData: That cannot be told.
    """
    reason = ""
    for text in texts:
        try:
            if checker.check_following(text):
                return True, ""
        except LookupError as error:
            if resource := _resource(error):
                raise MissingData(f"NLTK's {resource} is not there") from error
            reason = reason or f"{type(error).__name__}: {error}"
        except Exception as error:
            reason = reason or f"{type(error).__name__}: {error}"
    return False, reason


def _resource(error: LookupError) -> str:
    """The data that NLTK did not find; empty where the error is another one."""
    told = " ".join(str(error).split())
    return told.partition("Resource ")[2].partition(" ")[0]


def build(kind: Any, name: str, arguments: Mapping[str, Any], prompt: str, number: int = 0) -> Checker:
    """Make an instruction's checker.

    Args:
        kind: Its class, from `registry`.
        name: Its id.
        arguments: What it says, None entries left out.
        prompt: The prompt, which some instructions repeat.
        number: Its place among the prompt's instructions, of which what it draws depends.

    Raises:
        DataError: The arguments do not fit, or the checker would invent what it checks.
    """
    if problem := argument_problem(name, arguments):
        raise DataError(f"{name}: {problem}")
    with _drawing_from(f"{prompt}\0{number}"):
        made: Checker = _described(kind, name, arguments)[0]
        needed: Mapping[str, Any] = made.get_instruction_args() or {}  # type: ignore[attr-defined]
        for key, value in needed.items():
            if value is None or key == "prompt":
                continue
            if key not in arguments:
                raise DataError(f"{name}: {key!r} is missing")
            if isinstance(value, int | float) and value != arguments[key]:
                raise DataError(f"{name}: {key!r}: {arguments[key]!r} is out of range")
            if not arguments[key] and not isinstance(arguments[key], int | float):
                raise DataError(f"{name}: {key!r} is empty")
        if "prompt" in needed:
            made.build_description(prompt=prompt)  # type: ignore[attr-defined]
    return made


def describe(name: str, arguments: Mapping[str, Any]) -> str:
    """The library's own words for an instruction.

    Raises:
        DataError: No such instruction, or the arguments do not fit.
    """
    for benchmark in ("ifeval", "ifbench"):
        if kind := registry(benchmark, False).get(name):
            with _drawing_from(name):
                return str(_described(kind, name, arguments)[1])
    raise DataError(f"no instruction {name!r}")


def _described(kind: Any, name: str, arguments: Mapping[str, Any]) -> tuple[Any, str]:
    made = kind(name)
    try:
        return made, made.build_description(**arguments)
    except TypeError as error:
        raise DataError(f"{name}: {str(error).split('() ')[-1]}") from error
    except KeyError as error:
        raise DataError(f"{name}: {error} is none that it knows") from error
    except (ValueError, AttributeError, LookupError) as error:
        raise DataError(f"{name}: {error}") from error


@cache
def registry(benchmark: Benchmark, reference_rng: bool = False) -> Mapping[str, Any]:
    """The checkers' classes, by id.

    Raises:
        DataError: `if-verifiable` is not installed.
    """
    import nltk

    # One of the modules downloads NLTK's data when it is imported.
    download, nltk.download = nltk.download, lambda *_, **__: False
    try:
        found: dict[str, Any] = dict(import_module(f"if_verifiable.{benchmark}.instructions_registry").INSTRUCTION_DICT)
    except ImportError as error:
        raise DataError(f"the checkers cannot be loaded ({error}); run: pip install 'rlrules[ifeval]'") from error
    finally:
        nltk.download = download
    return mended(found, reference_rng)


@contextmanager
def _drawing_from(seed: str) -> Iterator[None]:
    # The checkers draw from the process's generator, which goes on afterwards as if they had not.
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
