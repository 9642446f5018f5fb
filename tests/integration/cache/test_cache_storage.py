"""Nothing lost, nothing back from the dead: the cache over the real embedded store."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import signal
import time
from collections.abc import Callable, Sequence

import pytest

from services.cache import purging
from services.cache.adapters.records import SCHEMA, to_payload
from services.cache.fill_values import Granted
from services.cache.ports import Tombstone, Write, WrongKey
from services.cache.recovery import Phase
from services.cache.values import ByIds, BypassReason, BySource, ByTags, Chosen, Outcome, Policy
from services.chassis.errors import FailedPrecondition, NotFound, Unavailable
from services.storage import Equals, Point
from tests.integration.cache.stored_cache import StoredCache, until
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import TENANT, ask

Caches = Callable[..., StoredCache]
ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"


async def lease(cache: StoredCache, text: str = ASKED, policy: Policy | None = None) -> str:
    missed = await cache.look(text, policy or Policy())
    assert isinstance(missed.fill, Granted)
    return missed.fill.lease_id


# --- nothing lost ----------------------------------------------------------------------------------------------------


@pytest.mark.fault(45)
async def test_what_was_acknowledged_is_there_after_a_crash_in_both_tiers(caches: Caches) -> None:
    first = await caches().ready()
    stored = await first.put(ASKED, policy=Policy(tags=("a", "b")))
    committed = await first.commit(await lease(first, "a second one to ask"), durable=True)
    assert (committed.stored, committed.durable) == (True, True)
    await first.die()

    second = await caches().ready()
    second.embedder.alike(REWORDED, ASKED, 0.95)
    assert (await second.look(ASKED)).entry == stored
    assert (await second.look(REWORDED)).outcome is Outcome.SEMANTIC
    assert (await second.look("a second one to ask")).outcome is Outcome.EXACT


async def test_what_was_not_yet_written_is_written_at_the_end(caches: Caches) -> None:
    first = await caches().ready()
    for number in range(100):
        await first.put(f"the question number {number}", str(number), durable=False)
    await first.stop()
    second = await caches().ready()
    assert [await second.text(f"the question number {number}") for number in range(100)] == list(map(str, range(100)))


async def test_a_repeated_durable_commit_confirms_what_the_first_only_queued(
    caches: Caches, store: StoreProcess
) -> None:
    first = await caches().ready()
    lease_id = await lease(first)
    os.kill(store.pid, signal.SIGSTOP)
    assert not (await first.commit(lease_id)).durable
    os.kill(store.pid, signal.SIGCONT)
    assert (await first.commit(lease_id, durable=True)).durable
    await first.die()
    assert await (await caches().ready()).text(ASKED) == "an answer"


async def test_kills_of_the_store_lose_nothing_acknowledged(caches: Caches, store: StoreProcess) -> None:
    """`kill -9` at seeded moments of durable Puts; the store comes back on another port each time."""
    chance = random.Random(45)
    cache = await caches().ready()
    acknowledged: dict[int, str] = {}
    numbers = iter(range(300))

    async def putting() -> None:
        for number in numbers:
            while number not in acknowledged:
                try:
                    await cache.put(f"the question number {number}", f"answer {number}")
                    acknowledged[number] = f"answer {number}"
                except Unavailable:
                    await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(putting())
        for count in sorted(chance.sample(range(20, 250), 2)):
            await until(lambda count=count: len(acknowledged) >= count, "Puts did not go on")  # type: ignore[misc]
            store.kill()
            await asyncio.to_thread(store.start)
    assert len(acknowledged) == 300
    await cache.die()
    second = await caches().ready()
    lost = [n for n, text in acknowledged.items() if await second.text(f"the question number {n}") != text]
    assert lost == []


@pytest.mark.fault(41)
async def test_a_store_that_comes_late_is_found_and_what_was_made_meanwhile_is_kept(
    caches: Caches, store: StoreProcess
) -> None:
    before = await caches().ready()
    await before.put("stored before", "before")
    await before.clear("cleared")
    await before.stop()
    store.stop()

    cache = caches(now=lambda: time.time() + 60).start()  # beyond the skew of clocks that a clear allows for
    await cache.commit(await lease(cache))
    await cache.put(ask("made meanwhile in there", namespace="cleared"), "after the clear", durable=False)
    with pytest.raises(Unavailable):
        await cache.put("cannot be promised")
    with pytest.raises(Unavailable):
        await cache.clear()
    assert cache.cache.recovery.phase is Phase.WAITING
    assert (await cache.look(ASKED)).outcome is Outcome.EXACT
    assert await cache.text("stored before") is None

    await asyncio.to_thread(store.start)
    await cache.ready()
    assert await cache.text("stored before") == "before"
    assert await cache.text(ASKED) == "an answer"
    assert await cache.text(ask("made meanwhile in there", namespace="cleared")) == "after the clear"
    await until(lambda: not cache.cache.writer.pending(), "what waited was not written")
    await cache.die()
    third = await caches().ready()
    assert await third.text(ASKED) == "an answer"
    assert await third.text(ask("made meanwhile in there", namespace="cleared")) == "after the clear"


@pytest.mark.fault(42)
async def test_the_store_may_go_and_come_back_elsewhere(caches: Caches, store: StoreProcess) -> None:
    cache = await caches().ready()
    await cache.put("one thing to know")
    store.kill()
    with pytest.raises(Unavailable):
        await cache.put(ASKED)
    assert await cache.text(ASKED) == "an answer", "served from memory all the same"
    report = await cache.cache.report(TENANT, None)
    assert (report.store_healthy, report.writes_not_stored) == (False, 1)
    await asyncio.to_thread(store.start)
    await until(lambda: not cache.cache.writer.pending(), "what waited was not written")
    report = await cache.cache.report(TENANT, None)
    assert (report.store_healthy, report.writes_not_stored) == (True, 0)
    await cache.put("another thing to know")
    await cache.die()
    second = await caches().ready()
    for text in ("one thing to know", ASKED, "another thing to know"):
        assert await second.text(text) == "an answer"


async def test_many_entries_are_read_at_the_start(caches: Caches) -> None:
    first = await caches().ready()
    for number in range(1_200):
        await first.put(f"the question number {number}", str(number), durable=False)
    await first.stop()
    second = await caches().ready()
    assert len(second.cache.entries) == 1_200
    assert second.cache.entries.rows(second.cache.addresses.of(TENANT, ask("any question"))) == 1_200
    assert await second.text("the question number 1199") == "1199"


async def test_a_broken_index_is_rebuilt_from_the_store(caches: Caches, store: StoreProcess) -> None:
    cache = await caches().ready()
    cache.embedder.alike(REWORDED, ASKED, 0.95)
    await cache.put(ASKED)
    cache.cache.entries.similarity._index._inject_panic()
    with pytest.raises(RuntimeError):
        await cache.look(REWORDED)
    async with asyncio.timeout(30):
        while (await cache.look(REWORDED)).outcome is not Outcome.SEMANTIC:  # noqa: ASYNC110 -- each turn is a lookup
            await asyncio.sleep(0.005)
    assert cache.cache.recovery.rebuilds == 1


# --- never an older answer (row 48) ----------------------------------------------------------------------------------


@pytest.mark.fault(48)
async def test_of_two_writers_the_later_answer_stays_whatever_the_order_of_writes(caches: Caches) -> None:
    """Two replicas write the same question; the older answer's write comes last, and again."""
    late, early = await caches().ready(), await caches().ready()
    old = Write(await late.put(ASKED, "old"), late.embedder.vector(ASKED))
    new = await early.put(ASKED, "new")
    assert new.ver > old.entry.ver
    for _ in range(2):
        assert await late.store.save([old]) == [False]
    third = await caches().ready()
    assert await third.text(ASKED) == "new"


@pytest.mark.fault(48)
async def test_a_replica_that_writes_what_is_older_takes_over_what_is_newer(caches: Caches) -> None:
    slow = await caches(now=lambda: time.time() - 60).ready()
    other = await caches().ready()
    await other.put(ASKED, "new")
    await slow.put(ASKED, "old")
    assert await slow.text(ASKED) == "new"
    assert await other.text(ASKED) == "new"


@pytest.mark.fault(48)
async def test_a_clock_that_went_back_still_makes_newer_versions(caches: Caches) -> None:
    first = await caches().ready()
    old = await first.put(ASKED, "old")
    await first.die()
    second = await caches(now=lambda: time.time() - 3600).ready()
    new = await second.put(ASKED, "new")
    assert new.ver > old.ver
    await second.die()
    assert await (await caches().ready()).text(ASKED) == "new"


# --- cleared stays cleared (row 61) ----------------------------------------------------------------------------------


@pytest.mark.fault(61)
async def test_a_clear_hides_everything_at_once_and_for_good(caches: Caches) -> None:
    first = await caches().ready()
    for number in range(50):
        await first.put(f"the question number {number}")
    await first.put("soon over, this question", policy=Policy(ttl=0.001))
    await first.put(ask("elsewhere, this question", namespace="other"))
    assert (await first.clear(dry_run=True)) == (50, 0)
    assert await first.text("the question number 0") == "an answer"
    assert (await first.clear()) == (50, 1)
    assert (await first.clear()) == (0, 2)
    assert await first.text("the question number 0") is None
    await first.put("the question number 7", "since then")
    await first.die()
    second = await caches().ready()
    texts = [await second.text(f"the question number {number}") for number in range(50)]
    assert texts == [None] * 7 + ["since then"] + [None] * 42
    assert await second.text(ask("elsewhere, this question", namespace="other")) == "an answer"


@pytest.mark.fault(61)
async def test_a_commit_from_before_a_clear_is_invisible_here_and_after_a_restart(caches: Caches) -> None:
    cache = await caches().ready()
    lease_id = await lease(cache)
    await cache.clear()
    after = await lease(cache)  # nobody joins a fill from before the clear
    assert after != lease_id
    result = await cache.commit(lease_id, durable=True)
    assert (result.stored, result.not_stored) == (False, "cleared")
    assert await cache.text(ASKED) is None
    await cache.die()
    assert await (await caches().ready()).text(ASKED) is None


@pytest.mark.fault(51, 61)
async def test_a_write_that_reaches_the_store_after_the_clear_is_not_read_back(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delete of what was cleared has run already: the epoch alone must hide what lands late."""
    monkeypatch.setattr(purging, "LEASE_SECONDS", 0.01)
    cache = await caches().ready()
    entry = await cache.put(ASKED)
    await cache.clear()
    async with asyncio.timeout(30):
        while await cache.store.read([entry.id]):  # noqa: ASYNC110 -- each turn is a read
            await asyncio.sleep(0.005)
    assert await cache.store.save([Write(entry, cache.embedder.vector(ASKED))]) == [True]
    await cache.die()
    second = await caches().ready()
    assert await second.text(ASKED) is None
    assert await second.cache.purging.purge()
    assert await second.store.read([entry.id]) == [], "a purge goes on with what the clear left"


@pytest.mark.fault(61)
async def test_clears_and_puts_at_the_same_time_leave_nothing_from_before_the_last_clear(caches: Caches) -> None:
    cache = await caches().ready()

    async def putting(worker: int) -> None:
        for number in range(40):
            await cache.put(f"the question of {worker} number {number}", durable=number % 2 == 0)

    async with asyncio.TaskGroup() as group:
        for worker in range(4):
            group.create_task(putting(worker))
        for _ in range(5):
            await cache.clear()
    last = (await cache.clear())[1]
    assert len(cache.cache.entries) == 0
    await cache.put("after all of it, a question")
    await cache.stop()
    second = await caches().ready()
    assert len(second.cache.entries) == 1
    assert second.cache.entries.epoch(TENANT, "default") == last == 6


async def test_two_who_clear_at_once_take_different_epochs(caches: Caches) -> None:
    one, two = await caches().ready(), await caches().ready()
    epochs = [epoch for _, epoch in await asyncio.gather(*(cache.clear() for cache in (one, two, one, two)))]
    assert sorted(epochs) == [1, 2, 3, 4]


async def test_a_clear_whose_caller_leaves_is_finished(caches: Caches) -> None:
    cache = await caches().ready()
    await cache.put(ASKED)
    caller = asyncio.create_task(cache.clear())
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    await until(lambda: cache.cache.entries.epoch(TENANT, "default") == 1, "the clear was dropped half-way")
    assert await cache.text(ASKED) is None


# --- delete ----------------------------------------------------------------------------------------------------------


async def test_deletes_by_id_tag_and_source(caches: Caches) -> None:
    cache = await caches().ready()
    one = await cache.put("the first question here", policy=Policy(tags=("x", "y")))
    await cache.put("the second question here", policy=Policy(tags=("y",)))
    await cache.put("the third question here", policy=Policy(tags=("z",)))
    await cache.commit(await lease(cache, "the fourth question here"))

    async def delete(selector: object, namespace: str = "default", *, dry_run: bool = False) -> int:
        chosen = Chosen(selector, namespace)  # type: ignore[arg-type]
        return await cache.cache.remove(TENANT, chosen, dry_run=dry_run)

    assert await delete(ByTags(frozenset({"x", "z"})), dry_run=True) == 2
    assert await delete(BySource("fill"), dry_run=True) == 1
    assert await delete(ByIds((one.id, one.id)), dry_run=True) == 1
    for ids, namespace in (((one.id, "absent"), "default"), ((one.id,), "other")):
        with pytest.raises(NotFound):
            await delete(ByIds(ids), namespace)
    assert len(cache.cache.entries) == 4
    assert await delete(ByIds((one.id,))) == 1
    assert await delete(ByTags(frozenset({"z"}))) == 1
    assert await delete(BySource("fill")) == 1
    assert await delete(BySource("fill")) == 0
    await cache.stop()
    second = await caches().ready()
    assert len(second.cache.entries) == 1
    assert await second.text("the second question here") == "an answer"


async def test_a_delete_takes_what_is_being_given_its_embedding(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of a lookup that needed no embedding gets one afterwards, in a new version of its entry."""
    cache = await caches().ready()
    cache.embedder.gate.clear()
    committed = await cache.commit(await lease(cache, policy=Policy(max_error_rate=0.01)))
    await until(lambda: cache.embedder.calls == [ASKED], "the answer's question is not embedded")
    await until(lambda: not cache.cache.writer.pending(), "the answer is not written")
    removing, go, save = asyncio.Event(), asyncio.Event(), cache.store.save

    async def held(writes: Sequence[Write | Tombstone]) -> list[bool]:
        removing.set()
        await go.wait()
        return await save(writes)

    monkeypatch.setattr(cache.store, "save", held)
    deleting = asyncio.create_task(cache.cache.remove(TENANT, Chosen(ByIds((committed.entry_id,)))))
    await removing.wait()
    cache.embedder.gate.set()
    assert (await cache.look(REWORDED)).outcome is Outcome.MISS, "embedded after it, so it has its embedding now"
    go.set()
    assert await deleting == 1
    await until(lambda: len(cache.cache._background) == 0, "something goes on for ever")
    assert await cache.text(ASKED) is None
    assert len(cache.cache.entries) == 0


# --- what cannot be read, and what is over ---------------------------------------------------------------------------


@pytest.mark.fault(49)
async def test_unknown_and_damaged_records_are_skipped_counted_and_left_alone(caches: Caches) -> None:
    first = await caches().ready()
    kept = [await first.put(f"the question number {number}") for number in range(4)]
    payloads = [dict(to_payload(Write(entry, None), embedder="known_1", saved_us=1)) for entry in kept]
    payloads[0]["schema"] = SCHEMA + 1
    payloads[1]["record"] = str(payloads[1]["record"]).replace("an answer", "a forgery")
    vectors = [first.embedder.vector(entry.question) for entry in kept]
    points = [Point(e.id, v, p) for e, v, p in zip(kept, vectors, payloads, strict=True)]
    points[2] = dataclasses.replace(points[2], vector=vectors[2] * 3)
    async with first.store._opened() as collection:
        await collection.upsert(points, durable=True)
    await first.die()

    second = await caches().ready()
    assert await second.text("the question number 3") == "an answer"
    assert len(second.cache.entries) == 1
    assert second.store.skipped == {"unknown_schema": 1, "bad_checksum": 1, "bad_content": 1}
    await second.clear()

    async def stored() -> set[str]:
        async with second.store._opened() as collection:
            return {record.id for record in await collection.get([entry.id for entry in kept])}

    async with asyncio.timeout(30):
        while await stored() != {kept[0].id}:  # noqa: ASYNC110 -- what another version wrote outlives a clear
            await asyncio.sleep(0.005)


async def test_the_expired_are_neither_read_nor_kept(caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "LEASE_SECONDS", 0.01)
    first = await caches(stale=0.0).ready()
    over = await first.put("soon over, this question", policy=Policy(ttl=0.001))
    await first.put(ASKED)
    await first.die()
    second = await caches(stale=0.0).ready()
    assert len(second.cache.entries) == 1
    assert await second.cache.purging.purge()
    assert await second.store.read([over.id]) == []


@pytest.mark.fault(69)
async def test_another_embedder_has_a_collection_of_its_own(caches: Caches) -> None:
    first = await caches().ready()
    await first.put(ASKED)
    other = await caches(slug="known_2").ready()
    assert other.store.skipped.total() == 0, "it does not even meet them"
    assert await other.text(ASKED) is None
    assert len(other.cache.entries) == 0


async def test_lookups_bypass_while_entries_are_read(caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await caches().ready()
    await first.put(ASKED)
    await first.stop()
    cache = caches()
    go = asyncio.Event()
    load = cache.store.load

    async def held(*, now_us: int):
        await go.wait()
        async for page in load(now_us=now_us):
            yield page

    monkeypatch.setattr(cache.store, "load", held)
    cache.start()
    await until(lambda: cache.cache.recovery.hydrating, "hydration did not begin")
    assert (await cache.look(ASKED)).bypass_reason is BypassReason.HYDRATING
    go.set()
    await cache.ready()
    assert await cache.text(ASKED) == "an answer"


# --- the key (row 85) ------------------------------------------------------------------------------------------------


@pytest.mark.fault(85)
async def test_another_key_is_refused_by_the_store_that_knows_the_first(caches: Caches) -> None:
    first = await caches().ready()
    await first.put(ASKED)
    with pytest.raises(BaseExceptionGroup) as caught:
        await caches(key=bytes(32)).ready()
    assert caught.group_contains(WrongKey)
    await (await caches().ready()).put(ASKED)


@pytest.mark.fault(85)
async def test_entries_without_a_verifier_are_not_taken_for_ours(caches: Caches) -> None:
    first = await caches().ready()
    await first.put(ASKED)
    async with first.control._opened() as collection:
        await collection.delete_where(Equals("kind", "fingerprint_key"))
    with pytest.raises(BaseExceptionGroup) as caught:
        await caches().ready()
    assert caught.group_contains(WrongKey)


@pytest.mark.fault(85)
async def test_of_two_keys_at_once_one_wins(caches: Caches) -> None:
    made = [caches(key=bytes([number]) * 32) for number in range(4)]
    results = await asyncio.gather(*(cache.ready() for cache in made), return_exceptions=True)
    assert sum(isinstance(result, StoredCache) for result in results) == 1
    assert all(isinstance(result, (StoredCache, BaseExceptionGroup)) for result in results)


async def test_a_collection_that_is_not_ours_is_refused(caches: Caches) -> None:
    cache = await caches().ready()
    wrong = dataclasses.replace(cache.store._spec, dim=7)
    with pytest.raises(FailedPrecondition):
        async with cache.connection._moving:
            store = await cache.connection._connected()
            await store.ensure(wrong)
