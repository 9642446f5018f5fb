"""What is over is over: by time, by age, by the version of what it was made from, wherever clocks stand."""

from __future__ import annotations

import asyncio
import random

import pytest

from services.cache.clock import MAX_LEAD_SECONDS, SETTLED_SECONDS, Clock
from services.cache.entry import CLOCK_SKEW_US, MICROSECONDS
from services.cache.fill_values import Granted, InProgress
from services.cache.values import Mode, Outcome, Policy
from tests.unit.cache import cache_parts
from tests.unit.cache.cache_parts import TENANT, Bench, answer, benched

ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
HOUR = 3_600.0
DAY = 86_400.0
ONLY = Policy(mode=Mode.ONLY_IF_CACHED)
STALE = Policy(stale=60.0)


async def served(bench: Bench, text: str = ASKED, policy: Policy = ONLY) -> str | None:
    found = await bench.look(text, policy)
    return found.entry.answer.text if found.entry else None


# --- clocks (row 58) -------------------------------------------------------------------------------------------------


@pytest.mark.fault(58)
@pytest.mark.parametrize("seed", range(20))
async def test_no_jump_of_the_wall_clock_lets_an_answer_outlive_its_time(seed: int) -> None:
    """Jumps of up to a day, both ways, at random moments: what is served has lived no longer than it may."""
    chance = random.Random(seed)
    async with benched(ttl=10 * DAY) as bench:
        bench.embedder.alike(REWORDED, ASKED, 0.95)
        born: dict[str, tuple[float, float]] = {}
        hits = 0
        for step in range(60):
            text = f"the question number {chance.randrange(6)}"
            match chance.randrange(4):
                case 0:
                    ttl = chance.uniform(0.1, 30.0) * HOUR
                    await bench.put(text, f"{step}", Policy(ttl=ttl))
                    born[text] = (bench.clock.mono, ttl)
                case 1:
                    bench.clock.wall += chance.uniform(-DAY, DAY)
                case 2:
                    bench.clock.advance(chance.uniform(0.0, 5.0) * HOUR)
                case _:
                    if await served(bench, text) is not None:
                        made, ttl = born[text]
                        assert bench.clock.mono - made <= ttl
                        hits += 1
        assert hits or seed
        bench.clock.advance(2 * DAY)
        bench.clock.wall -= DAY
        for text, (made, ttl) in born.items():
            assert await served(bench, text) is None or bench.clock.mono - made <= ttl


async def test_what_a_clock_hid_that_was_ahead_is_not_deleted() -> None:
    async with benched() as bench:
        await bench.put(ASKED)
        bench.clock.wall += 2 * DAY
        assert await served(bench) is None
        assert bench.cache.entries.pop_expired(int(bench.cache.purging._clock.settled() * MICROSECONDS), 10) == []


def test_what_is_deleted_is_deleted_by_a_time_that_has_lasted() -> None:
    wall = cache_parts.Clock()
    clock = Clock(wall.now, wall.monotonic)
    assert clock.settled() == clock.now() == cache_parts.START
    wall.wall += DAY  # the machine slept, or someone set the clock: nobody can tell
    assert clock.now() == cache_parts.START + DAY
    assert clock.settled() == cache_parts.START
    for _ in range(13):
        wall.advance(SETTLED_SECONDS / 12)
        clock.settled()
    assert clock.settled() == clock.now()
    before = clock.now()
    wall.wall -= 2 * DAY
    wall.advance(1.0)
    assert clock.now() == before + 1.0
    assert clock.settled() == cache_parts.START + 13 * SETTLED_SECONDS / 12 + 1.0


# --- replicas whose clocks differ (row 90) ---------------------------------------------------------------------------


@pytest.mark.fault(90)
def test_a_slow_clock_follows_a_fast_one_by_minutes_and_not_by_hours() -> None:
    wall = cache_parts.Clock()
    clock = Clock(wall.now, wall.monotonic)
    ahead = cache_parts.START + 300
    clock.follow([int(ahead * MICROSECONDS)])
    assert clock.now() == pytest.approx(ahead, abs=1e-3)
    wall.advance(10)
    assert clock.now() == pytest.approx(ahead + 10, abs=1e-3)
    clock.follow([int((ahead + MAX_LEAD_SECONDS + 60) * MICROSECONDS), int((ahead + 100) * MICROSECONDS)])
    assert clock.now() == pytest.approx(ahead + 100, abs=1e-3), "the wild one is not believed, the other one is"
    wall.wall += 400  # mended: it goes by its own clock again
    assert clock.now() == pytest.approx(cache_parts.START + 410, abs=1e-3)


@pytest.mark.fault(90)
async def test_an_entry_from_beyond_the_skew_is_not_served_until_its_time_has_come() -> None:
    async with benched() as bench:
        entry = await bench.put(ASKED)
        bench.cache.entries.remove(entry)
        wild = cache_parts.Clock()
        wild.wall += DAY
        made = Bench()
        made.clock.wall += DAY
        theirs = await made.put(ASKED, "of tomorrow")
        await made.cache.aclose()
        bench.cache._storing.adopt([cache_parts.Write(theirs, None)])
        assert await served(bench) is None
        bench.clock.advance(DAY - CLOCK_SKEW_US / MICROSECONDS + 1)
        assert await served(bench) == "of tomorrow"


# --- time, age, hits -------------------------------------------------------------------------------------------------


@pytest.mark.fault(62)
async def test_time_is_over_in_the_middle_of_a_lookup_and_the_answer_is_whole_or_missing() -> None:
    async with benched() as bench:
        bench.embedder.alike(REWORDED, ASKED, 0.95)
        await bench.put(ASKED, policy=Policy(ttl=10.0))
        bench.embedder.gate.clear()
        looking = asyncio.create_task(bench.look(REWORDED))
        await asyncio.sleep(0)
        bench.clock.advance(11)
        bench.embedder.gate.set()
        found = await looking
        assert (found.outcome, found.entry) == (Outcome.MISS, None)
        assert isinstance(found.fill, Granted)
        assert await served(bench) is None, "not swept yet, and not served all the same"


async def test_hits_do_not_lengthen_a_life_and_age_is_a_limit_of_its_own() -> None:
    async with benched() as bench:
        entry = await bench.put(ASKED, policy=Policy(ttl=100.0))
        for _ in range(9):
            bench.clock.advance(10)
            assert await served(bench) == "an answer"
        assert await served(bench, policy=Policy(mode=Mode.ONLY_IF_CACHED, max_age=80.0)) is None
        assert bench.cache.entries.find_any(TENANT, entry.id) is entry
        bench.clock.advance(10)
        assert await served(bench) is None


async def test_lives_differ_a_little_so_that_they_do_not_end_together() -> None:
    async with benched(ttl=100.0) as bench:
        ends = []
        for number in range(20):
            bench.chance = number / 20
            ends.append((await bench.put(f"the question number {number}")).expires_at - bench.clock.wall)
        assert max(ends) == pytest.approx(100.0)
        assert min(ends) == pytest.approx(95.25)
        assert len(set(ends)) == 20


# --- sources ---------------------------------------------------------------------------------------------------------


def docs(version: str, **fields: object) -> Policy:
    return Policy(sources=(("docs", version),), **fields)  # type: ignore[arg-type]


async def test_answers_from_another_version_of_a_source_do_not_hit() -> None:
    async with benched() as bench:
        bench.embedder.alike(REWORDED, ASKED, 0.95)
        await bench.put(ASKED, "from v2", docs("v2"))
        assert await served(bench, policy=docs("v2")) == "from v2"
        assert (await bench.look(REWORDED, docs("v2"))).outcome is Outcome.SEMANTIC
        assert await served(bench) == "from v2", "who does not name a source does not care"
        for text in (ASKED, REWORDED):
            missed = await bench.look(text, docs("v3"))
            assert (missed.outcome, missed.decision.vetoes) == (Outcome.MISS, ("outdated",))
        stale = await bench.look(ASKED, docs("v3", stale=60.0))
        assert stale.outcome is Outcome.MISS
        await bench.put(ASKED, "from v3", docs("v3"))
        assert await served(bench, policy=docs("v3")) == "from v3"
        assert await served(bench, policy=docs("v2")) is None
        both = Policy(sources=(("docs", "v3"), ("prices", "may")))
        assert await served(bench, policy=both) is None


async def test_nobody_waits_for_an_answer_that_is_made_from_another_version() -> None:
    async with benched() as bench:
        first = await bench.look(ASKED, docs("v2"))
        second = await bench.look(ASKED, docs("v3"))
        third = await bench.look(ASKED, docs("v3"))
        assert isinstance(first.fill, Granted)
        assert isinstance(second.fill, Granted)
        assert third.fill == InProgress(second.fill.lease_id)


# --- stale while it is made anew -------------------------------------------------------------------------------------


async def test_a_stale_answer_is_served_while_one_caller_makes_it_anew() -> None:
    async with benched(stale=HOUR) as bench:
        bench.embedder.alike(REWORDED, ASKED, 0.95)
        await bench.put(ASKED, "old", Policy(ttl=10.0))
        assert (await bench.look(ASKED, STALE)).outcome is Outcome.EXACT
        bench.clock.advance(30)
        first = await bench.look(ASKED, STALE)
        assert first.outcome is Outcome.STALE
        assert first.entry is not None
        assert first.entry.answer.text == "old"
        assert isinstance(first.fill, Granted)
        others = [await bench.look(ASKED, STALE) for _ in range(10)]
        assert {one.outcome for one in others} == {Outcome.STALE}
        assert {one.fill for one in others} == {InProgress(first.fill.lease_id)}, "one refresh per entry"
        assert (await bench.look(ASKED, Policy(mode=Mode.ONLY_IF_CACHED, stale=60.0))).fill is None
        assert (await bench.look(ASKED)).fill == InProgress(first.fill.lease_id), "others wait for it"
        assert (await bench.look(REWORDED, STALE)).outcome is Outcome.MISS
        await bench.cache.commit(TENANT, first.fill.lease_id, answer("new"), durable=False)
        assert (await bench.look(ASKED, STALE)).outcome is Outcome.EXACT
        assert await served(bench) == "new"
        counted = (await bench.cache.report(TENANT, None)).tally.outcomes
        assert counted[Outcome.STALE] == 12


async def test_an_abandoned_refresh_goes_to_the_next_who_asks() -> None:
    async with benched() as bench:
        await bench.put(ASKED, policy=Policy(ttl=10.0))
        bench.clock.advance(30)
        first = await bench.look(ASKED, STALE)
        assert isinstance(first.fill, Granted)
        bench.cache.abort(TENANT, first.fill.lease_id)
        second = await bench.look(ASKED, STALE)
        assert second.outcome is Outcome.STALE
        assert isinstance(second.fill, Granted)


async def test_stale_has_an_end_the_callers_and_the_operators() -> None:
    async with benched(stale=HOUR) as bench:
        await bench.put(ASKED, policy=Policy(ttl=100.0))
        bench.clock.advance(130)
        assert (await bench.look(ASKED, STALE)).outcome is Outcome.STALE
        assert (await bench.look(ASKED, Policy(stale=20.0))).outcome is Outcome.MISS
        bench.clock.advance(40)
        assert (await bench.look(ASKED, STALE)).outcome is Outcome.MISS
        bench.clock.advance(HOUR)
        assert (await bench.look(ASKED, Policy(stale=DAY))).outcome is Outcome.MISS


async def test_an_answer_that_is_too_old_for_its_caller_is_stale_for_it() -> None:
    async with benched() as bench:
        await bench.put(ASKED)
        bench.clock.advance(100)
        assert (await bench.look(ASKED, Policy(max_age=50.0))).outcome is Outcome.MISS
        assert (await bench.look(ASKED, Policy(max_age=50.0, stale=60.0))).outcome is Outcome.STALE
        bench.clock.advance(20)
        assert (await bench.look(ASKED, Policy(max_age=50.0, stale=60.0))).outcome is Outcome.MISS
