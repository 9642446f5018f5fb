"""Listed words are found as whole words and never inside others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.terms import Terms, words
from services.router.vocabulary import KEYWORDS_COMPLEX, KEYWORDS_SIMPLE

TERMS = Terms("list, plan, step by step, step, at least, at least once, trade-off")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("List the planets", ["list"]),
        ("listen to the plane, explanatory and listless", []),
        ("Go step by step.", ["step by step"]),
        ("step by the step", ["step", "step"]),
        ("at least once, at least", ["at least once", "at least"]),
        ("A trade-off; TRADE-OFF!", ["trade-off", "trade-off"]),
        ("", []),
    ],
)
def test_finding(text: str, found: list[str]) -> None:
    assert TERMS.find(words(text)) == found


def test_the_word_lists_do_not_match_inside_words() -> None:
    assert KEYWORDS_COMPLEX.find(words("redesigned improvements, approved comparers")) == []
    assert KEYWORDS_SIMPLE.find(words("renamed enlisted translated redefined")) == []


@given(st.text())
def test_any_text_has_words(text: str) -> None:
    found = words(text)
    assert all(word and word.casefold() in text.casefold() for word in found)
    assert len(TERMS.find(found)) <= len(found)


def test_a_term_must_have_a_letter() -> None:
    with pytest.raises(ValueError):
        Terms("fine, 123")
