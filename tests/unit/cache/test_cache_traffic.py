"""Lookups by hour, and the entries that answered most of them, in bounded memory."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.cache.entry import Entry, Source
from services.cache.listing import Wanted
from services.cache.recovery import Phase
from services.cache.traffic import HOUR, MAX_COUNTERS, MAX_HOURS, MAX_TENANTS, Traffic
from services.cache.values import LookupResult, Mode, Outcome, Policy
from tests.unit.cache.cache_parts import START, TENANT, answer, ask, benched

NOW = float(int(START) // HOUR * HOUR)


def hit(number: int, outcome: Outcome = Outcome.EXACT) -> LookupResult:
    entry = Entry(
        id=f"e{number}",
        tenant=TENANT,
        namespace="default",
        scope="",
        key="",
        question="?",
        answer=answer(),
        created_us=0,
        updated_us=0,
        expires_us=0,
        ver=0,
        epoch=0,
        source=Source.PUT,
    )
    return LookupResult(outcome, entry=entry)


def test_hours_are_counted_apart_and_the_oldest_go() -> None:
    now = NOW
    counted = Traffic()
    counted.count(TENANT, hit(1), now)
    counted.count(TENANT, hit(1, Outcome.STALE), now)
    counted.count(TENANT, LookupResult(Outcome.MISS), now)
    counted.count("other", hit(1), now)
    now += 2 * HOUR
    counted.count(TENANT, LookupResult(Outcome.BYPASS), now)
    first, second = counted.hours(TENANT)
    assert (first.hits, first.misses, first.bypasses, first.nano_usd) == (2, 1, 0, 600)
    assert (second.start - first.start, second.bypasses) == (2 * HOUR, 1)
    for _ in range(MAX_HOURS):
        now += HOUR
        counted.count(TENANT, hit(1), now)
    assert len(counted.hours(TENANT)) == MAX_HOURS
    assert counted.hours(TENANT)[0].start == first.start + 3 * HOUR
    assert counted.hours("nobody") == []
    assert counted.most_served("nobody") == []


def test_the_quietest_tenant_begins_anew() -> None:
    counted = Traffic()
    for number in range(MAX_TENANTS):
        counted.count(f"t{number}", hit(1), NOW)
    counted.count("t0", hit(1), NOW)
    counted.count("new", hit(1), NOW)
    assert counted.hours("t0")[0].hits == 2
    assert counted.hours("t1") == []


@given(st.lists(st.integers(0, 3 * MAX_COUNTERS).map(lambda n: n * n // (3 * MAX_COUNTERS)), max_size=2_000))
def test_no_entry_is_said_to_have_more_hits_than_it_had_and_frequent_ones_are_found(served: list[int]) -> None:
    counted, true = Traffic(), Counter(f"e{number}" for number in served)
    for number in served:
        counted.count(TENANT, hit(number), NOW)
    found = counted.most_served(TENANT)
    assert len(found) <= MAX_COUNTERS
    assert [one.least for one in found] == sorted((one.least for one in found), reverse=True)
    assert all(one.least <= true[one.entry_id] <= one.hits for one in found)
    kept = {one.entry_id for one in counted._tenants[TENANT].counters.values()} if served else set()
    assert {name for name, hits in true.items() if hits > len(served) / MAX_COUNTERS} <= kept
    if len(true) <= MAX_COUNTERS:
        assert {one.entry_id: one.least for one in found} == true


async def test_what_was_served_most_is_listed_first() -> None:
    async with benched() as bench:
        bench.cache.recovery.phase = Phase.READY
        for number in range(3):
            await bench.put(ask(f"Number {number}?", namespace="a" if number else "b"))
            for _ in range(3 * number):
                await bench.look(ask(f"Number {number}?", namespace="a"), Policy(mode=Mode.ONLY_IF_CACHED))
        listing = bench.cache.listing
        page = listing.most_served(TENANT, Wanted(), size=9)
        assert [(entry.question, hits) for entry, hits in zip(page.entries, page.hits, strict=True)] == [
            ("Number 2?", 6),
            ("Number 1?", 3),
        ]
        assert listing.most_served(TENANT, Wanted(), size=1).hits == (6,)
        assert listing.most_served(TENANT, Wanted(namespace="b"), size=9).entries == ()
        bench.cache.entries.remove(page.entries[0])
        assert listing.most_served(TENANT, Wanted(), size=9).hits == (3,)
        report = await bench.cache.report(TENANT, None)
        assert [(hour.hits, hour.misses) for hour in report.hours] == [(9, 0)]
