"""A change of the embedder goes on where it was, whoever is killed, late or down, and loses nothing meanwhile."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable

import pytest

from services.cache.cache import Cache
from services.cache.entry import Entry
from services.cache.rotation import filling, moving
from services.cache.rotation import plan as plans
from services.cache.rotation.plan import Phase
from services.chassis.errors import FailedPrecondition, Reason, Unavailable
from tests.integration.cache.rotating_cache import TWO, RotatingCache, changed, embedded, heads_of, questions

Make = Callable[..., RotatingCache]

pytestmark = pytest.mark.usefixtures("quick")


# --- kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.fault(50)
async def test_a_change_that_is_killed_at_any_moment_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    cache = await make().ready()
    expected: dict[str, str | None] = {}
    for question in questions(120):
        await cache.put(question, "old")
        expected[question] = "old"
    await cache.rotating.orders.start(TWO, 1.0)
    kills = 0
    while kills < 12 and (await cache.plan()).phase is Phase.EMBEDDING:
        for _ in range(3):
            question = chance.choice(list(expected))
            if chance.random() < 0.5 and (found := (await cache.look(question)).entry) is not None:
                await cache.delete(found.id)
                expected[question] = None
            else:
                expected[question] = f"{kills} {question}"
                await cache.put(question, f"{kills} {question}")
        await asyncio.sleep(chance.uniform(0, 0.04))
        await cache.die()
        kills += 1
        cache = await make().ready(cache.sides.current.end.choice)
    await changed(cache)
    assert kills >= 2, f"seed {seed}: it was killed in the middle"
    assert {question: await cache.text(question) for question in expected} == expected, f"seed {seed}"


@pytest.mark.fault(50)
async def test_what_was_embedded_before_a_kill_is_not_embedded_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried: list[Entry] = []
    monkeypatch.setattr(Cache, "carry", lambda _, entry: carried.append(entry))
    cache = await make().ready()
    for question in questions(64):
        await cache.put(question, "an answer")
    new = cache.workshop.embedders["two"]
    await cache.rotating.orders.start(TWO, 1.0)
    await cache.until(lambda: len(embedded(cache)) >= 32)
    new.gate.clear()
    await cache.die()
    stored = len(await heads_of(cache, "two"))
    again = await make().ready()
    await changed(again)
    assert len(embedded(again)) == 64 - stored
    assert stored > 0
    assert carried == [], "all was embedded before the change"


# --- several replicas -------------------------------------------------------------------------------------------------


async def test_of_two_replicas_one_does_the_work_and_both_change_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "LEASE_SECONDS", 60.0)  # not lost on a slow machine
    one, other = await make().ready(), await make().ready()
    for question in questions(50):
        await one.put(question, "an answer")
    await one.rotating.orders.start(TWO, 1.0)
    await changed(one)
    await changed(other)
    calls = [len(embedded(cache)) for cache in (one, other)]
    assert sorted(calls) == [0, 50]
    await one.put("by one", "seen")
    await other.until(lambda: len(other.sides.cache.entries) == 51)
    assert await other.text("by one") == "seen"


@pytest.mark.fault(69)
async def test_what_a_replica_that_changes_late_stores_is_brought_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "SETTLE_SECONDS", 60.0)
    one, late = await make().ready(), await make().ready()
    await one.put("before", "an answer")
    late.workshop.absent.add("two")
    await one.rotating.orders.start(TWO, 1.0)
    await changed(one)
    stored = await late.put("late", "under the old one")
    assert late.serving == "one"
    await one.until(lambda: len(one.sides.cache.entries) == 2)
    assert await one.text("late") == "under the old one"
    await late.delete(stored.id)
    await one.until(lambda: len(one.sides.cache.entries) == 1)
    assert any(isinstance(error, FailedPrecondition) for error in late.reported)


@pytest.mark.fault(69)
async def test_a_replica_that_stays_behind_promises_nothing(make: Make) -> None:
    one, late = await make().ready(), await make().ready()
    await one.put("before", "an answer")
    late.workshop.absent.add("two")
    await one.rotating.orders.start(TWO, 1.0)
    await changed(one)
    await late.until(lambda: late.sides.behind)
    with pytest.raises(Unavailable) as refused:
        await late.put("late", "under the old one")
    assert refused.value.reason is Reason.EMBEDDER_UNAVAILABLE
    found = (await late.look("before")).entry
    assert found is not None
    with pytest.raises(Unavailable):
        await late.delete(found.id)
    late.workshop.absent.clear()
    await changed(late)
    await late.put("late", "under the new one")
    await one.until(lambda: len(one.sides.cache.entries) == 2)


# --- an embedder that fails -------------------------------------------------------------------------------------------


@pytest.mark.fault(69)
async def test_one_that_cannot_be_embedded_holds_nothing_up(make: Make) -> None:
    cache = await make().ready()
    asked = questions(20)
    for question in asked:
        await cache.put(question, "an answer")
    new = cache.workshop.embedders["two"]
    embed = new.embed_one

    async def poisoned(text: str) -> object:
        if text in {asked[3], asked[17]}:
            raise Unavailable("answered with HTTP 500", reason=Reason.EMBEDDER_UNAVAILABLE)
        return await embed(text)

    new.embed_one = poisoned  # type: ignore[method-assign,assignment]
    await cache.rotating.orders.start(TWO, 1.0)
    await changed(cache)
    plan = await cache.plan()
    assert (plan.done, plan.total, plan.unembedded) == (20, 20, 2)
    assert [await cache.text(question) for question in asked] == ["an answer"] * 20
    assert all(embedded(cache).count(question) == 1 for question in asked if question not in {asked[3], asked[17]})


async def test_nothing_moves_without_an_embedding_while_the_embedder_is_down(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "AGAIN_SECONDS", 0.0)
    cache = await make().ready()
    await cache.put("before", "an answer")
    new = cache.workshop.embedders["two"]
    await cache.rotating.orders.start(TWO, 1.0)
    new.error = Unavailable("it is down", reason=Reason.EMBEDDER_UNAVAILABLE)
    await cache.until(lambda: new.calls.count("before") > 3 * moving.TRIES)
    new.error = None
    await changed(cache)
    assert (await cache.plan()).unembedded == 0


async def test_an_embedder_that_fails_is_told_and_asked_again(make: Make) -> None:
    cache = await make().ready()
    await cache.put("before", "an answer")
    new = cache.workshop.embedders["two"]
    new.error = Unavailable("it is down", reason=Reason.EMBEDDER_UNAVAILABLE)
    with pytest.raises(Unavailable):
        await cache.rotating.orders.start(TWO, 1.0)
    new.error = None
    await cache.rotating.orders.start(TWO, 1.0)
    new.error = Unavailable("it is down", reason=Reason.EMBEDDER_UNAVAILABLE)
    async with asyncio.timeout(30):
        while not (await cache.plan()).failing:  # noqa: ASYNC110 -- each turn reads the plan
            await asyncio.sleep(0.01)
    assert (await cache.plan()).phase is Phase.EMBEDDING
    new.error = None
    await changed(cache)
    assert (await cache.plan()).failing == ""
