"""Kinds of constraints to put to prompts: the values of their parameters, and how a prompt words them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Values = Mapping[str, tuple[Any, ...]]

_RELATION = {"relation": ("less than", "at least")}


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of constraint.

    Attributes:
        texts: Wordings, with a place for each parameter.
        values: Values of each parameter.
        joint: Values of parameters that go together, as whole sets.
        words: Parameters that hold words of a pool, and how many; 0 for a word by itself.
        language: Of its wordings, and of the texts it is for.
    """

    texts: tuple[str, ...]
    values: Values = field(default_factory=dict)
    joint: tuple[Mapping[str, Any], ...] = ({},)
    words: Mapping[str, int] = field(default_factory=dict)
    language: str = "en"


FAMILIES: Mapping[str, Family] = {
    "keywords:existence": Family(("Use the words {keywords}.", "Work in {keywords}."), words={"keywords": 2}),
    "keywords:frequency": Family(
        ("Use the word {keyword} {relation} {frequency} times.",),
        _RELATION | {"frequency": (2, 3)},
        words={"keyword": 0},
    ),
    "keywords:forbidden_words": Family(
        ("Do without the words {forbidden_words}.", "Never use the words {forbidden_words}."),
        words={"forbidden_words": 3},
    ),
    "keywords:letter_frequency": Family(
        ("The letter {letter} has to stand in your answer {let_relation} {let_frequency} times.",),
        {"letter": tuple("bcfgjkmpvwxz"), "let_frequency": (3, 5, 8), "let_relation": ("less than", "at least")},
    ),
    "language:response_language": Family(
        ("Answer in {language} only.", "Your whole answer has to be in {language}."),
        {"language": ("fr", "de", "es", "it", "pt")},
    ),
    "length_constraints:number_sentences": Family(
        ("Answer in {relation} {num_sentences} sentences.",), _RELATION | {"num_sentences": (3, 5, 8)}
    ),
    "length_constraints:number_paragraphs": Family(
        ("Write {num_paragraphs} paragraphs, with *** between them.",), {"num_paragraphs": (2, 3, 4)}
    ),
    "length_constraints:number_words": Family(
        ("Use {relation} {num_words} words.", "Your answer has to have {relation} {num_words} words."),
        _RELATION | {"num_words": (50, 100, 150, 200)},
    ),
    "length_constraints:nth_paragraph_first_word": Family(
        (
            "Write {num_paragraphs} paragraphs with one blank line between two of them, and begin paragraph "
            "{nth_paragraph} with the word {first_word}.",
        ),
        {"num_paragraphs": (3, 4), "nth_paragraph": (1, 2, 3)},
        words={"first_word": 0},
    ),
    "detectable_content:number_placeholders": Family(
        ("Leave at least {num_placeholders} places to fill in, in square brackets like [name].",),
        {"num_placeholders": (1, 2, 3, 4)},
    ),
    "detectable_content:postscript": Family(
        ("End with a postscript that begins with {postscript_marker}",), {"postscript_marker": ("P.S.", "P.P.S")}
    ),
    "detectable_format:number_bullet_lists": Family(
        ("Make exactly {num_bullets} bullet points, each on a line that begins with an asterisk and a space.",),
        {"num_bullets": (2, 3, 4, 5)},
    ),
    "detectable_format:number_highlighted_sections": Family(
        ("Put at least {num_highlights} parts of your answer between asterisks, *like this*.",),
        {"num_highlights": (1, 2, 3)},
    ),
    "detectable_format:multiple_sections": Family(
        ("Divide your answer into {num_sections} sections, headed {section_spliter} 1, {section_spliter} 2 …",),
        {"num_sections": (2, 3, 4), "section_spliter": ("Section", "PART", "Chapter")},
    ),
    "detectable_format:json_format": Family(("Give the whole answer as JSON, and nothing else.",)),
    "detectable_format:title": Family(("Give your answer a title in double angle brackets, <<like this>>.",)),
    "combination:two_responses": Family(("Give two different answers, with ****** between them and nowhere else.",)),
    "combination:repeat_prompt": Family(
        ("Before you answer, say the request above again, word for word, without this sentence.",)
    ),
    "startend:end_checker": Family(
        ("Let your answer end with exactly these words: {end_phrase}",),
        {"end_phrase": ("That is all I know.", "I hope this is of use.", "And that is the end of it.")},
    ),
    "change_case:capital_word_frequency": Family(
        ("Write {capital_relation} {capital_frequency} words in capitals throughout.",),
        {"capital_frequency": (2, 3, 5), "capital_relation": ("less than", "at least")},
    ),
    "change_case:english_capital": Family(("Answer in English and in capital letters only.",)),
    "change_case:english_lowercase": Family(("Answer in English and in small letters only, without one capital.",)),
    "punctuation:no_comma": Family(("Do not use a single comma.", "Your answer must not have a comma in it.")),
    "startend:quotation": Family(("Put your whole answer in double quotation marks.",)),
    "en:sentence_count": Family((), joint=tuple({"low": count, "high": count} for count in (2, 3, 4, 5))),
    "en:paragraph_count": Family((), joint=tuple({"low": count, "high": count} for count in (2, 3, 4))),
    "zh:keyword_count": Family(
        (),
        joint=({"low": 1, "high": 3}, {"low": 2}, {"high": 0}, {"low": 2, "high": 2}),
        words={"keyword": 0},
        language="zh",
    ),
    "zh:sentence_count": Family((), joint=tuple({"low": count, "high": count} for count in (3, 4, 5)), language="zh"),
    "zh:paragraph_count": Family((), joint=tuple({"low": count, "high": count} for count in (2, 3)), language="zh"),
    "zh:character_count": Family(
        (), joint=({"low": 60, "high": 120}, {"low": 100, "high": 200}, {"high": 150}, {"low": 80}), language="zh"
    ),
    "zh:title_style": Family((), {"style": ("《》", "[]", "【】")}, language="zh"),
    "zh:title_length": Family((), {"style": ("《》", "【】"), "high": (6, 8, 10)}, language="zh"),
    "zh:opening": Family((), {"text": ("说起来", "众所周知", "先说结论")}, language="zh"),
    "zh:closing": Family((), {"text": ("仅供参考", "就说到这里", "希望有所帮助")}, language="zh"),
}
"""IFEval's kinds, but for the one that fits only questions of yes or no, and this project's. What has no wording here
words itself. IFBench's are there to be learned nothing of; who wants them names them, with their parameters."""

POOLS: Mapping[str, tuple[str, ...]] = {
    "en": (
        "garden", "window", "winter", "market", "river", "teacher", "paper", "bridge", "kitchen", "neighbour",
        "machine", "morning", "island", "letter", "engine", "silver", "music", "village", "forest", "doctor", "planet",
        "shadow", "ladder", "mirror", "basket", "harbour", "pencil", "thunder", "ticket", "copper", "blanket", "summer",
        "corner", "station", "butter", "story", "colour", "feather", "hammer", "orchard",
    ),
    "zh": ("春天", "城市", "朋友", "时间", "学习", "家庭", "音乐", "健康", "旅行", "阳光", "故事", "未来", "早晨"),
}  # fmt: skip

SHOWN: Mapping[str, Mapping[Any, str]] = {
    "relation": {"less than": "fewer than"},
    "capital_relation": {"less than": "fewer than"},
    "let_relation": {"less than": "fewer than"},
    "language": {"fr": "French", "de": "German", "es": "Spanish", "it": "Italian", "pt": "Portuguese"},
}
"""How a prompt says a value, where not as it stands."""
