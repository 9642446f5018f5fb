"""What was cleared or deleted is gone at once and for good: over the real embedded store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from services.cache import purging
from services.cache.ports import Tombstone, Write
from services.cache.values import ByIds, BySource, ByTags, Chosen, Outcome, Policy
from services.chassis.errors import NotFound
from tests.integration.cache.stored_cache import StoredCache, lease, until
from tests.unit.cache.cache_parts import ASKED, REWORDED, TENANT, ask

Caches = Callable[..., StoredCache]


# --- cleared stays cleared (row 61) -----------------------------------------------------------------------------------


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


# --- delete -----------------------------------------------------------------------------------------------------------


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
