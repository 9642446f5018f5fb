"""The comparer of answers errs as often as it says, on pairs written by hand."""

from __future__ import annotations

import asyncio
from functools import cache

import pytest

from services.cache.comparing import ERROR, WEIGHTS, AnswerComparer, numbers, plain
from services.embedding import create_batcher
from services.embedding.settings import EmbeddingSettings
from tests.quality.answers.fitting import Pair, fitted, judge, out_of_fold, pairs

NEAR = 3
"""Pairs by which another machine's arithmetic may move the counts."""


@cache
def known() -> list[Pair]:
    return asyncio.run(pairs())


def test_the_error_that_it_states_is_the_one_out_of_fold() -> None:
    found = out_of_fold(known())
    assert (found.agreeing, found.differing) == (ERROR.agreeing, ERROR.differing)
    assert found.agreeing_missed == pytest.approx(ERROR.agreeing_missed, abs=NEAR)
    assert found.differing_missed == pytest.approx(ERROR.differing_missed, abs=NEAR)


def test_its_weights_are_fitted_on_all_pairs() -> None:
    assert fitted(known()) == pytest.approx(WEIGHTS, abs=0.05)


def test_in_sample_it_errs_hardly_less_than_out_of_fold() -> None:
    said = [(pair.agree, pair.said_same()) for pair in known()]
    alarms = sum(agree and not same for agree, same in said)
    missed = sum(same and not agree for agree, same in said)
    assert (alarms, missed) <= (ERROR.agreeing_missed, ERROR.differing_missed)
    assert missed >= ERROR.differing_missed * 0.7, "a fit that remembers its pairs"


async def test_short_answers_that_contradict_each_other_differ() -> None:
    embedder = await asyncio.to_thread(create_batcher, EmbeddingSettings())
    try:
        comparer = AnswerComparer(embedder, judge())
        for one, other in (
            ("Yes.", "No."),
            ("Yes, it is free.", "No, it is not free."),
            ("Shipping is free.", "Shipping is not free."),
            ("5 euros", "12 euros"),
            ("$5", "$12"),
            ("It costs 5 EUR.", "12 EUR"),
            ("Shipping costs 5 euros.", "Shipping costs 12 euros."),
            ("The library opens at nine.", "The library opens at ten."),
        ):
            assert not await comparer.same(one, other, tenant="a"), (one, other)
        for one, other in (
            ("5 euros", "It costs 5 euros."),
            ("Yes.", "Yes, it is."),
            ("The library opens at 9 am.", "It opens at nine."),
        ):
            assert await comparer.same(one, other, tenant="a"), (one, other)
    finally:
        await embedder.aclose()


async def test_it_compares_texts_by_itself() -> None:
    embedder = await asyncio.to_thread(create_batcher, EmbeddingSettings())
    try:
        comparer = AnswerComparer(embedder, judge())
        assert await comparer.same("**Canberra**", "Canberra", tenant="a")
        assert await comparer.same("The capital of Australia is Canberra.", "It is Canberra.", tenant="a")
        assert not await comparer.same("The capital of Australia is Canberra.", "Mix flour, eggs and milk.", tenant="a")
        assert not await comparer.same("Yes, for 14 days.", "No, this ticket cannot be cancelled.", tenant="a")
        assert await comparer.same("x" * 100_000, "x" * 100_000, tenant="a")
    finally:
        await embedder.aclose()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it costs 5,000 euros", {"5000"}),
        ("about 3.7 million", {"3.7e+06"}),
        ("about 3,700,000 people", {"3.7e+06"}),
        ("from 9 am to 5 pm", {"9:00", "17:00"}),
        ("between 9:00 and 17:00", {"9:00", "17:00"}),
        ("for two years, or 24 months", {"24"}),
        ("version 1.2.3", {"1.2.3"}),
        ("twelve and 12", {"12"}),
        ("at 12 pm", {"12:00"}),
        ("none", set()),
    ],
)
def test_one_number_has_one_form(text: str, found: set[str]) -> None:
    assert numbers(text) == found


def test_markup_says_nothing() -> None:
    assert plain("## Title\n\n* `one`\n* **two**") == "Title one two"
