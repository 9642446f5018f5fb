"""What waits for another service: bounded, in order, retried, dropped only with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.chassis.errors import AntiphonError, InvalidRequest, Unavailable
from services.completion.outbox import Outbox
from tests.unit.completion.completion_parts import until


@dataclass
class Desk:
    """The service that takes items, and what was dropped."""

    error: AntiphonError | None = None
    hold: asyncio.Event | None = None
    tries: int = 0
    taken: list[str] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    """Of those that were taken, how many at once."""
    dropped: list[str] = field(default_factory=list)
    time: float = 0.0

    async def take(self, items: Sequence[str]) -> None:
        self.tries += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        self.taken += items
        self.calls.append(len(items))


@asynccontextmanager
async def running(
    desk: Desk, *, capacity: int = 100, together: int = 1, gather: float = 0.0
) -> AsyncIterator[Outbox[str]]:
    outbox: Outbox[str] = Outbox(
        desk.take,
        capacity=capacity,
        keep=60.0,
        dropped=desk.dropped.append,
        monotonic=lambda: desk.time,
        first_backoff=0.001,
        together=together,
        alike=lambda item: item[0],
        gather=gather,
    )
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_items_are_sent_in_order_once() -> None:
    desk = Desk()
    async with running(desk) as outbox:
        for item in ("a", "b", "c"):
            outbox.put(item, item)
        await until(lambda: not len(outbox))
    assert desk.taken == ["a", "b", "c"]
    assert desk.dropped == []


async def test_while_the_service_is_away_items_wait_and_are_tried_again() -> None:
    desk = Desk(error=Unavailable("down"))
    async with running(desk) as outbox:
        for item in ("a", "b"):
            outbox.put(item, item)
        await until(lambda: desk.tries >= 3)
        desk.error = None
        await until(lambda: not len(outbox))
    assert desk.taken == ["a", "b"]


async def test_a_newer_item_replaces_the_one_of_its_key_that_waits_or_is_under_way() -> None:
    desk = Desk(error=Unavailable("down"), hold=asyncio.Event())
    async with running(desk) as outbox:
        outbox.put("k", "old")
        await until(lambda: desk.tries == 1)
        outbox.put("k", "new")
        assert desk.hold is not None
        desk.hold.set()
        await until(lambda: desk.tries >= 2)
        desk.error = None
        await until(lambda: not len(outbox))
    assert desk.taken == ["new"]


async def test_beyond_its_capacity_the_oldest_is_dropped_and_counted() -> None:
    desk = Desk(error=Unavailable("down"))
    async with running(desk, capacity=2) as outbox:
        for item in ("a", "b", "c"):
            outbox.put(item, item)
        desk.error = None
        await until(lambda: not len(outbox))
    assert desk.taken == ["b", "c"]
    assert desk.dropped == ["full"]


async def test_what_is_too_old_or_refused_is_dropped_and_the_next_is_sent() -> None:
    desk = Desk(error=InvalidRequest("no"))
    async with running(desk) as outbox:
        outbox.put("a", "a")
        await until(lambda: not len(outbox))
        desk.error = Unavailable("down")
        outbox.put("b", "b")
        await until(lambda: desk.tries >= 2)
        desk.time = 61.0
        await until(lambda: not len(outbox))
        desk.error = None
        outbox.put("c", "c")
        await until(lambda: not len(outbox))
    assert desk.taken == ["c"]
    assert desk.dropped == ["refused", "too_old"]


async def test_draining_sends_what_can_be_sent() -> None:
    desk = Desk()
    async with running(desk) as outbox:
        for item in ("a", "b"):
            outbox.put(item, item)
        await outbox.drain(10.0)
    assert desk.taken == ["a", "b"]
    assert desk.dropped == []


async def test_draining_gives_up_at_the_first_failure_and_counts_the_rest() -> None:
    desk = Desk(error=Unavailable("down"))
    async with running(desk) as outbox:
        for item in ("a", "b"):
            outbox.put(item, item)
        await outbox.drain(10.0)
        assert len(outbox) == 0
    assert desk.dropped == ["shutdown", "shutdown"]


async def test_draining_does_not_wait_for_a_service_that_hangs() -> None:
    desk = Desk(hold=asyncio.Event())
    async with running(desk) as outbox:
        outbox.put("a", "a")
        outbox.put("b", "b")
        await until(lambda: desk.tries == 1)
        await outbox.drain(0.01)
    assert desk.dropped == ["shutdown", "shutdown"]


async def test_items_that_are_alike_leave_together_and_the_others_lose_nothing() -> None:
    desk = Desk(hold=asyncio.Event())
    async with running(desk, together=4) as outbox:
        outbox.put("first", "z")
        await until(lambda: desk.tries == 1)
        for item in ("a1", "b1", "a2", "b2", "a3", "a4", "a5"):
            outbox.put(item, item)
        assert len(outbox) == 8
        desk.hold.set()
        await until(lambda: not len(outbox))
    assert desk.taken == ["z", "a1", "a2", "b1", "b2", "a3", "a4", "a5"]
    assert desk.calls == [1, 2, 2, 3]


async def test_items_that_could_not_be_sent_together_keep_their_order() -> None:
    desk = Desk(error=Unavailable("away"))
    async with running(desk, together=4) as outbox:
        for item in ("a1", "b1", "a2"):
            outbox.put(item, item)
        await until(lambda: desk.tries >= 3)
        desk.error = None
        await until(lambda: not len(outbox))
    assert sorted(desk.taken) == ["a1", "a2", "b1"]
    assert [item for item in desk.taken if item[0] == "a"] == ["a1", "a2"]
    assert desk.dropped == []


async def test_what_comes_soon_after_waits_for_others_and_leaves_at_once_at_the_end() -> None:
    desk = Desk()
    async with running(desk, together=4, gather=1_000.0) as outbox:
        outbox.put("a1", "a1")
        await until(lambda: desk.taken == ["a1"])
        for item in ("a2", "a3"):
            outbox.put(item, item)
        await asyncio.sleep(0.01)
        assert desk.taken == ["a1"]
        await outbox.drain(5)
    assert desk.calls == [1, 2]
    assert desk.dropped == []
