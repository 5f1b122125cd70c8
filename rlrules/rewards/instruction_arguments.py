"""What the kwargs of an instruction may be; the library's checkers look at little of it before they are asked."""

import re
from collections.abc import Mapping
from typing import Any

_LISTS = {"keywords", "forbidden_words"}
_TEXTS = {
    "capital_relation", "end_phrase", "first_word", "keyword", "keyword1", "keyword2", "keyword3", "keyword4",
    "keyword5", "language", "let_relation", "letter", "options", "postscript_marker", "prompt_to_repeat",
    "reference_text", "relation", "section_spliter", "sep", "word",
}  # fmt: skip
_NUMBERS = {
    "N", "capital_frequency", "frequency", "let_frequency", "m", "max_words", "min_words", "n", "n_end", "n_start",
    "nth_paragraph", "num_bullets", "num_highlights", "num_paragraphs", "num_placeholders", "num_sections",
    "num_sentences", "num_words", "percentage", "small_n",
}  # fmt: skip
# Arguments that the checkers put into a regular expression as they stand.
_PATTERNS = {
    "keywords:existence": "keywords",
    "keywords:frequency": "keyword",
    "keywords:forbidden_words": "forbidden_words",
    "detectable_content:postscript": "postscript_marker",
    "detectable_format:multiple_sections": "section_spliter",
}


def said(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an instruction's kwargs say.

    The nulls that tables fill gaps with say nothing; and 2.0 is 2, as tables with gaps hold numbers.
    """
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in (given or {}).items()
        if value is not None
    }


def argument_problem(name: str, arguments: Mapping[str, Any]) -> str:
    """Why no text could follow an instruction, or all would, by the form of what it says; empty where that is not so.

    Args:
        name: Its id.
        arguments: What it says.
    """
    for key, value in arguments.items():
        if wanted := _wanted(key, value):
            return f"{key!r}: expected {wanted}, got {value!r:.60}"
    if name == "keywords:letter_frequency" and len(str(arguments.get("letter", "a")).strip()) > 1:
        return f"'letter': expected one letter, got {arguments['letter']!r:.60}"
    return _pattern_problem(_PATTERNS.get(name, ""), arguments)


def _wanted(key: str, value: Any) -> str:
    if key in _TEXTS and not isinstance(value, str):
        return "text"
    if key in _LISTS and not (isinstance(value, list | tuple) and all(isinstance(x, str) and x.strip() for x in value)):
        return "a list of words"
    if key in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
        return "a number"
    return "a whole number" if key in _NUMBERS - {"percentage"} and value % 1 else ""


def _pattern_problem(key: str, arguments: Mapping[str, Any]) -> str:
    value = arguments.get(key, [])
    for pattern in [value] if isinstance(value, str) else value:
        try:
            re.compile(pattern)
        except re.error as error:
            return f"{key!r}: {pattern!r:.60} is read as a regular expression, as IFEval does, and is none: {error}"
    return ""
