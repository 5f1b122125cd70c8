"""Constraints on Chinese texts: the eight families of Light-IF (arXiv 2508.03178), its code's faults mended.

A text without what a constraint asks for fails it and nothing else, "at least" is enforced, and a constraint that a
prompt does not state earns nothing.
"""

import re
from typing import ClassVar, Literal

from pydantic import Field

from rlrules.rewards.constraint_checks import Bounded, OwnChecker, has_words, paragraphs

Style = Literal["《》", "[]", "【】"]

# No normalisation before: it would turn full-width marks into others. A run of marks ends one sentence, with the quotes
# behind it; an ASCII mark inside a number or an address ends none.
_ENDS = re.compile(r"(?:[。！？]|[.!?](?![A-Za-z0-9]))+[”’」』）)】》\"']*")
_TITLE = re.compile(r"\s*(?:《([^《》\n]+)》|\[([^\[\]\n]+)\]|【([^【】\n]+)】)[^\S\n]*(?:\n|$)")
_GROUPS: dict[Style, int] = {"《》": 1, "[]": 2, "【】": 3}
_AROUND = " \t\r\n　。"


class ZhBounded(Bounded):
    """A count with its bounds in Chinese."""

    def bounds(self) -> str:
        """The bounds in words, with a place for the unit."""
        if self.low == self.high:
            return f"恰好{self.low}"
        if self.high is None:
            return f"不少于{self.low}"
        return f"不超过{self.high}" if self.low is None else f"{self.low}到{self.high}"


class KeywordCount(ZhBounded):
    """How often a keyword stands in the text; `high: 0` forbids it."""

    name: ClassVar[str] = "zh:keyword_count"
    keyword: str = Field(min_length=1)

    def check_following(self, value: str) -> bool:
        """Count occurrences that do not overlap."""
        return self.holds(value.count(self.keyword))

    def describe(self) -> str:
        """In words."""
        if self.high == 0:
            return f"全文不要出现“{self.keyword}”。"
        return f"“{self.keyword}”一词要出现{self.bounds()}次。"


class SentenceCount(ZhBounded):
    """How many sentences the text has; a title in a line of its own belongs to the first."""

    name: ClassVar[str] = "zh:sentence_count"

    def check_following(self, value: str) -> bool:
        """Count what ends in a mark, and what is left behind the last one."""
        return self.holds(sum(has_words(part) for part in _ENDS.split(value)))

    def describe(self) -> str:
        """In words."""
        return f"全文要有{self.bounds()}句话，以句号、问号或感叹号断句。"


class ParagraphCount(ZhBounded):
    """How many paragraphs the text has, with `title` not counting the line of the title."""

    name: ClassVar[str] = "zh:paragraph_count"
    title: bool = False

    def check_following(self, value: str) -> bool:
        """Count what stands between blank lines."""
        return self.holds(len(paragraphs(without_title(value) if self.title else value)))

    def describe(self) -> str:
        """In words."""
        return f"正文分为{self.bounds()}段，段与段之间空一行{'，标题不算在内' * self.title}。"


class CharacterCount(ZhBounded):
    """How many characters the text has, marks counted and white space not, with `title` without the title's line."""

    name: ClassVar[str] = "zh:character_count"
    title: bool = False

    def check_following(self, value: str) -> bool:
        """Count."""
        return self.holds(len("".join((without_title(value) if self.title else value).split())))

    def describe(self) -> str:
        """In words."""
        return f"字数为{self.bounds()}字，标点计入，空格和换行不计{'，标题也不计' * self.title}。"


class TitleStyle(OwnChecker):
    """A title in brackets of one kind, alone on the first line."""

    name: ClassVar[str] = "zh:title_style"
    style: Style

    def check_following(self, value: str) -> bool:
        """Look for it."""
        return _title(value, self.style) is not None

    def describe(self) -> str:
        """In words."""
        return f"第一行写标题，标题单独成行，并用{self.style}括起来。"


class TitleLength(OwnChecker):
    """A title of at most so many characters; a text without one fails."""

    name: ClassVar[str] = "zh:title_length"
    style: Style
    high: int = Field(ge=1)

    def check_following(self, value: str) -> bool:
        """Count what stands between the brackets."""
        found = _title(value, self.style)
        return found is not None and len(found) <= self.high

    def describe(self) -> str:
        """In words."""
        return f"{self.style}里的标题不超过{self.high}个字。"


class Opening(OwnChecker):
    """How the text begins, after its title where it has one."""

    name: ClassVar[str] = "zh:opening"
    text: str = Field(min_length=1)

    def check_following(self, value: str) -> bool:
        """Compare, but for white space and full stops around."""
        found = _TITLE.match(value)
        return value[found.end() if found else 0 :].strip(_AROUND).startswith(self.text.strip(_AROUND))

    def describe(self) -> str:
        """In words."""
        return f"正文以“{self.text}”开头。"


class Closing(OwnChecker):
    """How the text ends."""

    name: ClassVar[str] = "zh:closing"
    text: str = Field(min_length=1)

    def check_following(self, value: str) -> bool:
        """Compare, but for white space and full stops around."""
        return value.strip(_AROUND).endswith(self.text.strip(_AROUND))

    def describe(self) -> str:
        """In words."""
        return f"全文以“{self.text}”结尾。"


def without_title(text: str) -> str:
    """A text without its first line where that is a title: brackets or not, no sentence ends in it."""
    first, broken, rest = text.lstrip().partition("\n")
    return rest if broken and not _ENDS.search(first) else text


def _title(text: str, style: Style) -> str | None:
    found = _TITLE.match(text)
    return found[_GROUPS[style]] if found else None


OWN_ZH: tuple[type[OwnChecker], ...] = (
    KeywordCount,
    SentenceCount,
    ParagraphCount,
    CharacterCount,
    TitleStyle,
    TitleLength,
    Opening,
    Closing,
)
