"""Which embedder's cache answers after a start, whatever the settings name and whether the store answers or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.cache.recovery import Phase as Recovering
from services.cache.rotation import filling
from services.cache.rotation.filling import Role
from services.cache.rotation.plan import Phase
from services.cache.values import Mode, Outcome, Policy
from services.chassis.deadline import Deadline
from tests.integration.cache.rotating_cache import ONE, TWO, RotatingCache, changed, embedded, questions
from tests.unit.cache.cache_parts import TENANT, answer, ask

Make = Callable[[], RotatingCache]

pytestmark = pytest.mark.usefixtures("quick")

COUNT = 60


async def _half_way(make: Make) -> None:
    """A change from the first embedder to the second one that has filled a part, with nobody who goes on."""
    cache = await make().ready()
    for question in questions(COUNT):
        await cache.put(question, "an answer")
    await cache.rotating.orders.start(TWO, 0.0001)
    await cache.until(lambda: len(embedded(cache)) > 0)
    async with cache.connection.collection(cache.workshop.store(cache.workshop.end(TWO))._spec):
        await cache.die()


@pytest.mark.fault(69)
async def test_a_half_filled_collection_is_never_served_as_if_it_were_all(make: Make) -> None:
    await _half_way(make)
    cache = await make().start(TWO)  # as when the store did not answer: the plan is not known
    own = await cache.sides.put(
        TENANT,
        ask("made meanwhile"),
        Policy(),
        answer("kept"),
        durable=False,
        writer="",
        deadline=Deadline.after(10),
    )
    assert own.answer.text == "kept"
    first = cache.sides.cache
    await cache.until(lambda: cache.serving == "one")
    assert first.recovery.phase is Recovering.WAITING, "nothing of the half was read"
    assert [await cache.text(question) for question in questions(COUNT)] == ["an answer"] * COUNT
    assert await cache.text("made meanwhile") == "kept"
    assert [end.choice for end in cache.served] == [ONE], "it is said"
    assert any("by a change, another embedder serves" in str(error) for _, error in cache.workshop.reported)
    plan = await cache.plan()
    assert (plan.phase, cache.rotating.problem(plan)) == (Phase.EMBEDDING, "")
    await cache.rotating.orders.start(TWO, 1.0)
    await changed(cache)
    assert [await cache.text(question) for question in questions(COUNT)] == ["an answer"] * COUNT


@pytest.mark.fault(69)
async def test_without_the_embedder_that_serves_a_half_filled_collection_is_not_served_either(make: Make) -> None:
    await _half_way(make)
    cache = make()
    cache.workshop.absent.add("one")
    await cache.start(TWO)
    await cache.until(lambda: "not there" in cache.rotating.problem(cache.rotating.plan))
    assert not cache.sides.cache.recovery.ready.is_set()
    found = await cache.look(questions(1)[0], Policy(mode=Mode.ONLY_IF_CACHED))
    assert found.outcome is not Outcome.EXACT
    cache.workshop.absent.clear()
    await cache.sides.ready()
    assert await cache.text(questions(1)[0]) == "an answer"
    assert cache.rotating.problem(cache.rotating.plan) == ""


async def test_who_lacks_the_embedder_that_serves_says_so(make: Make) -> None:
    one, late = await make().ready(), await make().ready()
    await one.put("before", "an answer")
    late.workshop.absent.add("two")
    await one.rotating.orders.start(TWO, 1.0)
    await changed(one)
    await late.until(lambda: "not there" in late.rotating.problem(late.rotating.plan))
    assert one.rotating.problem(await one.plan()) == ""
    assert (one.stood[-1], late.stood[-1]) == (False, True)
    late.workshop.absent.clear()
    await changed(late)
    assert late.rotating.problem(await late.plan()) == ""


async def test_a_replica_tells_whether_it_does_the_work(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "LEASE_SECONDS", 60.0)
    one, other = await make().ready(), await make().ready()
    for question in questions(COUNT):
        await one.put(question, "an answer")
    assert {one.rotating.filling.role, other.rotating.filling.role} == {Role.NONE}
    await one.rotating.orders.start(TWO, 0.0001)
    both = (one.rotating.filling, other.rotating.filling)
    await one.until(lambda: {work.role for work in both} == {Role.MOVES, Role.WAITS})
    await one.rotating.orders.cancel()
    await one.until(lambda: {work.role for work in both} == {Role.NONE})


async def test_a_replica_that_cannot_do_the_work_tells_so(make: Make) -> None:
    cache = await make().ready()
    await cache.put("before", "an answer")
    begun = await cache.rotating.orders.start(TWO, 1.0)
    await changed(cache)
    cache.workshop.absent.add("one")
    back = replace(begun, source=begun.target, target=begun.source, started_us=begun.started_us + 1)
    while not await cache.plans.save_plan(back):
        back = replace(back, ver=(await cache.plan()).ver)
    await cache.until(lambda: cache.rotating.filling.role is Role.PAUSES)
