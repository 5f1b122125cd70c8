"""Checkers of `if-verifiable` that are made over: they draw nothing that was given, and do no work twice.

Those that search a text anew from each of its characters find what the library's find, at once.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

_LETTERS = "keywords:letter_frequency"
_SPAN = "repeat:repeat_span"
_SENTENCES = "length_constraints:number_sentences"
_CAPITALS = "change_case:capital_word_frequency"
_PLACEHOLDERS = "detectable_content:number_placeholders"
_POSTSCRIPT = "detectable_content:postscript"
_BULLETS = "detectable_format:number_bullet_lists"
DETECTING = ("language:response_language", "change_case:english_capital", "change_case:english_lowercase")
# Enough texts for a rollout, with the variants that loose checks look at; sentences are shorter.
_LANGUAGES_KEPT, _PARTS_KEPT = 16384, 65536


def mended(found: Mapping[str, Any], reference_rng: bool) -> dict[str, Any]:
    """A benchmark's checkers with those made over that need it.

    Args:
        found: The library's classes, by id.
        reference_rng: Leave the one as it is that draws a letter where a symbol is to be counted.
    """
    made = dict(found)
    if _SPAN in found:
        made[_SPAN] = _from_zero(found[_SPAN])
    if _LETTERS in found and not reference_rng:
        made[_LETTERS] = _literal(found[_LETTERS])
    if _CAPITALS in found:
        made[_CAPITALS] = _by_sentence(found[_CAPITALS])
    if _SENTENCES in found:
        made[_SENTENCES] = _counting_once(found[_SENTENCES])
    for name, at_once in _AT_ONCE.items():
        if name in found:
            made[name] = at_once(found[name])
    if all(name in found for name in DETECTING):
        made |= zip(DETECTING, _with_one_detection(*(found[name] for name in DETECTING)), strict=True)
    return made


def _literal(letters: Any) -> Any:
    class LiteralLetters(letters):  # type: ignore[misc]
        """Counts the symbol that is asked for, letter or not."""

        def build_description(self, *, letter: str | None = None, **others: Any) -> Any:
            described = super().build_description(letter=letter, **others)
            if letter is not None:
                self._letter = letter.strip().lower()
            return described

    return LiteralLetters


def _from_zero(span: Any) -> Any:
    class FromZero(span):  # type: ignore[misc]
        """Takes a span that begins at the first word as it is; the reference draws another beginning."""

        def build_description(self, *, n_start: int | None = None, **others: Any) -> Any:
            described = super().build_description(n_start=n_start, **others)
            if n_start is not None:
                self._n_start = n_start
            return described

    return FromZero


@lru_cache(maxsize=_LANGUAGES_KEPT)
def _language(text: str) -> str | None:
    """The language that langdetect finds; None where it finds none, for which the checkers let a text pass."""
    import langdetect

    try:
        return str(langdetect.detect(text))
    except langdetect.LangDetectException:
        return None


def _with_one_detection(language: Any, capitals: Any, lowercase: Any) -> list[Any]:
    """The kinds that detect a language: once per text, however many of them ask."""

    class Language(language):  # type: ignore[misc]
        def check_following(self, value: str) -> bool:
            return _language(value) in (None, self._language)

    class Capitals(capitals):  # type: ignore[misc]
        def check_following(self, value: str) -> bool:
            return value.isupper() and _language(value) in (None, "en")

    class Lowercase(lowercase):  # type: ignore[misc]
        def check_following(self, value: str) -> bool:
            return value.islower() and _language(value) in (None, "en")

    return [Language, Capitals, Lowercase]


@cache
def _punkt() -> Any:
    """NLTK's sentence tokenizer, which looks once at each place where a sentence may end.

    Most of them stand in all variants of an answer, and what it makes of one hangs on the words around it alone.

    Raises:
        LookupError: NLTK's data is not there.
    """
    from nltk.tokenize import PunktTokenizer

    tokenizer = PunktTokenizer("english")
    tokenizer.text_contains_sentbreak = lru_cache(maxsize=_PARTS_KEPT)(tokenizer.text_contains_sentbreak)
    return tokenizer


def _counting_once(sentences: Any) -> Any:
    class CountingOnce(sentences):  # type: ignore[misc]
        def check_following(self, value: str) -> bool:
            few = len(_punkt().tokenize(value)) < self._num_sentences_threshold
            return bool(few if self._comparison_relation == "less than" else not few)

    return CountingOnce


@lru_cache(maxsize=_PARTS_KEPT)
def _capital_words(sentence: str) -> int:
    """Words of one sentence that are all capitals, as NLTK takes it apart."""
    import nltk

    return sum(word.isupper() for word in nltk.word_tokenize(sentence, preserve_line=True))


def _by_sentence(words: Any) -> Any:
    class BySentence(words):  # type: ignore[misc]
        """Takes each sentence apart once: most of them stand in all variants of an answer."""

        def check_following(self, value: str) -> bool:
            count = sum(map(_capital_words, _punkt().tokenize(value)))
            return bool(
                count < self._frequency if self._comparison_relation == "less than" else count >= self._frequency
            )

    return BySentence


def _placeholders(kind: Any) -> Any:
    class Placeholders(kind):  # type: ignore[misc]
        """Counts the closing brackets with an opening one before them: a policy may write thousands of either."""

        def check_following(self, value: str) -> bool:
            ended = (part for line in value.split("\n") for part in line.split("]")[:-1])
            return bool(sum("[" in part for part in ended) >= self._num_placeholders)

    return Placeholders


_BLANK_LINES = re.compile(r"\n\s*\n")


def _bullets(kind: Any) -> Any:
    class Bullets(kind):  # type: ignore[misc]
        """Sees one blank line where there are more, from each of which the library looks for a bullet."""

        def check_following(self, value: str) -> bool:
            return bool(super().check_following(_BLANK_LINES.sub("\n\n", value)))

    return Bullets


def _postscript(kind: Any) -> Any:
    class Postscript(kind):  # type: ignore[misc]
        """Sees no more blanks in a row than a marker can hold."""

        def check_following(self, value: str) -> bool:
            most = len(self._postscript_marker) + 1
            return bool(super().check_following(re.sub(rf"(\s{{{most}}})\s+", r"\1", value)))

    return Postscript


_AT_ONCE = {_PLACEHOLDERS: _placeholders, _POSTSCRIPT: _postscript, _BULLETS: _bullets}


def forget() -> None:
    """Forget all that is known of texts, as if none had been checked."""
    _language.cache_clear()
    _capital_words.cache_clear()
    _punkt().text_contains_sentbreak.cache_clear()
