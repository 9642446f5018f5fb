"""While the store is down: deletes and clears hold, what is made is kept on disk, and a kill loses neither."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cache import writer as writer_module
from services.cache.adapters.disk_queue import FILE_NAME, DiskQueue
from services.cache.entry import Entry, Source
from services.cache.ports import Epoch, Tombstone, Write
from services.cache.scope import entry_id
from services.cache.values import ByIds, Chosen
from services.chassis.errors import Unavailable
from tests.integration.cache.stored_cache import StoredCache, until
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import DIM, TENANT, KnownEmbedder, answer, ask

Caches = Callable[..., StoredCache]
ASKED = "How do I reset my password?"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "KEEP_SECONDS", 0.01)
    monkeypatch.setattr(writer_module, "LONGEST_PAUSE", 0.05)


async def down(cache: StoredCache, store: StoreProcess) -> None:
    """Kill the store and let the cache notice."""
    store.kill()
    with pytest.raises(Unavailable):
        await cache.put("nobody takes this for good")


async def delete(cache: StoredCache, *ids: str) -> int:
    return await cache.cache.remove(TENANT, Chosen(ByIds(ids)))


async def on_disk(cache: StoredCache, count: int) -> None:
    backlog = cache.cache.writer.backlog
    await until(lambda: len(backlog._kept) == count, "what waits is not brought to disk")


async def sent(cache: StoredCache) -> None:
    writer = cache.cache.writer
    await until(lambda: not writer.pending() and not writer.backlog.waiting, "what waited is not sent")
    await until(lambda: writer.backlog.bytes == 0, "the disk is not emptied")


@pytest.mark.fault(42)
@pytest.mark.fault(88)
async def test_deletes_and_clears_hold_at_once_and_reach_a_store_that_comes_back(
    caches: Caches, store: StoreProcess, tmp_path: Path
) -> None:
    cache = await caches(queue=tmp_path).ready()
    entry = await cache.put(ASKED)
    await cache.put("another question to ask")
    await cache.put(ask("cleared, this question", namespace="other"))
    await down(cache, store)
    assert await delete(cache, entry.id) == 1
    assert await cache.clear("other") == (1, 1)
    assert await cache.text(ASKED) is None
    assert await cache.text(ask("cleared, this question", namespace="other")) is None
    assert await cache.text("another question to ask") == "an answer"
    await cache.put(ask("since the clear, this question", namespace="other"), durable=False)
    await asyncio.to_thread(store.start)
    await sent(cache)
    await cache.put(ASKED, "asked again")
    await cache.die()
    second = await caches(queue=tmp_path).ready()
    assert await second.text(ASKED) == "asked again"
    assert await second.text(ask("cleared, this question", namespace="other")) is None
    assert await second.text(ask("since the clear, this question", namespace="other")) == "an answer"
    assert await second.text("another question to ask") == "an answer"


@pytest.mark.fault(50, 88)
async def test_a_kill_while_the_store_is_down_loses_nothing_of_it(
    caches: Caches, store: StoreProcess, tmp_path: Path
) -> None:
    first = await caches(queue=tmp_path).ready()
    entry = await first.put(ASKED)
    await first.put(ask("cleared, this question", namespace="other"))
    await down(first, store)
    await delete(first, entry.id)
    await first.clear("other")
    first.embedder.alike("made while it was away", "asked in other words", 0.95)
    await first.put("made while it was away", "kept", durable=False)
    await on_disk(first, 2)
    await first.die()

    second = caches(queue=tmp_path).start()
    second.embedder.alike("made while it was away", "asked in other words", 0.95)
    await until(lambda: len(second.cache.entries) > 0, "what was on disk is not read")
    assert await second.text("made while it was away") == "kept", "served before the store is back"
    await asyncio.to_thread(store.start)
    await second.ready()
    assert await second.text(ASKED) is None
    assert await second.text(ask("cleared, this question", namespace="other")) is None
    await sent(second)
    await second.die()

    third = await caches().ready()
    third.embedder.alike("made while it was away", "asked in other words", 0.95)
    assert await third.text(ASKED) is None
    assert await third.text(ask("cleared, this question", namespace="other")) is None
    assert await third.text("made while it was away") == "kept"
    assert await third.text("asked in other words") == "kept", "with its embedding"


async def test_what_was_kept_of_a_namespace_that_was_cleared_once_is_served_after_a_kill(
    caches: Caches, store: StoreProcess, tmp_path: Path
) -> None:
    first = await caches(queue=tmp_path).ready()
    await first.put("an older question")
    await first.clear()
    await down(first, store)
    await first.put(ASKED, "kept", durable=False)
    await on_disk(first, 2)
    await first.die()
    await asyncio.to_thread(store.start)
    second = await caches(queue=tmp_path).ready()
    assert await second.text(ASKED) == "kept"
    assert await second.text("an older question") is None
    await sent(second)
    assert await second.text(ASKED) == "kept"


async def test_a_clear_that_was_told_is_not_told_again(caches: Caches, store: StoreProcess, tmp_path: Path) -> None:
    """A kill between the store's answer and the emptying of the disk: what was stored since must stay."""
    first = await caches(queue=tmp_path).ready()
    await first.put(ASKED)
    await down(first, store)
    await first.clear()
    left = (tmp_path / FILE_NAME).read_bytes()
    await asyncio.to_thread(store.start)
    await sent(first)
    await first.put(ASKED, "since then")
    await first.die()
    (tmp_path / FILE_NAME).write_bytes(left)
    second = await caches(queue=tmp_path).ready()
    await sent(second)
    assert await second.text(ASKED) == "since then"
    assert second.cache.entries.epoch(TENANT, "default") == 1


@pytest.mark.fault(88)
@pytest.mark.parametrize("damage", ["cut", "flipped", "noise"])
async def test_a_torn_file_costs_what_is_torn_and_no_more(tmp_path: Path, damage: str) -> None:
    embedder = KnownEmbedder()
    queue = DiskQueue(tmp_path, embedder="known_1", dim=DIM)
    items = [_write(embedder, number) for number in range(5)]
    graves = [Tombstone(f"{number:032x}", TENANT, "default", 5, 0, 1, 2**50) for number in range(3)]
    clear = Epoch(TENANT, "other", 3, 7)
    await queue.append([*items[:3], *graves, clear], durable=True)
    await queue.append(items[3:], durable=False)
    queue.close()
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-10]
    elif damage == "flipped":
        content[len(content) - 40] ^= 0x10
    else:
        content[10:10] = os.urandom(100)
    path.write_bytes(content)
    again = DiskQueue(tmp_path, embedder="known_1", dim=DIM)
    found = await again.read()
    lost = 0 if damage == "noise" else 4
    assert [one for one in found if isinstance(one, (Tombstone, Epoch))] == [*graves, clear]
    written = [one.entry for one in found if isinstance(one, Write)]
    assert written == [item.entry for number, item in enumerate(items) if number != lost]
    assert again.torn >= 1
    again.close()


@pytest.mark.fault(88)
async def test_when_the_disk_is_full_the_oldest_writes_go_and_deletes_stay(
    caches: Caches, store: StoreProcess, tmp_path: Path
) -> None:
    cache = await caches(queue=tmp_path, max_queue_bytes=40_000).ready()
    entries = [await cache.put(f"the question number {number}") for number in range(10)]
    await cache.put(ask("cleared, this question", namespace="other"))
    await down(cache, store)
    for entry in entries:
        await delete(cache, entry.id)
    await cache.clear("other")
    for number in range(100):
        await cache.put(f"asked while it was away, number {number}", durable=False)
    await until(lambda: cache.cache.writer.given_up > 0, "nothing was given up")
    writer = cache.cache.writer
    await until(
        lambda: len(writer.backlog._kept) == len(writer.pending()) and writer.backlog.bytes <= 40_000,
        "what waits is not brought to disk, or more than fits",
    )
    kept = [write.entry.question for write in cache.cache.writer.pending()]
    given_up = cache.cache.writer.given_up
    assert kept == [f"asked while it was away, number {number}" for number in range(100 - len(kept), 100)]
    report = await cache.cache.report(TENANT, None)
    assert report.writes_not_stored == given_up + len(kept)
    assert await cache.text("asked while it was away, number 0") == "an answer", "it stays in memory"
    await cache.die()
    await asyncio.to_thread(store.start)
    second = await caches(queue=tmp_path).ready()
    await sent(second)
    await second.die()
    third = await caches().ready()
    assert [await third.text(entry.question) for entry in entries] == [None] * 10
    assert await third.text(ask("cleared, this question", namespace="other")) is None
    assert await third.text("asked while it was away, number 99") == "an answer"


@pytest.mark.fault(44)
async def test_without_store_and_disk_a_delete_is_refused_and_nothing_is_gone(
    caches: Caches, store: StoreProcess
) -> None:
    cache = await caches().ready()
    entry = await cache.put(ASKED)
    await down(cache, store)
    with pytest.raises(Unavailable):
        await delete(cache, entry.id)
    with pytest.raises(Unavailable):
        await cache.clear()
    assert await cache.text(ASKED) == "an answer"


def test_two_processes_do_not_share_a_queue(tmp_path: Path) -> None:
    first = DiskQueue(tmp_path, embedder="known_1", dim=DIM)
    with pytest.raises(BlockingIOError):
        DiskQueue(tmp_path, embedder="known_1", dim=DIM)
    first.close()
    DiskQueue(tmp_path, embedder="known_1", dim=DIM).close()


def _write(embedder: KnownEmbedder, number: int) -> Write:
    question = f"the question number {number}"
    scope, key = "5c" * 32, f"{number:064x}"
    entry = Entry(
        id=entry_id(scope, key),
        tenant=TENANT,
        namespace="default",
        scope=scope,
        key=key,
        question=question,
        answer=answer(f"answer {number}"),
        created_us=1,
        updated_us=2,
        expires_us=2**51,
        ver=number + 1,
        epoch=0,
        source=Source.PUT,
        tags=("a",),
        sources=(("docs", "v2"),),
    )
    return Write(entry, embedder.vector(question))
