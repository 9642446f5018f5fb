"""What operators ask of a change of the embedder: to begin it, to slow it down, to give it up and to undo it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from services.cache.rotation import plan as plans
from services.cache.rotation.plan import DEFAULT_SHARE, Choice, Phase
from services.chassis.errors import FailedPrecondition, InvalidRequest, Reason, Unavailable
from tests.integration.cache.rotating_cache import ONE, TWO, RotatingCache, changed, embedded, questions

Make = Callable[[], RotatingCache]

pytestmark = pytest.mark.usefixtures("quick")


async def _begun(make: Make, share: float) -> RotatingCache:
    cache = await make().ready()
    for question in questions(60):
        await cache.put(question, "an answer")
    await cache.rotating.orders.start(TWO, share)
    await cache.until(lambda: len(embedded(cache)) > 0)
    return cache


async def test_another_share_is_taken_up_by_who_rests(make: Make) -> None:
    cache = await _begun(make, 0.0001)  # rests for minutes after the first batch
    told = await cache.rotating.orders.start(TWO, 1.0)
    assert (told.share, told.phase) == (1.0, Phase.EMBEDDING)
    await changed(cache)
    plan = await cache.plan()
    assert (plan.done, plan.share) == (60, 1.0)


async def test_without_a_share_it_goes_on_as_it_is(make: Make) -> None:
    cache = await _begun(make, 0.0001)
    assert (await cache.rotating.orders.start(TWO, None)).share == 0.0001
    await cache.rotating.orders.cancel()
    assert (await cache.rotating.orders.start(TWO, None)).share == DEFAULT_SHARE


async def test_a_change_that_is_under_way_is_told_while_its_embedder_is_down(make: Make) -> None:
    cache = await _begun(make, 0.0001)
    cache.workshop.embedders["two"].error = Unavailable("it is down", reason=Reason.EMBEDDER_UNAVAILABLE)
    begun = await cache.plan()
    again = await cache.rotating.orders.start(TWO, 0.5)
    assert (again.started_us, again.share) == (begun.started_us, 0.5)
    cache.workshop.absent.add("two")
    assert (await cache.rotating.orders.start(TWO, None)).started_us == begun.started_us
    with pytest.raises(FailedPrecondition):
        await cache.rotating.orders.start(Choice("three"), None)


async def test_a_change_that_is_begun_again_between_two_looks_is_done(make: Make) -> None:
    cache = await make().ready()
    for question in questions(20):
        await cache.put(question, "an answer")
    begun = await cache.rotating.orders.start(TWO, 1.0)
    new = cache.workshop.embedders["two"]
    new.gate.clear()
    await cache.until(lambda: len(embedded(cache)) > 0)
    # What the store says after a cancel and a start that nobody has looked between.
    again = replace(await cache.plan(), started_us=begun.started_us + 1, done=0, total=0)
    while not await cache.plans.save_plan(again):
        again = replace(again, ver=(await cache.plan()).ver)
    new.gate.set()
    await changed(cache)
    plan = await cache.plan()
    assert (plan.started_us, plan.done, plan.total) == (begun.started_us + 1, 20, 20)


async def test_a_change_can_be_given_up_and_taken_up_and_undone(make: Make) -> None:
    cache = await make().ready()
    for question in questions(40):
        await cache.put(question, "an answer")
    new = cache.workshop.embedders["two"]
    await cache.rotating.orders.start(TWO, 1.0)
    await cache.until(lambda: len(embedded(cache)) >= 16)
    new.gate.clear()
    await cache.rotating.orders.cancel()
    new.gate.set()
    assert (await cache.rotating.orders.cancel()).phase is Phase.CANCELLED, "once more does no harm"
    assert cache.serving == "one"
    await cache.rotating.orders.start(TWO, 1.0)
    await changed(cache)
    await cache.put("by two", "kept")
    await asyncio.sleep(plans.SETTLE_SECONDS)
    calls = len(embedded(cache, "one"))
    await cache.rotating.orders.start(ONE, 1.0)
    await cache.until(lambda: cache.serving == "one")
    assert len(embedded(cache, "one")) == calls + 1, "the old collection is taken up"
    assert await cache.text("by two") == "kept"
    assert await cache.text(questions(1)[0]) == "an answer"


async def test_what_makes_no_sense_is_refused(make: Make) -> None:
    cache = await make().ready()
    with pytest.raises(InvalidRequest):
        await cache.rotating.orders.start(ONE, 1.0)
    with pytest.raises(FailedPrecondition):
        await cache.rotating.orders.start(Choice("three"), 1.0)
    for question in questions(60):
        await cache.put(question, "an answer")
    first = await cache.rotating.orders.start(TWO, 0.05)
    again = await cache.rotating.orders.start(TWO, 0.05)
    assert (again.started_us, again.phase) == (first.started_us, Phase.EMBEDDING), "the one that is under way"
