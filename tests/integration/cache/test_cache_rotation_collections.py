"""Collections of embedders that do not serve stay until they are dropped, and no alias names what is not filled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from services.cache.adapters.entry_store import CURRENT_ALIAS, collection_name
from services.cache.rotation import moving, rotating
from services.cache.rotation import plan as plans
from services.cache.rotation.plan import Choice, End, Phase, Plan
from services.chassis.errors import FailedPrecondition
from tests.integration.cache.rotating_cache import TWO, RotatingCache, changed, heads_of

Make = Callable[..., RotatingCache]

pytestmark = pytest.mark.usefixtures("quick")


def _name(end: End) -> str:
    return collection_name(end.slug, end.dim)


async def _collections(cache: RotatingCache) -> set[str]:
    async with cache.connection.collection(cache.plans._spec) as collection:
        listed = await collection._client.get_collections()
    return {one.name for one in listed.collections if one.name.startswith(CURRENT_ALIAS)}


async def test_the_alias_never_names_what_a_cancelled_change_has_filled(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = await make().ready()
    await cache.put("before", "an answer")
    named: list[str] = []
    filled = asyncio.Event()
    fill = moving.Moving.fill

    async def cancelled_at_the_end(self: moving.Moving) -> None:
        await fill(self)
        await cache.rotating.orders.cancel()
        filled.set()

    async def name_current(end: End) -> None:
        named.append(end.slug)

    monkeypatch.setattr(moving.Moving, "fill", cancelled_at_the_end)
    monkeypatch.setattr(cache.plans, "name_current", name_current)
    monkeypatch.setattr(rotating, "PAUSE_SECONDS", 60.0)
    await cache.rotating.orders.start(TWO, 1.0)
    async with asyncio.timeout(30):
        await filled.wait()
    await cache.until(lambda: cache.rotating.filling.task is not None and cache.rotating.filling.task.done())
    assert named == []


async def test_what_a_cancelled_change_has_filled_can_be_dropped(make: Make) -> None:
    cache = await make().ready()
    await cache.put("before", "an answer")
    await cache.plans.drop(cache.workshop.end(TWO))
    three = replace(cache.workshop.end(TWO), choice=Choice("three"), slug="known_three")
    begun = await cache.rotating.orders.start(TWO, 1.0)
    # As if the change before had gone from a third one to the first.
    assert await cache.plans.save_plan(
        replace(begun, phase=Phase.CANCELLED, old=(three,), ver=(await cache.plan()).ver)
    )
    assert (await cache.plan()).old == (three,)
    for one in (begun.target, three):  # there, as it is read
        assert await cache.workshop.store(one).is_empty()
    assert (await cache.rotating.orders.drop_old()).phase is Phase.DROPPING
    plan = await cache.until_phase(Phase.DROPPED)
    assert plan.served.slug == begun.source.slug
    assert await _collections(cache) == {_name(begun.source)}
    assert await cache.text("before") == "an answer"
    assert (await cache.rotating.orders.start(TWO, 1.0)).old == ()
    await changed(cache)
    assert await cache.text("before") == "an answer"


async def test_a_new_change_remembers_collections_of_before(make: Make) -> None:
    cache = await make().ready()
    three = replace(cache.workshop.end(TWO), choice=Choice("three"), slug="known_three")
    here = cache.sides.current.end
    assert await cache.plans.save_plan(Plan(three, here, Phase.SWITCHED, 1.0, 1, 1))
    begun = await cache.rotating.orders.start(TWO, 1.0)
    assert begun.old == (three,)
    await cache.rotating.orders.cancel()
    assert {end.slug for end in (await cache.plan()).unserved} == {"known_two", "known_three"}


async def test_the_old_collection_stays_until_it_is_dropped(make: Make) -> None:
    cache = await make().ready()
    await cache.put("before", "an answer")
    with pytest.raises(FailedPrecondition):
        await cache.rotating.orders.drop_old()
    await cache.rotating.orders.start(TWO, 1.0)
    await changed(cache)
    with pytest.raises(FailedPrecondition):
        await cache.rotating.orders.drop_old()  # somebody may still use it
    await asyncio.sleep(plans.SETTLE_SECONDS)
    assert len(await heads_of(cache, "one")) == 1
    await cache.rotating.orders.drop_old()
    await cache.until_phase(Phase.DROPPED)
    async with cache.connection.collection(cache.workshop.store(cache.workshop.end(TWO))._spec):
        store = cache.connection._store
    assert store is not None
    assert await store.resolve("antiphon_entries") == "antiphon_entries_known_two_32_v1"
    assert await store.resolve("antiphon_entries_known_one_64") is None
    assert await cache.text("before") == "an answer"
