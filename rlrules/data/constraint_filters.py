"""What is left out of synthesised prompts, and how hard the others are: pure functions."""

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Literal

Split = Literal["trivial", "pass", "easy", "hard"]
SPLITS: tuple[Split, ...] = ("trivial", "pass", "easy", "hard")
NGRAM = 13

_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")


def split_of(followed: Sequence[Sequence[bool]], threshold: float = 0.7) -> Split:
    """How hard a prompt is for a model, by its sampled answers.

    Args:
        followed: Shape (answers, constraints): whether each was followed.
        threshold: Mean share of constraints followed from which a prompt is easy that no answer passes.

    Returns:
        "trivial": all answers follow all; "pass": some do; otherwise "easy" or "hard".
    """
    passes = sum(all(answer) for answer in followed)
    if passes == len(followed):
        return "trivial"
    if passes:
        return "pass"
    held, asked = sum(map(sum, followed)), sum(map(len, followed))
    # As fractions: a mean of exactly the threshold must not fall below it by rounding.
    return "easy" if Fraction(held, asked) >= Fraction(str(threshold)) else "hard"


class Contamination:
    """Finds texts that share a run of words with a benchmark's prompts.

    Args:
        prompts: The benchmark's.
        ngram: Words, or single Chinese characters, in a run. A shorter text is found where it is a whole prompt.
    """

    def __init__(self, prompts: Iterable[str], ngram: int = NGRAM) -> None:
        self._ngram = ngram
        self._runs: set[tuple[str, ...]] = set()
        for prompt in prompts:
            self._runs.update(self._of(prompt))

    def found(self, text: str) -> bool:
        """Whether `text` shares a run."""
        return not self._runs.isdisjoint(self._of(text))

    def _of(self, text: str) -> set[tuple[str, ...]]:
        words = _WORD.findall(text.lower())
        starts = range(max(1, len(words) - self._ngram + 1)) if words else ()
        return {tuple(words[start : start + self._ngram]) for start in starts}
