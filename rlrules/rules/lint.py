"""Rules that one verdict cannot decide: several demands in one, vague words, or long."""

import re

LONGEST_WORDS = 30

_VERB = (
    r"(?:is|are|does|has|have|should|must|can|not|never|adds?|avoids?|cites?|contains?|covers?|explains?|follows?|"
    r"gives?|includes?|keeps?|names?|offers?|provides?|remains?|shows?|states?|stays?|uses?)"
)
_COMPOUND = (
    r";",  # Two clauses.
    r"[.!?]\s+[A-Z]",  # Two sentences.
    r",[^,.;]{1,60}\b(?:and|or)\b",  # A list: one, two and three.
    r"\b(?:as well as|along with|while also|and also|and/or)\b|,\s*but\b",
    rf"\b(?:and|but)\s+(?:it\s+|the\s+\w+\s+)?{_VERB}\b",  # A second predicate.
    r"\b(?:is|are|be|stays?|remains?)\s+(?:\w+\s+)?\w+\s+and\s",  # Two properties.
    r"\band\b.*\band\b",
)
_VAGUE = (
    r"\b(?:appropriate|suitabl[ey]|adequate|proper|reasonabl[ey]|nice|effective|relevant)(?:ly)?\b",
    r"\b(?:good|better|high[- ]quality|as needed|where necessary|(?:when|where|if) possible|etc)\b",
)


def lint(text: str) -> tuple[str, ...]:
    """What makes a rule hard to verify as one yes or no.

    Returns:
        Any of "compound" (it seems to demand more than one thing), "vague" (a word that only restates the question
        of quality) and "long" (more than 30 words).
    """
    found = {
        "compound": any(re.search(pattern, text) for pattern in _COMPOUND),
        "vague": any(re.search(pattern, text, re.IGNORECASE) for pattern in _VAGUE),
        "long": len(text.split()) > LONGEST_WORDS,
    }
    return tuple(name for name, holds in found.items() if holds)
