"""Sentences of a text in pieces: the right ones, the same in any pieces, nothing lost, bounded memory, linear work."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon_client.sentences import LEAST_LIMIT, SentenceSegmenter
from tests.unit.client.sentence_fixtures import Fixture, naive, read, segmented, stripped

FIXTURES = read()
UNDECIDED = 100
"""Characters at most that no decision was made about yet."""


@pytest.mark.parametrize("fixture", FIXTURES, ids=[f"{f.topic} {i}" for i, f in enumerate(FIXTURES)])
def test_the_sentences_of_a_text(fixture: Fixture) -> None:
    sentences = segmented(fixture.text)
    assert "".join(sentences) == fixture.text
    assert (sentences == list(fixture.sentences)) is not fixture.known_wrong, sentences
    assert segmented(fixture.text, list(fixture.text)) == sentences


def test_there_are_enough_fixtures_and_few_are_known_to_be_wrong() -> None:
    assert len(FIXTURES) >= 300
    assert len({fixture.text for fixture in FIXTURES}) == len(FIXTURES)
    assert sum(fixture.known_wrong for fixture in FIXTURES) <= 0.02 * len(FIXTURES)


def test_it_is_right_far_more_often_than_the_buffer_that_users_write() -> None:
    ours = sum(stripped(segmented(f.text)) == stripped(f.sentences) for f in FIXTURES)
    theirs = sum(stripped(naive(f.text)) == stripped(f.sentences) for f in FIXTURES)
    print(f"of {len(FIXTURES)} texts all sentences right: segmenter {ours}, split after a stop and a space {theirs}")
    assert ours >= 0.98 * len(FIXTURES)
    assert theirs <= 0.7 * len(FIXTURES)


MORSELS = st.sampled_from(
    [
        *(
            "Dr. ",
            "e.g. ",
            "U.S. ",
            "J. ",
            "p.m. ",
            "etc. ",
            "3.14 ",
            "12. ",
            "No. 5 ",
            "Oktober ",
            "The ",
            "word ",
            "Name ",
        ),
        *(". ", "? ", "! ", "... ", "…", "?! ", '." ', '!" ', ".) ", "» ", "« ", '" ', "[1] ", "\u00a0", "\u2029"),
        *("\n", "\n\n", "\r\n", "  ", "\t", "- ", "1. ", "# ", "> ", "| ", "---\n", "```\n", "```", "~~~\n", "`", "``"),
        *(
            "。",
            "！」",
            "と",
            "．",
            "।",
            "؟",
            "漢字",
            "a.b@c.de ",
            "https://x.example/a?b=c. ",
            "**",
            "_",
            "(",
            ")",
            "🙂",
            ".",
            "!",
        ),
    ]
)
TEXTS = st.one_of(
    st.lists(MORSELS, max_size=30).map("".join),
    st.lists(st.sampled_from(FIXTURES), max_size=4).map(lambda fixtures: "\n\n".join(f.text for f in fixtures)),
    st.text(max_size=60),
)


@given(TEXTS, st.data(), st.sampled_from([None, LEAST_LIMIT, 40]))
@settings(max_examples=400, deadline=None)
def test_any_pieces_give_the_same_sentences_and_nothing_is_lost(text: str, data: Any, limit: int | None) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = segmented(text, [text], limit)
    assert segmented(text, pieces, limit) == whole
    assert segmented(text, list(text), limit) == whole
    assert "".join(whole) == text
    assert all(whole)
    assert limit is None or max(map(len, whole), default=0) <= limit


@given(TEXTS, TEXTS)
@settings(max_examples=50, deadline=None)
def test_after_a_flush_another_text_begins(one: str, two: str) -> None:
    segmenter = SentenceSegmenter()
    assert segmenter.feed(one) + segmenter.flush() == segmented(one)
    assert segmenter.feed(two) + segmenter.flush() == segmented(two)
    assert segmenter.flush() == []


@pytest.mark.parametrize(
    ("pieces", "comes_with"),
    [
        (["Stop.", " ", "N", "ow."], 2),
        (["Stop.", " ", "Now", "."], 2),
        (["止まれ。", "次"], 1),
        (["A title", "\n", "\n", "B"], 3),
        (["```\n", "x\n", "```", "\n", "B"], 4),
        (["It is 5 p.m.", " John", " left."], 2),
    ],
)
def test_a_sentence_comes_as_soon_as_there_is_no_doubt(pieces: list[str], comes_with: int) -> None:
    segmenter = SentenceSegmenter()
    first = next(i for i, piece in enumerate(pieces) if segmenter.feed(piece))
    assert first == comes_with


def test_what_is_too_long_is_cut_where_the_contract_says() -> None:
    assert segmented("", ["x" * 50], 20) == ["x" * 20, "x" * 20, "x" * 10]
    assert segmented("", ["one two three four five six"], 20) == ["one two three four ", "five six"]
    assert segmented("", ["one " + "x" * 30], 20) == ["one " + "x" * 16, "x" * 14], "not in the first half"
    code = "```\nfirst line\nsecond line\n```\n"
    assert segmented("", [code], 20) == ["```\nfirst line\n", "second line\n```\n"]
    with pytest.raises(ValueError, match="at least"):
        SentenceSegmenter(LEAST_LIMIT - 1)


LONG = {
    "words without a stop": "word " * 4_000,
    "one word": "x" * 20_000,
    "white space": " " * 20_000,
    "stops": "." * 20_000,
    "questions": "?" * 20_000,
    "hard stops": "。" * 20_000,
    "ticks": "`" * 20_000,
    "fence without an end": "```\n" + "a. B\n" * 4_000,
    "fence of one line": "```" + "a. B " * 4_000,
    "code of one line": "`" + "a. B " * 4_000,
    "quotation marks": '"' * 20_000,
    "a stop and quotation marks": "Stop. " + '"' * 20_000,
    "a stop and white space": "Stop." + " " * 20_000,
    "brackets": "Stop. " + "(" * 20_000,
    "rules": "-" * 20_000,
    "initials": "A. " * 6_000,
    "quotes": "> " * 10_000,
    "items": "- a\n" * 5_000,
    "sentences": "It is so. " * 2_000,
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("size", [1, 7])
def test_memory_is_bounded(kind: str, size: int) -> None:
    text, limit = LONG[kind], 500
    segmenter, held = SentenceSegmenter(limit), 0
    for start in range(0, len(text), size):
        held += len(text[start : start + size])
        held -= sum(map(len, segmenter.feed(text[start : start + size])))
        assert held <= limit + UNDECIDED


def _steps(text: str, size: int) -> int:
    """Return how many lines of the segmenter run for a text that comes in pieces of this size."""
    count: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if "sentence" not in frame.f_code.co_filename:
            return None
        count[event] += 1
        return trace

    segmenter = SentenceSegmenter(500)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for start in range(0, len(text), size):
            segmenter.feed(text[start : start + size])
        segmenter.flush()
    finally:
        sys.settrace(before)
    return count["line"]


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("size", [1, 5_000])
def test_the_work_is_linear_in_the_text(kind: str, size: int) -> None:
    """Counted in lines of Python. What one of them does is bounded as well: it sees the piece, or what is undecided."""
    half, whole = LONG[kind][:2_500], LONG[kind][:5_000]
    assert _steps(whole, size) <= 2.2 * _steps(half, size) + 200
