"""Numbers and untrusted text."""

import pytest

from rlrules.reporting.text import Text, clean, duration, natural, number, percent, share, shorten, signed


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "–"),
        (0.0, "0"),
        (-0.0, "0"),
        (3.0, "3"),
        (0.74, "0.740"),
        (-0.0531, "−0.053"),
        (0.00337, "0.00337"),
        (4.46e-7, "4.46e−07"),
        (12.345, "12.3"),
        (182.71, "183"),
        (99.96, "100"),
        (5_400_000.0, "5,400,000"),
        (2.5e9, "2.5e+09"),
    ],
)
def test_number(value: float | None, told: str) -> None:
    assert number(value) == told


def test_signs_and_shares() -> None:
    assert (signed(0.25), signed(-0.25), signed(0.0)) == ("+0.250", "−0.250", "0")
    assert (share(0.5), share(-0.004), share(-0.006)) == ("0.50", "0.00", "−0.01")
    told = [percent(value) for value in (None, 0.0, 0.0002, 0.01, 0.127, 1.0)]
    assert told == ["–", "0%", "<0.1%", "1%", "12.7%", "100%"]


def test_duration() -> None:
    told = [duration(seconds) for seconds in (None, 4.25, 59.9, 150.0, 5400.0, 100_000.0)]
    assert told == ["–", "4.25 s", "1 min 00 s", "2 min 30 s", "1 h 30 min", "27 h 46 min"]


def test_clean() -> None:
    assert clean("a\r\nb\tc\x00\x1b\r") == "a\nb\tc␀␛␍"
    assert clean("\ud800 \u202e \x7f") == "? \ufffd \ufffd"


def test_shortened_text_keeps_both_ends() -> None:
    text = Text.of("a" * 900 + "b" * 100, 500)
    assert (text.length, text.left_out) == (1000, 500)
    assert text.shown.startswith("a" * 400 + "\n")
    assert text.shown.endswith("\n" + "b" * 100)
    assert "500 characters left out" in text.shown
    assert text.preview.endswith(" …")


def test_short_text_stands_open() -> None:
    assert Text.of("a\nb", 500) == Text("a\nb", "", 3, 0)
    assert Text.of("line\n" * 14, 500).preview
    assert Text.of(None, 500).shown == "None"


def test_one_line() -> None:
    assert shorten(" a\n b ", 10) == "a b"
    assert shorten("abcdef", 4) == "abc…"
    assert shorten(5, 4) == "5"


def test_natural_order() -> None:
    assert sorted(["r10", "r2", "a", "10", "r2b"], key=natural) == ["10", "a", "r2", "r2b", "r10"]
