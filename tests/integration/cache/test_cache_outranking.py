"""Of two answers to a question the one that was stored last counts, whatever was done to the other one meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.cache import ports, tailing
from services.cache.entry import Entry
from services.cache.feedback import Feedback
from services.cache.review import FeedbackSource
from services.cache.values import ByIds, Chosen
from services.chassis.errors import NotFound, Unavailable
from tests.integration.cache.stored_cache import StoredCache, until
from tests.unit.cache.cache_parts import TENANT, down

Caches = Callable[..., StoredCache]
ASKED = "How do I reset my password?"
OTHER = "another question"

pytestmark = pytest.mark.fault(48)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "PAUSE_SECONDS", 0.01)


async def looked(cache: StoredCache) -> None:
    """One whole look at what is new."""
    await cache.cache.tailing.look()


async def written(cache: StoredCache) -> None:
    await until(lambda: not cache.cache.writer.pending() and not cache.cache.writer.backlog.waiting, "all is written")


async def embed_late(cache: StoredCache, entry: Entry) -> None:
    await cache.cache._storing.give_vector(entry, cache.embedder.vector(entry.question))
    await written(cache)


async def test_an_embedding_that_comes_late_does_not_outrank_a_newer_answer(caches: Caches) -> None:
    one, other = await caches().ready(), await caches().ready()
    entry = await one.put(ASKED)
    await looked(other)
    async with one.cache.tailing._looking:  # it hears of nothing
        await other.put(ASKED, "a newer answer")
        await one.put(OTHER)  # by then it has seen a later version than that answer's
        await embed_late(one, entry)
    await looked(other)
    assert await one.text(ASKED) == await other.text(ASKED) == "a newer answer"


async def test_what_outlives_a_clear_does_not_outrank_a_newer_answer(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await caches().ready(), await caches().ready()
    save, gate = one.store.save, asyncio.Event()

    async def late(writes: Any) -> list[bool]:
        if not gate.is_set():
            raise down()
        return await save(writes)

    monkeypatch.setattr(one.store, "save", late)
    monkeypatch.setattr(ports, "CLOCK_SKEW_US", 0)
    async with one.cache.tailing._looking:  # it hears of nothing
        await other.clear()
        await one.put(ASKED, durable=False)
        await other.put(ASKED, "a newer answer")
        await one.put(OTHER, durable=False)
    await looked(one)
    gate.set()
    await written(one)
    await looked(other)
    assert await one.text(ASKED) == await other.text(ASKED) == "a newer answer"
    assert await other.text(OTHER) == "an answer"


async def test_what_is_said_of_an_answer_does_not_outrank_a_newer_one(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, slow = await caches().ready(), await caches(now=lambda: time.time() - 3).ready()
    entry = await one.put(ASKED)
    await looked(slow)
    save, stored = one.store.save, asyncio.Event()

    async def overtaken(writes: Any) -> list[bool]:
        if not stored.is_set():
            stored.set()
            await slow.put(ASKED, "a newer answer")
        return await save(writes)

    monkeypatch.setattr(one.store, "save", overtaken)
    said = Feedback(entry.id, FeedbackSource.USER, right=True, semantic=False)
    with pytest.raises(NotFound):
        await one.cache.feedback(TENANT, said)
    await looked(slow)
    assert await one.text(ASKED) == await slow.text(ASKED) == "a newer answer"


def away(cache: StoredCache, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The store does not answer this cache until the event is set."""
    back = asyncio.Event()
    for owner, names in ((cache.store, ("save", "read", "remove")), (cache.control, ("advance", "load"))):
        for name in names:
            call = getattr(owner, name)

            async def unless_away(*args: Any, _call: Any = call, **named: Any) -> Any:
                if not back.is_set():
                    raise down()
                return await _call(*args, **named)

            monkeypatch.setattr(owner, name, unless_away)
    return back


@pytest.mark.parametrize("clears", [1, 2])
async def test_what_a_clear_hides_does_not_keep_out_what_was_stored_after_it(
    caches: Caches, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clears: int
) -> None:
    one, other = await caches(queue=tmp_path).ready(), await caches().ready()
    back = away(one, monkeypatch)
    async with one.cache.tailing._looking:
        with pytest.raises(Unavailable):
            await one.put("it notices that the store is away")
        if clears == 2:
            await other.clear()
        await one.clear()
        await one.put(ASKED, "after the clear", durable=False)
        await other.put(ASKED, "of one that has not heard of the clear")
        await one.put(OTHER, durable=False)
        back.set()
        await written(one)
    await looked(one)
    await looked(other)
    assert await one.text(ASKED) == await other.text(ASKED) == "after the clear"
    await other.cache.purging.purge()
    fresh = await caches().ready()
    assert (await fresh.text(ASKED), await fresh.text(OTHER)) == ("after the clear", "an answer")


@pytest.mark.parametrize("embedded_first", [True, False])
@pytest.mark.parametrize("deleted", [True, False])
async def test_where_the_clock_tells_nothing_an_embedding_does_not_outrank_either(
    caches: Caches, embedded_first: bool, deleted: bool
) -> None:
    """One replica's clock is so wrong that its versions come right behind those it has seen."""
    one, slow = await caches().ready(), await caches(now=lambda: time.time() - 3_600).ready()
    entry = await one.put(ASKED)
    await looked(slow)
    async with one.cache.tailing._looking, slow.cache.tailing._looking:
        if embedded_first:
            await embed_late(one, entry)
        if deleted:
            assert await slow.cache.remove(TENANT, Chosen(ByIds((entry.id,)))) == 1
        else:
            await slow.put(ASKED, "a newer answer")
        if not embedded_first:
            await embed_late(one, entry)
    await one.cache.tailing.look(everything=True)
    await slow.cache.tailing.look(everything=True)
    fresh = await caches().ready()
    for cache in (one, slow, fresh):
        assert await cache.text(ASKED) == (None if deleted else "a newer answer")
