"""Checkers that are made over find what the library's find, and no flood of marks keeps them."""

from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrules.rewards.constraint_set import checker_of
from rlrules.rewards.instruction_checks import follows, prepare, variants
from rlrules.rewards.instruction_mending import mended
from tests.evaluation.shared import DATA, needs

pytest.importorskip("if_verifiable", reason="if-verifiable is not installed: pip install 'rlrules[ifeval]'")

NLTK = DATA / "ifeval" / "nltk_data"
BULLETS = "detectable_format:number_bullet_lists"
PLACEHOLDERS, POSTSCRIPT = "detectable_content:number_placeholders", "detectable_content:postscript"
PIECES = ["DON'T", "don't", "CANNOT", "Dr.", "U.S.", "Mr", "I", "ok", ".", "?!", "…", "*A*", "3.5", "(B)", "É"]
TOKENS = st.lists(st.sampled_from([*PIECES, "\n"]))


@needs("ifeval")
@settings(max_examples=60, deadline=None)
@given(words=TOKENS, glue=st.sampled_from(["", " ", "  \n"]))
def test_made_over_checkers_say_what_the_library_s_do(words: list[str], glue: str) -> None:
    prepare(NLTK)
    theirs = dict(import_module("if_verifiable.ifeval.instructions_registry").INSTRUCTION_DICT)
    for name, kinds in (
        ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}),
        ("change_case:capital_word_frequency", {"capital_frequency": 3, "capital_relation": "at least"}),
    ):
        pair = [table[name](name) for table in (theirs, mended(theirs, False))]
        for one in pair:
            one.build_description(**kinds)
        for text in variants(glue.join(words)):
            assert pair[0].check_following(text) == pair[1].check_following(text), text


MARKS = st.lists(st.sampled_from([*"[]*-apPsS. ", "\n", "\n\n", "\t", "\r\n", "* a", "\u2028", "P.S.", " " * 5]))


@settings(max_examples=300, deadline=None)
@given(marks=MARKS, number=st.integers(1, 3))
def test_what_is_searched_at_once_is_what_the_library_finds(marks: list[str], number: int) -> None:
    theirs = dict(import_module("if_verifiable.ifeval.instructions_registry").INSTRUCTION_DICT)
    for name, given_ in (
        (BULLETS, {"num_bullets": number}),
        (PLACEHOLDERS, {"num_placeholders": number}),
        *((POSTSCRIPT, {"postscript_marker": one}) for one in ("P.S.", "P.P.S", "a  p")),
    ):
        pair = [table[name](name) for table in (theirs, mended(theirs, False))]
        for one in pair:
            one.build_description(**given_)
        text = "".join(marks)
        assert pair[0].check_following(text) == pair[1].check_following(text), (name, text)


@pytest.mark.timeout(60)
def test_a_flood_of_one_mark_is_checked() -> None:
    """As of a policy gone astray: the library's patterns go to the end from each character, which takes minutes."""
    floods = ("[" * 400_000, "\n" * 400_000, " " * 400_000)
    for name, given_ in (
        (BULLETS, {"num_bullets": 2}),
        (PLACEHOLDERS, {"num_placeholders": 2}),
        (POSTSCRIPT, {"postscript_marker": "P.S."}),
    ):
        assert follows(checker_of(name, given_), floods) == (False, "")
