"""When a failing model is left alone, and how it comes back."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from services.completion.resilience.breaker import SHARE, WINDOW, Breaker, BreakerTerms, Permit, State

TERMS = BreakerTerms(failures=5, first_open=1.0, most_open=8.0)


class Middle(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def breaker() -> Breaker:
    return Breaker(TERMS, Middle())


def begin(b: Breaker, now: float = 0.0) -> Permit:
    permit = b.begin(now)
    assert permit is not None
    return permit


def opened(now: float = 0.0) -> Breaker:
    b = breaker()
    for _ in range(TERMS.failures):
        b.failed(begin(b, now), now)
    assert b.state is State.OPEN
    return b


def test_failures_in_a_row_open_it_and_one_success_between_them_does_not() -> None:
    b = breaker()
    for _ in range(TERMS.failures - 1):
        b.failed(begin(b), 0.0)
    b.succeeded(begin(b))
    for _ in range(TERMS.failures - 1):
        b.failed(begin(b), 0.0)
    assert b.state is State.CLOSED
    b.failed(begin(b), 0.0)
    assert (b.state, b.begin(0.5), b.blocked(0.5)) == (State.OPEN, None, 0.5)


def test_many_failures_between_successes_open_it() -> None:
    b = breaker()
    for number in range(WINDOW):
        b.failed(begin(b), 0.0) if number % 3 else b.succeeded(begin(b))
    assert b.state is State.OPEN
    assert WINDOW * 2 / 3 > SHARE * WINDOW


def test_one_call_at_a_time_probes_and_its_first_content_closes() -> None:
    b = opened()
    probe = begin(b, 1.0)
    assert (probe.probe, b.state, b.begin(1.0)) == (True, State.HALF_OPEN, None)
    b.answering(probe)
    assert b.state is State.CLOSED
    assert begin(b, 1.0).probe is False


def test_a_probe_that_fails_doubles_the_wait_up_to_its_bound() -> None:
    b, now, waits = opened(), 0.0, []
    for _ in range(5):
        waits.append(b.blocked(now))
        now += waits[-1]
        b.failed(begin(b, now), now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0]


def test_a_probe_that_is_given_up_by_its_caller_says_nothing_and_makes_room_for_another() -> None:
    b = opened()
    b.left(begin(b, 1.0))
    assert b.state is State.HALF_OPEN
    assert begin(b, 1.0).probe is True


def test_calls_that_began_before_it_opened_change_nothing() -> None:
    b = breaker()
    before = begin(b)
    for _ in range(TERMS.failures):
        b.failed(begin(b), 0.0)
    b.succeeded(before)
    b.failed(before, 0.0)
    assert (b.state, b.blocked(0.0)) == (State.OPEN, 1.0)


def test_it_forgets_how_it_was_once_closed() -> None:
    b = opened()
    b.succeeded(begin(b, 1.0))
    for _ in range(TERMS.failures - 1):
        b.failed(begin(b, 1.0), 1.0)
    assert b.state is State.CLOSED
    b.failed(begin(b, 1.0), 1.0)
    assert b.blocked(1.0) == 1.0


@given(st.lists(st.sampled_from(["begin", "ok", "fail", "left", "first", "wait"]), max_size=200))
def test_never_two_probes_and_never_shut_for_good(steps: list[str]) -> None:
    b, now, running = breaker(), 0.0, []
    for step in steps:
        if step == "wait":
            now += 0.5
        elif step == "begin":
            if (permit := b.begin(now)) is not None:
                running.append(permit)
        elif running:
            permit = running.pop(0)
            match step:
                case "ok":
                    b.succeeded(permit)
                case "fail":
                    b.failed(permit, now)
                case "left":
                    b.left(permit)
                case "first":
                    b.answering(permit)
                    running.append(permit)
        if b.state is State.HALF_OPEN:
            assert sum(permit.probe and permit.era == b._era for permit in running) <= 1
    for permit in running:
        b.left(permit)
    assert b.begin(now + TERMS.most_open * 2) is not None
