"""What is to be told to another service when it can hear it: bounded, in order, retried, never waited for."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

from services.chassis.errors import AntiphonError, DeadlineExceeded, Exhausted, Unauthenticated, Unavailable

ItemT = TypeVar("ItemT")

FIRST_BACKOFF = 0.2
LAST_BACKOFF = 5.0
"""Seconds between tries while the service does not answer: doubled from the first to the last."""


class Outbox(Generic[ItemT]):
    """Sends items one after the other. An item of a key that still waits replaces the older one.

    When `capacity` items wait the oldest is dropped; so is one that waits longer than `keep` seconds, or that the
    service refuses. `dropped` is told why: `full`, `too_old`, `refused`, `shutdown`.
    """

    def __init__(
        self,
        send: Callable[[ItemT], Awaitable[None]],
        *,
        capacity: int,
        keep: float,
        dropped: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
        first_backoff: float = FIRST_BACKOFF,
    ) -> None:
        self._send = send
        self._capacity = capacity
        self._keep = keep
        self._dropped = dropped
        self._monotonic = monotonic
        self._first_backoff = first_backoff
        self._items: OrderedDict[Hashable, tuple[float, ItemT]] = OrderedDict()
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = asyncio.Event()
        self._busy = False

    def __len__(self) -> int:
        return len(self._items) + self._busy

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
            if await self._send_oldest():
                backoff = self._first_backoff
            elif self._draining.is_set():
                self._give_up()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff):
                        await self._draining.wait()
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

    async def _send_oldest(self) -> bool:
        """Send one item; False if the service does not answer."""
        key, (since, item) = self._items.popitem(last=False)
        self._busy = True
        try:
            if self._monotonic() - since > self._keep:
                self._dropped("too_old")
            else:
                await self._send(item)
        except (Unavailable, DeadlineExceeded, Exhausted, Unauthenticated):  # the last: keys are being exchanged
            if key not in self._items:  # else a newer one has come meanwhile
                self._items[key] = (since, item)
                self._items.move_to_end(key, last=False)
            return False
        except AntiphonError:
            self._dropped("refused")
        finally:
            self._busy = False
            self._settle()
        return True

    def _give_up(self) -> None:
        for _ in range(len(self)):  # one under way counts, too: nobody will learn whether it arrived
            self._dropped("shutdown")
        self._items.clear()
        self._settle()

    def _settle(self) -> None:
        if not self._items:
            self._filled.clear()
            self._empty.set()
