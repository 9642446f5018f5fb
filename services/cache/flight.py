"""One question whose answer is being made, with its leases and those who wait for it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from services.cache.fill_values import Filled, Granted, Over, Pending
from services.cache.values import CommitResult


class Context(Protocol):
    """What is kept about a question until its answer comes."""

    @property
    def size(self) -> int:
        """Bytes that it holds, roughly."""
        ...


ContextT = TypeVar("ContextT", bound=Context)

WaitResult = Filled | Granted | Pending


@dataclass(eq=False, slots=True)
class Waiter:
    """A caller that waits until `until` (monotonic); `result` is set exactly once, unless the caller leaves.

    `near`: with a question like this one, so that neither its answer nor its lease is handed to it.
    """

    token: str
    until: float
    result: asyncio.Future[WaitResult | Over]
    near: bool = False


@dataclass(eq=False, slots=True)
class Flight(Generic[ContextT]):
    """Everything about one question in flight. Its current lease is `lease`; earlier ones are lost."""

    key: str
    context: ContextT
    lease: Lease[ContextT] | None = None
    waiters: deque[Waiter] = field(default_factory=deque)
    filled: Filled | None = None


class Watcher(Protocol[ContextT]):
    """Who is told which questions are in flight."""

    def opened(self, flight: Flight[ContextT]) -> None:
        """Its answer is being made from now on."""
        ...

    def closed(self, flight: Flight[ContextT]) -> None:
        """Nobody makes it any more: it has come, or its holder gave up and nobody else waited for it."""
        ...


@dataclass(eq=False, slots=True)
class Lease(Generic[ContextT]):
    """The right of one caller to make one answer."""

    id: str
    flight: Flight[ContextT]
    token: str
    expires: float
    committed: CommitResult | None = None
    aborted: bool = False

    @property
    def current(self) -> bool:
        """Whether nobody else has taken over and the holder has not finished, even if the time has run out."""
        return self.flight.lease is self and not self.aborted and self.committed is None
