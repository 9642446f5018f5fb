"""What follows from what is said about an entry."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.quarantine import reviewed
from services.cache.review import UNREVIEWED, VOICES, FeedbackSource, Review, Said

USER, JUDGE, AUDIT, OPERATOR = FeedbackSource
USERS = 3
_times = count(1)


def said(
    source: FeedbackSource = USER, by: str = "a", *, right: bool = False, semantic: bool = True, what: str = ""
) -> Said:
    return Said(source, by, what or f"{source}/{by}/{next(_times)}", right, semantic, next(_times))


def after(*voices: Said, users: int = USERS) -> Review:
    review = UNREVIEWED
    for voice in voices:
        review = reviewed(review, voice, users=users)
    return review


def rule(*voices: Said, users: int = USERS) -> tuple[str, bool] | None:
    quarantine = after(*voices, users=users).quarantine
    return None if quarantine is None else (quarantine.rule, quarantine.whole)


def users(*names: str, right: bool = False, semantic: bool = True) -> list[Said]:
    return [said(by=name, right=right, semantic=semantic) for name in names]


@pytest.mark.parametrize("semantic", [True, False])
def test_an_operators_wrong_keeps_it_from_every_question(semantic: bool) -> None:
    assert rule(said(OPERATOR, semantic=semantic)) == ("operator", True)


@pytest.mark.parametrize("source", [JUDGE, AUDIT])
def test_one_comparison_is_enough(source: FeedbackSource) -> None:
    assert rule(said(source)) == (source.value, False)
    assert rule(said(source, semantic=False)) == (source.value, True)
    assert rule(said(source), said(source, right=True, semantic=False)) == (source.value, False)


def test_it_takes_several_people() -> None:
    assert rule(*users("a", "b")) is None
    assert rule(*users("a", "a", "a", "a")) is None
    assert rule(*users("a", "b", "c")) == ("users", False)
    assert rule(*users("a", "b", "c", semantic=False)) == ("users", True)
    assert rule(said(), users=1) == ("users", False)


def test_people_who_are_content_count_too() -> None:
    assert rule(*users("a", "b", "c"), *users("d", "e", "f", right=True)) is None
    assert rule(*users("a", "b", "c"), *users("d", "e", right=True)) == ("users", False)
    assert rule(*users("a", "b", "c"), *users("a", right=True)) is None, "of one person the latest counts"


def test_an_answer_that_is_wrong_for_its_own_question_is_wrong_for_others() -> None:
    assert rule(*users("a", "b", semantic=False), *users("c")) == ("users", False)


def test_the_operators_last_word_settles_what_was_said_before() -> None:
    assert rule(said(JUDGE), said(OPERATOR, right=True)) is None
    assert rule(*users("a", "b", "c"), said(OPERATOR, right=True), *users("d", "e")) is None
    assert rule(said(OPERATOR, right=True), said(JUDGE)) == ("judge", False), "what comes later counts"
    assert rule(said(OPERATOR), said(OPERATOR, "another", right=True)) is None
    assert rule(said(OPERATOR), *users(*map(str, range(9)), right=True)) == ("operator", True)


def test_what_was_said_before_changes_nothing() -> None:
    once = said(what="x")
    review = after(once, *users("b"))
    assert reviewed(review, once, users=USERS) is review
    again = said(what="x", right=True)
    assert [one.right for one in reviewed(review, again, users=USERS).said] == [False, True]


def test_an_operator_who_repeats_a_word_after_others_means_it_once_more() -> None:
    right, wrong = said(OPERATOR, right=True, semantic=False, what="r"), said(OPERATOR, what="w")
    assert after(right, wrong, right).quarantine is None
    assert after(wrong, right, wrong).quarantine is not None
    assert after(right, said(JUDGE), right).quarantine is None, "also after another's word"
    review = after(right, wrong)
    assert reviewed(review, wrong, users=USERS) is review, "a call that is repeated counts once"
    assert reviewed(review, right, users=USERS, named=True) is review, "and so does feedback with an id, always"


def test_it_is_quarantined_since_the_first_time() -> None:
    first = after(*users("a", "b", "c"))
    then = reviewed(first, said(by="d"), users=USERS)
    assert first.quarantine == then.quarantine


VOICE = st.builds(
    said,
    source=st.sampled_from(FeedbackSource),
    by=st.sampled_from([str(number) for number in range(VOICES)]),
    right=st.booleans(),
    semantic=st.booleans(),
)


@given(st.lists(VOICE, max_size=3 * VOICES))
def test_what_is_kept_is_bounded_and_never_without_the_operators_last_word(voices: list[Said]) -> None:
    review = after(*voices)
    assert len(review.said) <= VOICES
    words = [voice for voice in voices if voice.source is OPERATOR]
    if words:
        assert words[-1] in review.said
        if not words[-1].right:
            assert review.quarantine is not None
            assert review.quarantine.whole
