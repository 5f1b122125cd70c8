"""Untrusted text and numbers, made fit to be shown."""

import re
from dataclasses import dataclass
from typing import Any

PREVIEW = 420

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")
# Delete, the second control block, and what turns the direction of the text around it.
_INVISIBLE = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Text:
    """A text as the page shows it.

    Attributes:
        shown: What is shown of it.
        preview: Its beginning, on one paragraph; empty when `shown` is short enough to stand open.
        length: Characters of the whole.
        left_out: Characters that are not shown.
    """

    shown: str
    preview: str
    length: int
    left_out: int

    @classmethod
    def of(cls, value: Any, limit: int) -> "Text":
        """Show at most about `limit` characters: the beginning, and of longer texts also the end."""
        raw = value if isinstance(value, str) else str(value)
        left_out = max(0, len(raw) - limit)
        if left_out:
            tail = limit // 5
            mark = f"\n\n[… {left_out:,} characters left out …]\n\n"
            shown = clean(raw[: limit - tail]) + mark + (clean(raw[-tail:]) if tail else "")
        else:
            shown = clean(raw)
        long = len(raw) > PREVIEW or raw.count("\n") > 12
        preview = " ".join(shown[:PREVIEW].split())[: PREVIEW - 120] + " …" if long else ""
        return cls(shown, preview, len(raw), left_out)


def clean(text: str) -> str:
    """Control characters made visible, and what cannot be written as UTF-8 or would reorder the page replaced."""
    text = text.replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8")
    text = _CONTROL.sub(lambda match: chr(0x2400 + ord(match[0])), text)
    return _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text)


def shorten(value: Any, limit: int) -> str:
    """One line of at most `limit` characters."""
    raw = value if isinstance(value, str) else str(value)
    line = " ".join(clean(raw[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: about `digits` significant digits, thousands apart, a true minus sign."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1000 or value == int(value):
        told = f"{value:,.0f}" if size < 1e7 else f"{value:.{digits}g}"
    elif 0.01 <= size < 1:
        told = f"{value:.{digits}f}"
    else:
        told = f"{value:#.{digits}g}".rstrip(".")
    return "0" if told == "-0" else told.replace("-", "\N{MINUS SIGN}")


def signed(value: float | None) -> str:
    """The same with a plus sign."""
    told = number(value)
    return f"+{told}" if value is not None and value > 0 and told != "0" else told


def share(value: float) -> str:
    """A number between 0 and 1, or the difference of two, as a table's column wants it."""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")


def percent(value: float | None) -> str:
    """A share in percent; a share that is not zero never looks like zero."""
    if value is None:
        return "–"
    if 0 < value < 0.001:
        return "<0.1%"
    return f"{100 * value:.1f}%".replace(".0%", "%").replace("-", "\N{MINUS SIGN}")


def duration(seconds: float | None) -> str:
    """Hours and minutes, or minutes and seconds."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{seconds:.3g} s"


def natural(text: str) -> list[tuple[bool, int, str]]:
    """Sort key under which r2 comes before r10."""
    parts = re.split(r"([0-9]+)", text)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]
