"""How many requests survive failing models, and how many calls that takes. Counted, in virtual time, from a seed.

`SURVIVAL_REQUESTS` sets how many; `make campaign-survival` runs 20,000.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from services.chassis.errors import AntiphonError
from services.completion.request import CacheMode, CachePolicy
from services.completion.service import Timing
from services.completion.upstreams import failures
from services.completion.upstreams.failures import Complaint
from services.completion.upstreams.protocol import ChatEvent, ChatRequest
from tests.unit.completion.completion_parts import Rig, ScriptedUpstream, ask, rig, words

REQUESTS = int(os.environ.get("SURVIVAL_REQUESTS", "2000"))
SECONDS_BETWEEN = 0.01
"""Of virtual time between two requests: 100 per second."""

BYPASS = CachePolicy(mode=CacheMode.BYPASS)


@dataclass
class Clock:
    """Time that passes when somebody sleeps."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Failing:
    """Fails so often, in all the ways in which a server fails before its first token."""

    share: float
    rng: random.Random
    calls: int = 0

    def fail(self, name: str) -> None:
        self.calls += 1
        if self.rng.random() < self.share:
            ways = (
                failures.of_status(name, 500, Complaint()),
                failures.of_status(name, 503, Complaint()),
                failures.malformed(name, "nonsense"),
                failures.unreachable(name),
                failures.truncated(name),
            )
            raise self.rng.choice(ways)


@dataclass
class Survived:
    """What came of it."""

    requests: int = 0
    answered: int = 0
    attempts: Counter[int] = field(default_factory=Counter)
    """Answered requests by how many calls they took."""
    primary: int = 0
    fallback: int = 0


def _fails_first(upstream: ScriptedUpstream, failing: Failing) -> None:
    async def stream(
        request: ChatRequest, *, timeout: float, connect_timeout: float | None = None
    ) -> AsyncGenerator[Sequence[ChatEvent], None]:
        failing.fail(upstream.name)
        yield words("An answer.")

    upstream.stream = stream  # type: ignore[method-assign]


@asynccontextmanager
async def failing(primary: float, fallback: float, seed: int = 1) -> AsyncIterator[tuple[Rig, Clock, Failing, Failing]]:
    rng, clock = random.Random(seed), Clock()
    async with rig(timing=Timing(clock.monotonic, clock.sleep, rng)) as r:
        one, two = Failing(primary, rng), Failing(fallback, rng)
        _fails_first(r.one, one)
        _fails_first(r.two, two)
        yield r, clock, one, two


async def survive(primary: float, fallback: float, requests: int = REQUESTS) -> Survived:
    survived = Survived(requests)
    async with failing(primary, fallback) as (r, clock, one, two):
        for number in range(requests):
            clock.now += SECONDS_BETWEEN
            try:
                completed = (await r.complete(ask(f"{number}?", policy=BYPASS))).completed
            except AntiphonError:
                continue
            survived.answered += 1
            survived.attempts[len(completed.attempts)] += 1
        survived.primary, survived.fallback = one.calls, two.calls
    print(f"primary fails {primary:.0%}, fallback {fallback:.0%}: {survived}")
    return survived


@pytest.mark.fault(18, 55)
async def test_a_primary_that_fails_one_call_in_five_is_hardly_noticed_and_hardly_called_more() -> None:
    survived = await survive(0.20, 0.01)
    assert survived.answered / survived.requests >= 0.9995
    assert survived.primary / survived.requests <= 1.12


@pytest.mark.fault(39)
async def test_nobody_waits_for_a_dead_primary_once_its_breaker_is_open() -> None:
    survived = await survive(1.0, 0.01)
    assert survived.answered / survived.requests >= 0.999
    # Five opened it; then one probe at a time, at intervals that double up to 30 s.
    probes = 6 + survived.requests * SECONDS_BETWEEN / 24
    assert survived.primary <= 5 * 2 + probes
    again_at_the_fallback = survived.fallback - survived.requests
    assert survived.requests - survived.attempts[1] <= survived.primary + again_at_the_fallback


@pytest.mark.fault(55)
async def test_an_outage_is_not_multiplied() -> None:
    survived = await survive(1.0, 1.0)
    assert survived.answered == 0
    assert survived.primary + survived.fallback <= survived.requests * 0.1


@pytest.mark.fault(39)
async def test_a_primary_that_comes_back_is_called_again() -> None:
    async with failing(1.0, 0.0) as (r, clock, one, _):
        for number in range(20):
            assert (await r.complete(ask(f"{number}?", policy=BYPASS))).completed.answer.model == "large"
        one.share = 0.0
        clock.now += 60.0
        for number in range(20):
            assert (await r.complete(ask(f"{number}!", policy=BYPASS))).completed.answer.model == "small"
