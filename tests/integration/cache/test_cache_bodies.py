"""Answers whose bodies are in the store only: served as if they were in memory, or not at all and with a reason."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial

import pytest

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon.cache.v1 import transfer_pb2 as transfer
from antiphon.llm.v1 import llm_pb2 as llm
from antiphon_client import AsyncCacheClient
from services.cache import bodies
from services.cache.entry import Entry
from services.cache.fill_values import Granted
from services.cache.importing import Fate
from services.cache.values import (
    Action,
    ByIds,
    BypassReason,
    Chosen,
    Fetch,
    Mode,
    Outcome,
    Policy,
)
from services.chassis.deadline import Deadline
from services.chassis.errors import Unavailable
from services.llm.values import ToolCall
from services.storage import Point
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.cache.cold_cache import (
    ASKED,
    LONG,
    NEWER,
    OTHER,
    REWORDED,
    Caches,
    cold,
    down,
    entries,
    many,
    reads,
)
from tests.integration.cache.stored_cache import StoredCache, until
from tests.integration.cache.transfer import entries_of, taken_by
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import TENANT, answer, ask


def query(text: str) -> pb.Query:
    return pb.Query(messages=[llm.Message(role=llm.ROLE_USER, parts=[llm.ContentPart(text=text)])])


def fetches(cache: StoredCache) -> dict[Fetch, int]:
    return dict(cache.cache.stats.fetches)


async def test_cold_answers_are_served_whole_in_both_tiers_and_in_batches(caches: Caches) -> None:
    cache = await cold(caches, ASKED, OTHER)
    made = answer(LONG, tool_calls=(ToolCall("c1", "find", '{"of": "it"}'),))
    query = ask("a question for a tool")
    await cache.cache.put(TENANT, query, Policy(), made, durable=True, deadline=Deadline.after(10))
    for asked, outcome in ((ASKED, Outcome.EXACT), (REWORDED, Outcome.SEMANTIC)):
        found = await cache.look(asked)
        assert (found.outcome, found.entry and found.entry.answer.text) == (outcome, LONG)
    called = (await cache.look(query)).entry
    assert called is not None
    assert called.answer.tool_calls == made.tool_calls
    seen = reads(cache)
    batch = await many(cache, ASKED, "a question never stored", OTHER, REWORDED)
    assert [one.entry and one.entry.answer.text for one in batch] == [LONG, None, LONG, LONG]
    assert len(seen) == 1, "one request to the store for all of a batch"
    assert fetches(cache) == {Fetch.DONE: 5}, "each body once, however many wait for it"


async def test_a_body_that_is_hot_costs_no_request_and_several_callers_share_one(caches: Caches) -> None:
    stored = await caches().ready()
    await stored.put(ASKED, LONG)
    cache = await caches(hot_bytes=0).ready()
    seen = reads(cache)
    texts = await asyncio.gather(*(cache.text(ASKED) for _ in range(20)))
    assert (set(texts), len(seen)) == ({LONG}, 1)
    warm = await caches(hot_bytes=10_000).ready()
    seen = reads(warm)
    assert [await warm.text(ASKED) for _ in range(3)] == [LONG] * 3
    assert (seen, warm.cache.entries.hot.bytes > len(LONG)) == ([], True)
    report = await warm.cache.report(TENANT, None)
    assert report.hot_bytes == warm.cache.entries.hot.bytes


@pytest.mark.fault(42)
async def test_while_the_store_is_down_cold_answers_bypass_and_hot_ones_are_served(
    caches: Caches, store: StoreProcess
) -> None:
    cache = await cold(caches, ASKED, OTHER)
    await cache.put("a short one", "short")
    down(cache, store)
    for asked in (ASKED, REWORDED):
        found = await cache.look(asked, Policy())
        assert (found.outcome, found.bypass_reason, found.entry) == (
            Outcome.BYPASS,
            BypassReason.STORE_UNAVAILABLE,
            None,
        )
    assert await cache.text("a short one") == "short"
    batch = await many(cache, "a short one", ASKED, "never stored")
    assert [one.outcome for one in batch] == [Outcome.EXACT, Outcome.BYPASS, Outcome.MISS]
    await cache.put(OTHER, NEWER, durable=False)
    assert await cache.text(OTHER) == NEWER, "what the store does not have yet stays"
    assert (await cache.cache.report(TENANT, None)).tally.fetches[Fetch.FAILED] >= 3
    store.start()
    async with asyncio.timeout(30):
        while await cache.text(ASKED) != LONG:  # noqa: ASYNC110 -- each turn is a lookup
            await asyncio.sleep(0.05)
    assert await cache.text(REWORDED) == LONG


@pytest.mark.fault(43)
async def test_a_store_that_hangs_costs_a_moment_once_and_then_nothing(
    caches: Caches, store: StoreProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cache.serving.FETCH_SECONDS", 0.2)
    monkeypatch.setattr(bodies, "HANG_SECONDS", 0.1)
    monkeypatch.setattr(bodies, "REST_SECONDS", 60.0)
    cache = await cold(caches, ASKED, OTHER)
    os.kill(store.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(4):
            late = await cache.look(ASKED)
        seen = reads(cache)
        at_once = await cache.look(OTHER)
    finally:
        os.kill(store.pid, signal.SIGCONT)
    assert (late.outcome, late.bypass_reason) == (Outcome.BYPASS, BypassReason.STORE_TIMEOUT)
    assert (at_once.bypass_reason, seen) == (BypassReason.STORE_UNAVAILABLE, [])


@pytest.mark.fault(52)
async def test_a_batch_fetches_no_more_than_its_response_has_room_for(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cache.serving.MAX_SERVED_BYTES", 2 * len(LONG) + 1)
    monkeypatch.setattr("services.cache.serving.READ_BYTES", len(LONG))
    texts = [f"question number {number}?" for number in range(4)]
    cache = await cold(caches, *texts)
    found = await many(cache, *texts, "never stored")
    assert [one.entry is not None and one.entry.whole for one in found] == [True, True, False, False, False]
    assert [one.outcome for one in found] == [Outcome.EXACT] * 4 + [Outcome.MISS]
    assert (await cache.cache.report(TENANT, None)).tally.fetches[Fetch.DONE] == 2


@pytest.mark.fault(42)
async def test_who_takes_a_stale_answer_that_cannot_be_had_makes_a_new_one(caches: Caches, store: StoreProcess) -> None:
    passed = [0.0]
    start = 1_800_000_000.0
    cache = await cold(caches, now=lambda: start + passed[0], monotonic=lambda: 1_000.0 + passed[0], ttl=100.0)
    passed[0] += 150.0
    policy = Policy(stale=1_000.0)
    found = await cache.look(ASKED, Policy(mode=Mode.ONLY_IF_CACHED, stale=1_000.0))
    assert (found.outcome, found.entry and found.entry.answer.text) == (Outcome.STALE, LONG)
    down(cache, store)
    found = await cache.look(ASKED, policy)
    assert (found.outcome, found.entry, found.decision.vetoes) == (Outcome.MISS, None, ("not_fetched",))
    assert isinstance(found.fill, Granted)
    assert (await cache.commit(found.fill.lease_id, answer(NEWER))).stored
    assert await cache.text(ASKED) == NEWER


@pytest.mark.fault(48)
@pytest.mark.parametrize("asked", [ASKED, REWORDED])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_was_replaced_between_decision_and_fetch_is_not_served(
    caches: Caches, asked: str, when: str
) -> None:
    """By this replica or by another one of which it has not heard."""
    cache, other = await cold(caches), await caches().ready()
    for replica, text in ((other, NEWER), (cache, LONG)):
        made: list[Entry] = []

        async def replace(replica: StoredCache = replica, text: str = text, made: list[Entry] = made) -> None:
            made.append(await replica.put(ASKED, text))

        reads(cache, **{when: replace})
        served = (await cache.look(asked)).entry
        if when == "after" and replica is other:  # who has read before may serve what it read
            await cache.cache.tailing.look()
            served = (await cache.look(asked)).entry
        assert served == made[0]
    assert len(cache.cache.entries) == 1


@pytest.mark.fault(48)
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_was_deleted_between_decision_and_fetch_is_not_served(
    caches: Caches, when: str, *, batched: bool
) -> None:
    cache, other = await cold(caches, ASKED, OTHER), await caches().ready()

    async def text(asked: str) -> str | None:
        found = (await many(cache, asked))[0] if batched else await cache.look(asked)
        assert found.outcome is not Outcome.BYPASS
        return found.entry.answer.text if found.entry else None

    for deleting, asked in ((cache, ASKED), (other, OTHER)):
        entry = cache.cache.entries.get(cache.cache.addresses.of(TENANT, ask(asked)))
        assert entry is not None
        chosen = Chosen(ByIds((entry.id,)))
        reads(cache, **{when: partial(deleting.cache.remove, TENANT, chosen)})
        served = await text(asked)
        assert served is None or (when == "after" and deleting is other), "who has read before may serve what it read"
        await cache.cache.tailing.look()
        assert await text(asked) is None
    assert len(cache.cache.entries) == 0
    await cache.put(ASKED, LONG)
    reads(cache, cache.clear)
    assert await text(ASKED) is None


@pytest.mark.fault(49)
async def test_a_damaged_body_is_counted_and_not_served_and_a_new_answer_takes_its_place(caches: Caches) -> None:
    cache = await cold(caches, ASKED, OTHER)
    async with cache.store._opened() as collection:
        for record in await collection.get([entry.id for entry in entries(cache)], vectors=True):
            payload = dict(record.payload)
            payload["record"] = str(payload["record"]).replace("many words", "many wards")
            await collection.upsert([Point(record.id, record.vector, payload)], durable=True)
    found = await cache.look(ASKED, Policy())
    assert (found.outcome, found.entry) == (Outcome.MISS, None)
    assert cache.store.skipped.total() > 0
    assert fetches(cache)[Fetch.CHANGED] == 1
    assert isinstance(found.fill, Granted)
    result = await cache.commit(found.fill.lease_id, answer(NEWER), durable=True)
    assert (result.stored, result.durable) == (True, True)
    assert (await cache.text(ASKED), await cache.text(OTHER)) == (NEWER, None)


@pytest.mark.fault(49)
async def test_another_scopes_answer_in_the_records_place_is_not_served(caches: Caches) -> None:
    """As a store might do that mixes up ids: what it holds there says itself whose it is."""
    cache = await cold(caches, ASKED, OTHER)
    one, other = entries(cache)
    async with cache.store._opened() as collection:
        (record,) = await collection.get([other.id], vectors=True)
        await collection.upsert([Point(one.id, record.vector, record.payload)], durable=True)
    assert await cache.text(one.question) is None
    assert await cache.text(other.question) == LONG


@pytest.mark.fault(42)
async def test_the_only_copy_of_a_body_stays_in_memory_until_the_store_has_it(
    caches: Caches, store: StoreProcess
) -> None:
    """Also of what was given up, as too much waited for the store."""
    cache = await caches(hot_bytes=0, max_unsaved=5).ready()
    down(cache, store)
    for number in range(20):
        await cache.put(f"question number {number}", f"{number}: {LONG}", durable=False)
    for number in range(20):
        assert await cache.text(f"question number {number}") == f"{number}: {LONG}"
    assert cache.cache.writer.given_up == 15
    store.start()
    await until(lambda: not cache.cache.writer.pending(), "what waited is written")
    cold = [entry for entry in entries(cache) if not entry.whole]
    assert len(cold) == 5
    for number in range(20):
        assert await cache.text(f"question number {number}") == f"{number}: {LONG}"


@pytest.mark.fault(52)
async def test_bodies_keep_within_their_bytes_while_answers_come_go_and_are_read_at_a_start(caches: Caches) -> None:
    cap = 20 * len(LONG)
    cache = await caches(hot_bytes=cap).ready()
    asked: list[str] = []
    for number in range(150):
        asked.append(f"question number {number % 100}")
        await cache.put(asked[-1], LONG, durable=number % 2 == 0)
        if number % 3 == 0:
            assert await cache.text(asked[number // 2 % len(asked)]) == LONG
        if number % 40 == 39:
            await cache.clear()
            asked.clear()
        assert cache.cache.entries.hot.bytes <= cap
    await until(lambda: not cache.cache.writer.pending(), "all is written")
    assert sum(entry.whole for entry in entries(cache)) <= 20
    again = await caches(hot_bytes=cap).ready()
    assert len(again.cache.entries) == len(cache.cache.entries) == 30
    assert sum(entry.whole for entry in entries(again)) == 19, "as many as there is room for"
    assert {await again.text(entry.question) for entry in entries(again)} == {LONG}
    assert again.cache.entries.hot.bytes <= cap


async def test_what_is_said_of_a_cold_answer_is_kept_with_it(caches: Caches) -> None:
    cache = await cold(caches)
    (entry,) = entries(cache)
    chosen = Chosen(ByIds((entry.id,)))
    assert await cache.cache.remove(TENANT, chosen, Action.QUARANTINE, by="key") == 1
    assert await cache.text(ASKED) is None
    await cache.put(ASKED, LONG)
    assert await cache.text(ASKED) is None, "the same answer stays out"
    assert await cache.cache.remove(TENANT, chosen, Action.RELEASE, by="key") == 1
    assert await cache.text(ASKED) == LONG
    again = await caches(hot_bytes=0).ready()
    assert await again.text(ASKED) == LONG


async def test_an_import_knows_cold_answers_again_and_an_export_has_them_whole(caches: Caches) -> None:
    cache = await cold(caches, ASKED, OTHER)
    moved = await entries_of(cache)
    assert [entry.answer.text for entry in moved] == [LONG, LONG]
    assert (await taken_by(cache, moved)).fates == {Fate.UNCHANGED: 2}
    moved[0].answer.text = NEWER
    moved[0].create_time.FromSeconds(moved[0].create_time.seconds - 60)
    assert (await taken_by(cache, moved[:1])).fates == {Fate.OLDER: 1}


async def test_an_export_of_cold_answers_is_refused_while_the_store_is_down_and_lacks_nothing(
    caches: Caches, store: StoreProcess
) -> None:
    cache = await cold(caches)
    down(cache, store)
    with pytest.raises(Unavailable):
        await entries_of(cache)


async def test_a_cold_answer_is_embedded_later_and_stays_whole(caches: Caches) -> None:
    first = await caches(hot_bytes=0).ready()
    first.embedder.error = Unavailable("down")
    await first.put(ASKED, LONG)
    await first.stop()
    again = await caches(hot_bytes=0).ready()
    again.embedder.alike(REWORDED, ASKED, 0.95)
    (entry,) = entries(again)
    await until(lambda: again.cache.entries.has_vector(TENANT, "default", entry.id), "it is embedded")
    await until(lambda: not again.cache.writer.pending(), "it is written")
    assert await again.text(REWORDED) == LONG
    third = await caches(hot_bytes=0).ready()
    third.embedder.alike(REWORDED, ASKED, 0.95)
    assert await third.text(REWORDED) == LONG


@pytest.mark.fault(45)
async def test_a_process_without_memory_for_bodies_answers_exports_and_survives_a_kill(
    start: Callable[..., CacheProcess],
) -> None:
    """The way a deployment runs it; what waits behind a fill gets its answer, too."""
    settings = {"ANTIPHON_CACHE_HOT_BYTES": "0"}
    process = start(**settings).serving()
    async with AsyncCacheClient(process.address) as client:
        leader = await client.lookup(pb.LookupRequest(query=query(ASKED), fill_token="a"))
        follower = await client.lookup(pb.LookupRequest(query=query(ASKED), fill_token="b"))
        waiting = asyncio.create_task(
            client.wait_fill(pb.WaitFillRequest(lease_id=follower.fill.in_progress_lease_id, fill_token="b"))
        )
        made = llm.Answer(text=LONG, finish_reason=llm.FINISH_REASON_STOP, model="m")
        await client.commit(pb.CommitRequest(lease_id=leader.fill.granted.id, answer=made, durable=True))
        assert (await waiting).filled.answer.text == LONG
        await client.put(pb.PutRequest(query=query(OTHER), answer=made, durable=True))
    process.end(signal.SIGKILL)
    process = start(**settings).serving()
    async with AsyncCacheClient(process.address) as client:
        found = await client.lookup(pb.LookupRequest(query=query(ASKED)))
        assert (found.outcome, found.answer.text, found.served_from.usage) == (pb.OUTCOME_EXACT, LONG, made.usage)
        batch = await client.batch_lookup(
            pb.BatchLookupRequest(lookups=[pb.LookupRequest(query=query(one)) for one in (ASKED, OTHER)])
        )
        assert [one.response.answer.text for one in batch.results] == [LONG, LONG]
        exported = [one async for one in client.export(transfer.ExportRequest(vectors=True))]
        texts = [entry.answer.text for one in exported for entry in one.entries.entries]
        assert texts == [LONG, LONG]
        stats = await client.get_stats(pb.GetStatsRequest())
        assert (stats.hot_bytes, stats.fetches, stats.fetch_failures) == (0, 5, 0)
    assert process.end() == 0
