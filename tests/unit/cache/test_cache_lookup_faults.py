"""When a part is slow, down or full, lookups go on with what is left, or bypass the cache and say why."""

from __future__ import annotations

import asyncio

import pytest

from services.cache import similarity as similarity_module
from services.cache.recovery import Phase
from services.cache.room import Capacity, Eviction
from services.cache.values import BypassReason, Outcome, Policy
from services.chassis.errors import InvalidRequest, Reason, Unavailable
from simcore import IndexPoisoned
from tests.unit.cache.cache_parts import ASKED, ONLY, REWORDED, TENANT, Bench, answer, benched, lease, searches_held

# --- slow or down -----------------------------------------------------------------------------------------------------


async def test_without_the_embedder_the_exact_tier_goes_on(bench: Bench) -> None:
    await bench.put(ASKED)
    bench.embedder.error = Unavailable("down", reason=Reason.EMBEDDER_UNAVAILABLE)
    assert (await bench.look(ASKED)).outcome is Outcome.EXACT
    bypassed = await bench.look("a new question, not seen before")
    assert bypassed.bypass_reason is BypassReason.EMBEDDER_UNAVAILABLE
    assert bypassed.fill is None
    entry = await bench.put("a new question, not seen before")
    assert (await bench.look("a new question, not seen before")).entry is entry
    bench.embedder.error = None
    await bench.put("a new question, not seen before", "anew")
    bench.embedder.alike("reworded so far", "a new question, not seen before", 0.95)
    assert (await bench.look("reworded so far", ONLY)).entry.answer.text == "anew"


async def test_a_text_that_the_embedder_cannot_read_is_exact_only(bench: Bench) -> None:
    bench.embedder.error = InvalidRequest("too long", reason=Reason.CONTEXT_TOO_LONG)
    missed = await bench.look(ASKED)
    assert missed.outcome is Outcome.MISS
    await bench.cache.commit(TENANT, lease(missed), answer(), durable=False)
    assert (await bench.look(ASKED)).outcome is Outcome.EXACT


async def test_a_slow_embedding_bypasses_and_is_there_next_time(bench: Bench) -> None:
    bench.embedder.gate.clear()
    bench.embedder.passes = 1
    bypassed = await bench.look(ASKED)
    assert bypassed.bypass_reason is BypassReason.EMBEDDING_TIMEOUT
    bench.embedder.gate.set()
    async with asyncio.timeout(10):
        while (await bench.look(ASKED, ONLY)).outcome is Outcome.BYPASS:  # noqa: ASYNC110 -- what is awaited has no event
            await asyncio.sleep(0)
    assert bench.embedder.calls == [ASKED]


async def test_a_search_beyond_its_budget_bypasses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with benched(decision_budget=0.01) as bench:
        await bench.put(ASKED)
        with searches_held(bench.cache.entries.similarity, monkeypatch):
            assert (await bench.look(REWORDED)).bypass_reason is BypassReason.DECISION_TIMEOUT


async def test_while_what_is_stored_is_read_lookups_bypass(bench: Bench) -> None:
    bench.cache.recovery.phase = Phase.HYDRATING
    assert (await bench.look(ASKED)).bypass_reason is BypassReason.HYDRATING
    with pytest.raises(Unavailable):
        await bench.cache.clear(TENANT, "default", dry_run=False)


async def test_too_many_fills_bypass() -> None:
    async with benched(max_fills=1) as bench:
        await bench.look(ASKED)
        assert (await bench.look("another thing to ask")).bypass_reason is BypassReason.OVERLOADED


async def test_a_fault_of_the_index_is_told_once_and_costs_the_semantic_tier_only(bench: Bench) -> None:
    await bench.put(ASKED)
    bench.cache.entries.similarity._index._inject_panic()
    with pytest.raises(IndexPoisoned):
        await bench.look(REWORDED)
    assert bench.cache.entries.similarity.broken.is_set()
    assert (await bench.look(REWORDED)).bypass_reason is BypassReason.HYDRATING
    assert (await bench.look(ASKED)).outcome is Outcome.EXACT
    await bench.put("stored in the meantime")
    assert (await bench.look("stored in the meantime")).outcome is Outcome.EXACT


async def test_a_large_scope_is_searched_off_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity_module, "INLINE_ROWS", 3)
    monkeypatch.setattr(similarity_module, "MOST_INLINE_ROWS", 3)
    for number in range(10):
        await bench.put(f"a question with the number {number}", str(number))
    bench.embedder.alike(REWORDED, "a question with the number 7", 0.95)
    assert (await bench.look(REWORDED)).entry.answer.text == "7"


# --- full -------------------------------------------------------------------------------------------------------------


async def test_room_is_made_by_what_was_hit_least() -> None:
    async with benched(capacity=Capacity(3)) as bench:
        for number in range(3):
            await bench.put(f"the question number {number}")
        for number in (0, 2):
            assert (await bench.look(f"the question number {number}", ONLY)).outcome is Outcome.EXACT
        await bench.put("the question number 3")
        left = [(await bench.look(f"the question number {number}", ONLY)).outcome for number in range(4)]
        assert left == [Outcome.EXACT, Outcome.MISS, Outcome.EXACT, Outcome.EXACT]
        assert (await bench.cache.report(TENANT, None)).tally.evictions == {Eviction.ENTRIES: 1}


async def test_what_is_too_large_for_its_namespace_is_not_stored() -> None:
    async with benched(capacity=Capacity(namespace_bytes=2_000)) as bench:
        await bench.put("the question number 0")
        with pytest.raises(InvalidRequest, match="too_large"):
            await bench.put("the question number 1", "x" * 3_000)
        missed = await bench.look("the question number 2")
        committed = await bench.cache.commit(TENANT, lease(missed), answer("x" * 3_000), durable=False)
        assert committed.not_stored == "too_large"
        assert (await bench.look("the question number 0", ONLY)).outcome is Outcome.EXACT


async def test_room_is_made_first_by_what_has_expired() -> None:
    async with benched(capacity=Capacity(3)) as bench:
        await bench.put("the question number 0", policy=Policy(ttl=10.0))
        for number in (1, 2):
            await bench.put(f"the question number {number}")
        for _ in range(5):
            await bench.look("the question number 0", ONLY)
        bench.clock.advance(11)
        await bench.put("the question number 3")
        left = [(await bench.look(f"the question number {number}", ONLY)).outcome for number in range(4)]
        assert left == [Outcome.MISS, Outcome.EXACT, Outcome.EXACT, Outcome.EXACT]
        assert (await bench.cache.report(TENANT, None)).tally.evictions == {Eviction.EXPIRED: 1}
