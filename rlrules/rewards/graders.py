"""How right an answer is, 0 to 1, by the kind of its question; numbers and expressions are in `numeric.py`."""

import math
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

from rlrules.rewards.numeric import plain_number

REGRESSION_EPS = 1e-6

_DECORATED = re.compile(r"[(\[{]*([A-Za-z])[)\]}.:]*")
_SEPARATORS = re.compile(r"[\s,;/&]+")
_LABELLED = re.compile(r"(?:^|[,;\n]\s*)[(\[]?([A-Za-z])\s*[)\].:]\s*(?=\S)")
_LETTERS = re.compile(r"[A-Z]{2,}")
# What is written without spaces between words: Chinese and Japanese signs, kana, Thai, Lao, Khmer, Burmese.
_UNSPACED = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_WORD = re.compile(f"{_UNSPACED.pattern}|(?:(?!{_UNSPACED.pattern})[^\\W_])+")
_SHORTEST_STEMMED = 4


def choice(truth: str, answer: str, options: Sequence[str] = ()) -> float:
    """1 where both name the same options, at least one; else 0.

    Args:
        truth: The right options' letters, or a right option's text.
        answer: Of the policy.
        options: All options' texts, in the letters' order, with their letters or without.
    """
    right = letters(truth, options)
    return float(bool(right) and right == letters(answer, options))


def letters(text: str, options: Sequence[str] = ()) -> frozenset[str]:
    """The options that a text names: `A`, `(a)`, `A.`, `A, B`, `AB`, `A. its text`, or an option's whole text.

    Empty where it names none, or says of a letter another text than its option's.
    """
    text = unicodedata.normalize("NFKC", text).strip().strip("$*").strip()
    texts = [_option_text(option, number) for number, option in enumerate(options)]
    named = [number for number, known in enumerate(texts) if known and known == _folded(text)]
    if len(named) == 1:
        return frozenset((chr(ord("A") + named[0]),))
    parts = [part for part in _SEPARATORS.split(text) if part and part.casefold() not in ("and", "option")]
    bare = [_DECORATED.fullmatch(part) for part in parts]
    if parts and all(bare):
        return frozenset(found[1].upper() for found in bare if found)
    if _LETTERS.fullmatch(text) and len(set(text)) == len(text):
        return frozenset(text)
    return _labelled(text, texts)


def _labelled(text: str, texts: Sequence[str]) -> frozenset[str]:
    found = list(_LABELLED.finditer(text))
    if not found or found[0].start() != 0:
        return frozenset()
    ends = [*(match.start() for match in found[1:]), len(text)]
    for match, end in zip(found, ends, strict=True):
        place = ord(match[1].upper()) - ord("A")
        if texts and (place >= len(texts) or _folded(text[match.end() : end]) != texts[place]):
            return frozenset()
    return frozenset(match[1].upper() for match in found)


def _option_text(option: str, number: int) -> str:
    label = _LABELLED.match(option)
    own = label is not None and label[1].upper() == chr(ord("A") + number)
    return _folded(option[label.end() :] if label is not None and own else option)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".")


def transcription(truth: str, answer: str) -> float:
    """exp(-WER), the word error rate taken after NFKC and with one blank between words; of an empty answer 0."""
    import jiwer

    right, read = _spaced(truth), _spaced(answer)
    return math.exp(-jiwer.wer(right, read)) if read else 0.0


def _spaced(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def overlap(truth: str, answer: str) -> float:
    """The mean of ROUGE-1, ROUGE-2 and ROUGE-L, each as F; for a right answer without words 1 for the same, else 0."""
    from rapidfuzz.distance import LCSseq
    from rouge_score.scoring import fmeasure

    scorer, tokenizer = _rouge()
    right, said = tokenizer.tokenize(truth), tokenizer.tokenize(answer)
    if not right:
        return float(_folded(truth) == _folded(answer))
    pairs = scorer.score(truth, answer)
    # rouge-score's own takes seconds for long answers: a table in Python of one's words by the other's.
    common = LCSseq.similarity(right, said)
    longest = fmeasure(common / len(said), common / len(right)) if common else 0.0
    return float((pairs["rouge1"].fmeasure + pairs["rouge2"].fmeasure + longest) / 3)


@cache
def _rouge() -> tuple[Any, Any]:
    from nltk.stem.porter import PorterStemmer
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import Tokenizer

    stemmer = PorterStemmer()

    class Words(Tokenizer):  # type: ignore[misc]
        """Of ASCII the words of rouge-score's own tokenizer, which leaves all else out; signs one by one."""

        def tokenize(self, text: str) -> list[str]:
            words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
            return [stemmer.stem(word) if len(word) >= _SHORTEST_STEMMED else word for word in words]

    words = Words()
    return RougeScorer(["rouge1", "rouge2"], tokenizer=words), words


def nearness(truth: str, answer: str) -> float:
    """max(0, 1 - |answer - truth| / |truth|); 0 for what is no number.

    Raises:
        ValueError: The truth is none.
    """
    right = number_of(truth)
    if right is None:
        raise ValueError(f"{truth[:60]!r} is no number")
    said = number_of(answer)
    if said is None:
        return 0.0
    return max(0.0, 1.0 - abs(said - right) / max(abs(right), REGRESSION_EPS))


def number_of(text: str) -> float | None:
    """The finite number that a text is, its percent sign left out."""
    known = plain_number(text)
    return None if known is None else float(known[0])
