"""Constraints that no library checks: counts of sentences and paragraphs with any bounds, in English."""

import re
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator


class OwnChecker(BaseModel):
    """A checker of this project; its fields are the constraint's kwargs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]

    def check_following(self, value: str) -> bool:
        """Whether a text follows the constraint."""
        raise NotImplementedError(f"{type(self).__name__}.check_following")  # pragma: no cover

    def describe(self) -> str:
        """The constraint as a sentence of a prompt, with its way of counting."""
        raise NotImplementedError(f"{type(self).__name__}.describe")  # pragma: no cover


class Bounded(OwnChecker):
    """A checker of a count that must lie between two bounds, either of which may be left out."""

    low: int | None = Field(None, ge=0)
    high: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _is_a_range(self) -> "Bounded":
        if self.low is None and self.high is None:
            raise ValueError("give low, high or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self

    def holds(self, count: int) -> bool:
        """Whether `count` lies within the bounds, which are allowed themselves."""
        return (self.low is None or count >= self.low) and (self.high is None or count <= self.high)

    def bounds(self) -> str:
        """The bounds in words."""
        if self.low == self.high:
            return f"exactly {self.low}"
        if self.high is None:
            return f"at least {self.low}"
        return f"at most {self.high}" if self.low is None else f"between {self.low} and {self.high}"


# A full stop inside a number or a name of a file ends nothing.
_ENDS = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s|$)")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


class SentenceCount(Bounded):
    """How many sentences a text has."""

    name: ClassVar[str] = "en:sentence_count"

    def check_following(self, value: str) -> bool:
        """Count what ends in a mark before white space, and what is left behind the last one."""
        return self.holds(sum(has_words(part) for part in _ENDS.split(value)))

    def describe(self) -> str:
        """In words."""
        return (
            f"Write {self.bounds()} {_plural('sentence', self)}; a sentence ends with a full stop, a question mark "
            "or an exclamation mark."
        )


class ParagraphCount(Bounded):
    """How many paragraphs a text has."""

    name: ClassVar[str] = "en:paragraph_count"

    def check_following(self, value: str) -> bool:
        """Count what stands between blank lines."""
        return self.holds(len(paragraphs(value)))

    def describe(self) -> str:
        """In words."""
        return f"Write {self.bounds()} {_plural('paragraph', self)}, with a blank line between two of them."


def has_words(text: str) -> bool:
    """Whether there is a letter or a digit in a text."""
    return any(character.isalnum() for character in text)


def paragraphs(text: str) -> list[str]:
    """What stands between blank lines."""
    return [part for part in _BLANK_LINE.split(text) if part.strip()]


def _plural(word: str, of: Bounded) -> str:
    return word if (of.high if of.low is None else of.high or of.low) == 1 else f"{word}s"


OWN: tuple[type[OwnChecker], ...] = (SentenceCount, ParagraphCount)
