"""How many calls a model is given, and who waits for a place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from services.completion.resilience.adaptive_limit import DECREASE, AdaptiveLimit, LimitTerms, Remaining
from services.completion.resilience.admission import Admission, Shed, Ticket


def admission(places: int = 1, *, longest: float = 5.0) -> Admission:
    return Admission(AdaptiveLimit(LimitTerms(places, places)), longest=longest)


def enter(
    a: Admission,
    *,
    now: float = 0.0,
    priority: int = 0,
    remaining: float = 60.0,
    wake: Callable[[], None] = lambda: None,
) -> Ticket:
    entered = a.enter(now, priority=priority, remaining=remaining, wake=wake)
    assert isinstance(entered, Ticket)
    return entered


def call(a: Admission, seconds: float) -> None:
    """One call that takes so long."""
    a.leave(enter(a), seconds, answered=True)


# --- the limit --------------------------------------------------------------------------------------------------------


def test_it_grows_fast_until_the_first_sign_of_too_much_and_slowly_after_it() -> None:
    limit = AdaptiveLimit(LimitTerms(10, 1000))
    for _ in range(90):
        limit.succeeded(1000)
    assert limit.allowed(0.0) == 100
    limit.overloaded(began=0.0, now=1.0)
    assert limit.allowed(1.0) == int(100 * DECREASE)
    for _ in range(91):
        limit.succeeded(1000)
    assert limit.allowed(1.0) == int(100 * DECREASE) + 1


def test_calls_from_before_the_decrease_do_not_decrease_it_again() -> None:
    limit = AdaptiveLimit(LimitTerms(100, 1000))
    for _ in range(50):
        limit.overloaded(began=0.0, now=1.0)
    assert limit.allowed(1.0) == int(100 * DECREASE)
    limit.overloaded(began=1.5, now=2.0)
    assert limit.allowed(2.0) == int(100 * DECREASE * DECREASE)


def test_a_limit_that_is_not_used_does_not_grow_and_one_never_falls_below_one_call() -> None:
    limit = AdaptiveLimit(LimitTerms(10, 1000))
    for _ in range(100):
        limit.succeeded(2)
    assert limit.allowed(0.0) == 10
    for second in range(100):
        limit.overloaded(began=second, now=second)
    assert limit.allowed(100.0) == 1


def test_what_the_server_says_is_left_is_believed_for_a_while() -> None:
    limit = AdaptiveLimit(LimitTerms(100, 1000))
    limit.told(Remaining(3, 1.0), in_flight=2, now=0.0)
    assert (limit.allowed(0.5), limit.allowed(1.0)) == (5, 100)


# --- the queue --------------------------------------------------------------------------------------------------------


def test_whoever_finds_no_place_waits_and_is_woken_in_order() -> None:
    a, woken = admission(), list[int]()
    first = enter(a)
    for number in range(3):
        assert not enter(a, wake=partial(woken.append, number)).admitted
    a.leave(first, 1.0, answered=True)
    assert (woken, a.in_flight, a.waiting) == ([0], 1, 2)


def test_higher_priorities_go_first() -> None:
    a, woken = admission(), list[int]()
    running = [enter(a)]
    for priority in (-5, 0, 7, -1, 3):
        ticket = enter(a, priority=priority, wake=partial(woken.append, priority))
        running.append(ticket)
    for _ in range(5):
        a.leave(next(t for t in running if t.admitted and not t.gone), 1.0)
    assert woken == [7, 3, 0, -1, -5]


def test_somebody_urgent_on_the_same_ticket_moves_it_forward() -> None:
    a, woken = admission(), list[str]()
    first = enter(a)
    enter(a, wake=lambda: woken.append("other"))
    shared = enter(a, priority=-1, wake=lambda: woken.append("shared"))
    a.raise_to(shared, 5)
    a.leave(first, 1.0)
    assert woken == ["shared"]


def test_whoever_would_wait_too_long_is_told_at_once_and_when_to_come_again() -> None:
    a = admission(longest=5.0)
    call(a, 2.0)
    enter(a)
    assert isinstance(a.enter(0.0, priority=0, remaining=60.0, wake=lambda: None), Ticket)
    assert isinstance(a.enter(0.0, priority=0, remaining=60.0, wake=lambda: None), Ticket)
    shed = a.enter(0.0, priority=0, remaining=60.0, wake=lambda: None)
    assert isinstance(shed, Shed)
    assert shed.seconds > 0
    # The queue is full of less urgent work, which does not count.
    assert isinstance(a.enter(0.0, priority=1, remaining=60.0, wake=lambda: None), Ticket)


def test_who_has_no_time_for_the_wait_and_the_call_is_told_at_once() -> None:
    a = admission(longest=100.0)
    call(a, 2.0)
    enter(a)
    assert isinstance(a.enter(0.0, priority=0, remaining=7.9, wake=lambda: None), Shed)
    assert isinstance(a.enter(0.0, priority=0, remaining=8.1, wake=lambda: None), Ticket)


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "give up", "raise"]), st.integers(-3, 3)), max_size=200))
def test_places_are_neither_lost_nor_given_twice(steps: list[tuple[str, int]]) -> None:
    a, tickets = admission(3), list[Ticket]()
    for now, (step, number) in enumerate(steps):
        inside = [ticket for ticket in tickets if ticket.admitted]
        outside = [ticket for ticket in tickets if not ticket.admitted]
        if step == "enter":
            entered = a.enter(now, priority=number, remaining=1e9, wake=lambda: None)
            if isinstance(entered, Ticket):
                tickets.append(entered)
        elif step == "leave" and inside:
            tickets.remove(inside[number % len(inside)])
            a.leave(inside[number % len(inside)], now)
        elif step == "give up" and outside:
            tickets.remove(outside[number % len(outside)])
            a.leave(outside[number % len(outside)], now)
        elif step == "raise" and outside:
            a.raise_to(outside[number % len(outside)], number)
        admitted = sum(ticket.admitted for ticket in tickets)
        assert (a.in_flight, a.waiting) == (admitted, len(tickets) - admitted)
        assert admitted == min(3, len(tickets))
