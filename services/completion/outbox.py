"""What is to be told to another service when it can hear it: bounded, in order, retried, never waited for."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Generic, TypeVar

from services.chassis.errors import AntiphonError, DeadlineExceeded, Exhausted, Unauthenticated, Unavailable

ItemT = TypeVar("ItemT")

FIRST_BACKOFF = 0.2
LAST_BACKOFF = 5.0
"""Seconds between tries while the service does not answer: doubled from the first to the last."""


class Outbox(Generic[ItemT]):
    """Sends items in order, those that are `alike` together. An item of a key that still waits replaces the older one.

    When `capacity` items wait the oldest is dropped; so is one that waits longer than `keep` seconds, or that the
    service refuses. `dropped` is told why: `full`, `too_old`, `refused`, `shutdown`.

    Up to `together` items leave at once, if they follow the first one within as many places. When all has been sent,
    what comes next waits until `gather` seconds have passed since, for others to leave with.
    """

    def __init__(
        self,
        send: Callable[[Sequence[ItemT]], Awaitable[None]],
        *,
        capacity: int,
        keep: float,
        dropped: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
        first_backoff: float = FIRST_BACKOFF,
        together: int = 1,
        alike: Callable[[ItemT], Hashable] = id,
        gather: float = 0.0,
    ) -> None:
        self._send = send
        self._capacity = capacity
        self._keep = keep
        self._dropped = dropped
        self._monotonic = monotonic
        self._first_backoff = first_backoff
        self._together = together
        self._alike = alike
        self._gather = gather
        self._emptied = -math.inf
        self._items: OrderedDict[Hashable, tuple[float, ItemT]] = OrderedDict()
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = asyncio.Event()
        self._sending = 0

    def __len__(self) -> int:
        return len(self._items) + self._sending

    def put(self, key: Hashable, item: ItemT) -> None:
        """Take an item; returns at once."""
        self._items.pop(key, None)
        if len(self._items) >= self._capacity:
            self._items.popitem(last=False)
            self._dropped("full")
        self._items[key] = (self._monotonic(), item)
        self._filled.set()
        self._empty.clear()

    async def run(self) -> None:
        """Send until cancelled."""
        backoff = self._first_backoff
        while True:
            await self._filled.wait()
            await self._unless_draining(self._emptied + self._gather - self._monotonic())
            if await self._send_oldest():
                backoff = self._first_backoff
            elif self._draining.is_set():
                self._give_up()
            else:
                await self._unless_draining(backoff)
                backoff = min(backoff * 2, LAST_BACKOFF)

    async def drain(self, seconds: float) -> None:
        """Send what waits, for the last time: what the service does not take now is dropped and counted.

        `run` must be running meanwhile. Ends at the first failure, or after `seconds`.
        """
        self._draining.set()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            self._give_up()

    async def _unless_draining(self, seconds: float) -> None:
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._draining.wait()

    async def _send_oldest(self) -> bool:
        """Send the oldest item and what goes with it; False if the service does not answer."""
        taken = self._take()
        self._sending = len(taken)
        try:
            if taken:
                await self._send([item for _, _, item in taken])
        except (Unavailable, DeadlineExceeded, Exhausted, Unauthenticated):  # the last: keys are being exchanged
            for key, since, item in reversed(taken):
                if key not in self._items:  # else a newer one has come meanwhile
                    self._items[key] = (since, item)
                    self._items.move_to_end(key, last=False)
            return False
        except AntiphonError:
            for _ in taken:
                self._dropped("refused")
        finally:
            self._sending = 0
            self._settle()
        return True

    def _take(self) -> list[tuple[Hashable, float, ItemT]]:
        """Take the oldest item out, and those that go with it, without what has become too old."""
        oldest = list(islice(self._items.items(), self._together))
        kind = self._alike(oldest[0][1][1])
        taken: list[tuple[Hashable, float, ItemT]] = []
        for key, (since, item) in oldest:
            if self._alike(item) != kind:
                continue
            del self._items[key]
            if self._monotonic() - since > self._keep:
                self._dropped("too_old")
            else:
                taken.append((key, since, item))
        return taken

    def _give_up(self) -> None:
        for _ in range(len(self)):  # one under way counts, too: nobody will learn whether it arrived
            self._dropped("shutdown")
        self._items.clear()
        self._settle()

    def _settle(self) -> None:
        if not self._items:
            self._filled.clear()
            self._empty.set()
            self._emptied = self._monotonic()
