"""Three times more requests than a model can take, in virtual time: what it still answers, and for whom.

The model's server runs so many calls at once, each for about so long, and refuses more with 429, after which a call is
tried again within the retry budget. Callers come at random, give up at their deadline, and do not come again.
`OVERLOADS` sets how many seeds; `make campaign-survival` runs 200.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from services.completion.resilience.adaptive_limit import AdaptiveLimit, LimitTerms
from services.completion.resilience.admission import Admission, Shed, Ticket
from services.completion.resilience.backoff import full_jitter
from services.completion.resilience.policy import MOST_TRIES
from services.completion.resilience.retry_budget import RetryBudget

SEEDS = int(os.environ.get("OVERLOADS") or 10)
PLACES = 20
CALL_SECONDS = 0.2
CAPACITY = PLACES / CALL_SECONDS
"""Calls per second."""

DEADLINE = 2.0
OVERLOAD = (20.0, 50.0)
"""Seconds between which three times as many come as can be served; before and after it is half of that."""

END = 70.0
URGENT_SHARE = 0.2
"""Of those who come: what matters most fits into the capacity, whatever else comes."""


@dataclass
class Caller:
    came: float
    urgent: bool
    answered: float | None = None
    tries: int = 0
    ticket: Ticket | None = None


@dataclass
class World:
    """One model, its server, and who comes."""

    seed: int
    now: float = 0.0
    running: int = 0
    refusals: int = 0
    callers: list[Caller] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.admission = Admission(AdaptiveLimit(LimitTerms(100, 1000)), longest=5.0)
        self.budget = RetryBudget(0.1, 0.0)

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), what))

    def run(self) -> None:
        self._arrive()
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            what()

    def _arrive(self) -> None:
        if self.now >= END:
            return
        rate = CAPACITY * (3.0 if OVERLOAD[0] <= self.now < OVERLOAD[1] else 0.5)
        self.at(self.now + self.rng.expovariate(rate), self._arrive)
        caller = Caller(self.now, urgent=self.rng.random() < URGENT_SHARE)
        self.callers.append(caller)
        self.budget.earn()
        self._enter(caller)

    def _enter(self, caller: Caller) -> None:
        remaining = caller.came + DEADLINE - self.now
        entered = self.admission.enter(
            self.now,
            priority=0 if caller.urgent else -1,
            remaining=remaining,
            wake=lambda: self.at(self.now, lambda: self._call(caller)),
        )
        if isinstance(entered, Shed):
            return
        caller.ticket = entered
        if entered.admitted:
            self._call(caller)
        else:
            patience = max(self.admission.patience(remaining), 0.0)
            self.at(self.now + patience, lambda: self._give_up(entered))

    def _give_up(self, ticket: Ticket) -> None:
        if not ticket.admitted:
            self.admission.leave(ticket, self.now)

    def _call(self, caller: Caller) -> None:
        """The server takes the call, or refuses it at once."""
        caller.tries += 1
        began = self.now
        if self.running >= PLACES:
            self.refusals += 1
            self.at(self.now + 0.005, lambda: self._refused(caller, began))
            return
        self.running += 1
        self.at(self.now + CALL_SECONDS * self.rng.uniform(0.5, 1.5), lambda: self._answered(caller))

    def _refused(self, caller: Caller, began: float) -> None:
        assert caller.ticket is not None
        self.admission.limit.overloaded(began, self.now)
        self.admission.leave(caller.ticket, self.now)
        wait = full_jitter(caller.tries, self.rng)
        if caller.tries < MOST_TRIES and self.now + wait < caller.came + DEADLINE and self.budget.spend(self.now):
            self.at(self.now + wait, lambda: self._enter(caller))

    def _answered(self, caller: Caller) -> None:
        assert caller.ticket is not None
        self.running -= 1
        self.admission.limit.succeeded(self.admission.in_flight)
        self.admission.leave(caller.ticket, self.now, answered=True)
        if self.now <= caller.came + DEADLINE:
            caller.answered = self.now

    def goodput(self, start: float, end: float) -> float:
        """Answers in time per second."""
        return sum(start <= (caller.answered or -1.0) < end for caller in self.callers) / (end - start)

    def served(self, *, urgent: bool, start: float, end: float) -> float:
        """The share of those who came in this time and were answered."""
        came = [caller for caller in self.callers if caller.urgent is urgent and start <= caller.came < end]
        return sum(caller.answered is not None for caller in came) / len(came)


@pytest.mark.fault(54)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_three_times_the_load_costs_little_goodput_and_nothing_of_what_is_urgent(seed: int) -> None:
    world = World(seed)
    world.run()
    settled = OVERLOAD[0] + 5.0
    goodput = world.goodput(settled, OVERLOAD[1]) / CAPACITY
    urgent = world.served(urgent=True, start=settled, end=OVERLOAD[1])
    after = world.served(urgent=False, start=OVERLOAD[1] + 5.0, end=END - DEADLINE)
    print(
        f"seed {seed}: goodput {goodput:.1%}, urgent {urgent:.2%}, batch 5 s after {after:.2%}, 429s {world.refusals}"
    )
    assert goodput >= 0.95
    assert urgent >= 0.999
    assert after >= 0.99
    assert world.admission.in_flight == world.admission.waiting == 0
