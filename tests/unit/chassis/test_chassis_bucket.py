"""Token buckets against a plain account of what went in and out."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.auth.bucket import SECONDS, Bucket

sizes = st.integers(1, 10**6)
# Sixty-fourths of a second: sums of them are exact, so that the account below can be, too.
waits = st.integers(0, 64 * 100_000).map(lambda n: n / 64)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), waits),
        st.tuples(st.just("take"), st.just(1)),
        st.tuples(st.just("charge"), st.integers(0, 10**7)),
        st.tuples(st.just("resize"), sizes),
    ),
    max_size=40,
)
NEAR = 1e-3
"""Of a request; what floats lose in these sums stays far below."""


@given(sizes, steps)
def test_it_holds_what_an_exact_account_says(per_minute: int, plan: list[tuple[str, float]]) -> None:
    clock = 0.0
    bucket = Bucket(per_minute, lambda: clock)
    level, size = Fraction(per_minute), Fraction(per_minute)
    for what, amount in plan:
        if what == "wait":
            clock += amount
            level = min(level + Fraction(amount) * size / 60, size)
        elif what == "charge":
            bucket.charge(int(amount))
            level -= int(amount)
        elif what == "resize":
            bucket.resize(int(amount))
            level += int(amount) - size
            size = Fraction(int(amount))
        elif level >= 1 + NEAR:
            assert bucket.take() == 0
            level -= 1
        elif level <= 1 - NEAR:
            assert bucket.take() > 0
        else:  # too near for floats to tell: see which it was
            level -= bucket.take() == 0
        assert abs(bucket.level() - level) < NEAR


@pytest.mark.parametrize("refusal", [Bucket.take, Bucket.shortage])
@given(sizes, st.integers(0, 10**7), waits)
def test_whoever_waits_as_long_as_told_finds_room_and_not_long_before(
    refusal: Callable[[Bucket], float], per_minute: int, used: int, start: float
) -> None:
    clock = start
    bucket = Bucket(per_minute, lambda: clock)
    bucket.charge(used)
    if wait := refusal(bucket):
        clock += wait * 0.98
        assert bucket.level() < 1
        clock += wait * 0.02 + 0.001
        assert refusal(bucket) == 0


@given(sizes)
def test_a_minute_buys_a_minute_and_waiting_longer_no_more(per_minute: int) -> None:
    clock = 0.0
    bucket = Bucket(per_minute, lambda: clock)
    bucket.charge(per_minute)
    assert bucket.shortage() > 0
    clock += SECONDS * 1000
    assert bucket.level() == per_minute
    clock -= 5.0  # a clock that steps back gives nothing and takes nothing
    assert bucket.level() == per_minute
