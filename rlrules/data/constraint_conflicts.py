"""Constraints that cannot all be followed: IFEval's table of kinds, and what numbers and words rule out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import Any

from rlrules.rewards.constraint_checks import has_words

Constraints = Sequence[tuple[str, Mapping[str, Any]]]
INFINITE = float("inf")

_BULLETS, _HIGHLIGHTS = "detectable_format:number_bullet_lists", "detectable_format:number_highlighted_sections"
_SINGLE = {
    # Kinds that IFEval's table does not know, with those of its own that say the same or the opposite.
    "en:sentence_count": {"length_constraints:number_sentences", "language:response_language"},
    "en:paragraph_count": {
        "length_constraints:number_paragraphs",
        "length_constraints:nth_paragraph_first_word",
        "combination:two_responses",
    },
    _BULLETS: {_HIGHLIGHTS, "length_constraints:number_paragraphs", "combination:two_responses"},
    "length_constraints:number_paragraphs": {"combination:two_responses", "detectable_format:multiple_sections"},
    "language:response_language": {"detectable_content:postscript"},
    # Its headings are looked for as they are written, some capitals and some not.
    "detectable_format:multiple_sections": {"change_case:english_lowercase", "change_case:english_capital"},
}
# The whole answer is of one form, so that nothing of ours goes with it.
_WHOLE = ("detectable_format:json_format", "combination:repeat_prompt", "detectable_format:constrained_response")


@dataclass(slots=True)
class _Demands:
    """What a set of constraints asks of a text: bounds by measure, and strings."""

    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)

    def bound(self, measure: str, low: float | None, high: float | None) -> None:
        """Take in bounds that are allowed themselves."""
        self.low[measure] = max(self.low.get(measure, 0), low or 0)
        self.high[measure] = min(self.high.get(measure, INFINITE), INFINITE if high is None else high)


def contradiction(constraints: Constraints) -> str:
    """Why not all of `constraints` can be followed at once, in words; empty where nothing rules it out."""
    names = [name for name, _ in constraints]
    for one, other in combinations(names, 2):
        if other in _table().get(one, ()) or one in _table().get(other, ()):
            return f"{one} and {other}"
    styles = {arguments["style"] for _, arguments in constraints if "style" in arguments}
    if len(styles) > 1:
        return f"titles in {' and '.join(sorted(styles))}"
    demands = _Demands()
    for name, arguments in constraints:
        if problem := _take(demands, name, arguments):
            return problem
    return _bounds_problem(demands) or _words_problem(demands)


@cache
def _table() -> Mapping[str, set[str]]:
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_CONFLICTS

    from rlrules.rewards.constraint_set import OWN_CHECKERS

    table = {name: set(others) for name, others in INSTRUCTION_CONFLICTS.items()}
    for name, others in _SINGLE.items():
        table.setdefault(name, set()).update(others)
    for name in _WHOLE:
        table[name] |= set(OWN_CHECKERS)
    # Two of one keyword are told apart by their words, below.
    return table | {name: table.get(name, set()) | {name} for name in OWN_CHECKERS if name != "zh:keyword_count"}


def _take(demands: _Demands, name: str, arguments: Mapping[str, Any]) -> str:
    """Add what a constraint asks for; what is wrong with it by itself, in words."""
    get = arguments.get
    match name.partition(":")[2]:
        case "number_words":
            _relation(demands, "words", get("relation"), get("num_words"))
        case "word_count_range":
            demands.bound("words", get("min_words"), get("max_words"))
        case "number_sentences":
            _relation(demands, "sentences", get("relation"), get("num_sentences"))
        case "sentence_count":
            demands.bound("sentences", get("low"), get("high"))
        case "paragraph_count" | "number_paragraphs" | "nth_paragraph_first_word":
            demands.bound("paragraphs", get("low", get("num_paragraphs")), get("high", get("num_paragraphs")))
            if (get("nth_paragraph") or 0) > (get("num_paragraphs") or INFINITE):
                return f"{name}: paragraph {get('nth_paragraph')} of {get('num_paragraphs')}"
        case "character_count":
            demands.bound("characters", get("low"), get("high"))
        case "number_bullet_lists":
            demands.bound("words", get("num_bullets"), None)
        case "multiple_sections":
            demands.bound("words", 2 * (get("num_sections") or 0), None)
        case "capital_word_frequency":
            _relation(demands, "capitals", get("capital_relation"), get("capital_frequency"))
        case "no_comma":
            demands.forbidden.append(",")
        case "forbidden_words":
            demands.forbidden += list(get("forbidden_words") or ())
        case "letter_frequency" if (get("let_relation"), get("let_frequency")) == ("less than", 1):
            demands.forbidden.append(str(get("letter")))
        case "frequency" | "keyword_count":
            _keyword(demands, arguments)
        case _:
            demands.required += [str(get(key)) for key in ("end_phrase", "text", "first_word") if get(key)]
            demands.required += [str(word) for word in get("keywords") or ()]
    return ""


def _keyword(demands: _Demands, arguments: Mapping[str, Any]) -> None:
    keyword, low, high = str(arguments.get("keyword")), arguments.get("low"), arguments.get("high")
    if "frequency" in arguments:
        at_least = arguments.get("relation") == "at least"
        low, high = (arguments["frequency"], None) if at_least else (None, arguments["frequency"] - 1)
    demands.bound(f"times {keyword!r}", low, high)
    if high == 0:
        demands.forbidden.append(keyword)
    demands.required += [keyword] * int(low or 0)


def _relation(demands: _Demands, measure: str, relation: Any, number: Any) -> None:
    if isinstance(number, int):
        demands.bound(measure, *((number, None) if relation == "at least" else (None, number - 1)))


def _bounds_problem(demands: _Demands) -> str:
    low, high = demands.low, demands.high
    for measure, least in low.items():
        if least > high[measure]:
            return f"{least:g} {measure} or more and {high[measure]:g} or fewer"
    most_words = min(high.get("words", INFINITE), high.get("characters", INFINITE))
    for measure in ("sentences", "paragraphs", "capitals"):
        if low.get(measure, 0) > most_words:
            return f"{low[measure]:g} {measure} in {most_words:g} words or fewer"
    if low.get("paragraphs", 0) > high.get("sentences", INFINITE):
        return f"{low['paragraphs']:g} paragraphs in {high['sentences']:g} sentences"
    words = sum(len(text.split()) for text in demands.required)
    characters = sum(len("".join(text.split())) for text in demands.required)
    if words > high.get("words", INFINITE) or characters > high.get("characters", INFINITE):
        return "required words longer than the answer may be"
    return ""


def _words_problem(demands: _Demands) -> str:
    for required in demands.required:
        for forbidden in demands.forbidden:
            # Words are forbidden as words; marks, letters and Chinese anywhere.
            inside = required.lower().split() if len(forbidden) > 1 and forbidden.isascii() else required.lower()
            if forbidden.lower() in inside:
                return f"{required!r} is required, {forbidden!r} forbidden"
    for text in demands.required:
        keyword = f"times {text!r}"
        if has_words(text) and demands.high.get(keyword, INFINITE) < demands.required.count(text):
            return f"{text!r} is required more often than it is allowed"
    return ""
