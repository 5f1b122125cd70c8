"""What each constraint counts in `aggregate: weighted`: the increments of Light-IF's reward, as data."""

from collections.abc import Mapping
from typing import Any, Literal

Bound = Literal["exact", "range", "forbidden", "other"]

DEFAULT = 0.10
"""For kinds that Light-IF does not have: its most frequent increment."""

# Light-IF's table (its released reward; see docs/fidelity.md), by our ids; where the bound matters, by the bound.
INCREMENTS: Mapping[str, float | Mapping[Bound, float]] = {
    "zh:sentence_count": {"exact": 0.20, "other": 0.05},
    "zh:keyword_count": {"exact": 0.10, "range": 0.10, "other": 0.05},
    "zh:paragraph_count": 0.10,
    "zh:character_count": {"exact": 0.10, "range": 0.10, "other": 0.05},
    "zh:title_length": 0.05,
    "zh:title_style": 0.02,
    "zh:opening": 0.02,
    "zh:closing": 0.02,
    "en:sentence_count": {"exact": 0.20, "other": 0.05},
    "en:paragraph_count": 0.10,
    "keywords:letter_frequency": {"forbidden": 0.20, "other": 0.05},
    "keywords:existence": 0.05,
    "keywords:frequency": 0.05,
    "keywords:forbidden_words": 0.05,
    "length_constraints:number_sentences": 0.05,
    "length_constraints:number_words": 0.05,
    "length_constraints:number_paragraphs": 0.10,
    "length_constraints:nth_paragraph_first_word": 0.10,
    "detectable_content:number_placeholders": 0.05,
    "detectable_format:number_bullet_lists": 0.10,
    "detectable_format:number_highlighted_sections": 0.05,
    "change_case:capital_word_frequency": 0.05,
    "combination:repeat_prompt": 0.10,
    "startend:end_checker": 0.10,
    "count:word_count_range": 0.10,
}


def weight(name: str, arguments: Mapping[str, Any]) -> float:
    """The increment of a constraint.

    Args:
        name: Its id.
        arguments: Its kwargs, None entries left out.
    """
    found = INCREMENTS.get(name, DEFAULT)
    return found if isinstance(found, float) else found.get(_bound(arguments), found["other"])


def _bound(arguments: Mapping[str, Any]) -> Bound:
    low, high = arguments.get("low"), arguments.get("high")
    # IFEval's way to forbid a letter: fewer than one.
    fewer_than_one = arguments.get("let_relation") == "less than" and arguments.get("let_frequency") == 1
    if high == 0 or fewer_than_one:
        return "forbidden"
    if low is None or high is None:
        return "other"
    return "exact" if low == high else "range"
