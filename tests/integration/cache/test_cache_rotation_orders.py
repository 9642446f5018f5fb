"""What operators ask of a change of the embedder that is under way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.cache.rotation.plan import DEFAULT_SHARE, Choice, Phase
from services.chassis.errors import FailedPrecondition, Reason, Unavailable
from tests.integration.cache.rotating_cache import TWO, RotatingCache, changed, embedded, questions

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
