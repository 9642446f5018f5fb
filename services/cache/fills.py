"""One fill per question: who makes the answer that is missing, and who waits for it.

The holder of a lease makes the answer, renews the lease meanwhile, and commits or aborts. Others wait by the
lease's id. When the holder gives up or its time runs out, the first of those who wait gets a new lease; the rest go on
waiting by the id they have. Who waits with a question that is only like this one gets neither the answer nor the lease,
but is told when there is nothing to wait for any more. A lease whose time ran out stays its holder's until someone
takes over: a slow holder that nobody was waiting for may still renew and commit.

For one event loop. The clock is passed in; `expire()` does what is due by it, and `run()` calls that in time.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic

from services.cache.fill_values import Filled, Granted, InProgress, Over, Pending
from services.cache.flight import ContextT, Flight, Lease, Waiter, WaitResult, Watcher
from services.cache.values import CommitResult
from services.chassis.errors import Aborted, Exhausted, NotFound, Reason

REMEMBER_SECONDS = 300.0
"""How long a lease is known after it ended, so that a repeated Commit, Abort or WaitFill finds out how it ended."""

REMEMBER_ENDED = 10_000
"""Of ended leases at most; the oldest are forgotten first."""

REMEMBER_BYTES = 64 * 1024 * 1024
"""Of the texts of their answers at most."""


class Fills(Generic[ContextT]):
    """All fills of one server; `ContextT` is what is kept about a question until its answer comes."""

    def __init__(
        self,
        *,
        duration: float,
        monotonic: Callable[[], float],
        max_active: int,
        watcher: Watcher[ContextT] | None = None,
    ) -> None:
        """`duration`: seconds of a lease; `max_active`: questions in flight at once."""
        self._duration = duration
        self._monotonic = monotonic
        self._max_active = max_active
        self._watcher = watcher
        self._leases: dict[str, Lease[ContextT]] = {}
        self._flights: dict[str, Flight[ContextT]] = {}
        self._idle: dict[str, Flight[ContextT]] = {}
        """Flights that nobody is filling: the holder of `lease` gave up or is late, and nobody else has asked since."""
        self._ended: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """Ended or lapsed leases by id: when they ended, and the bytes they hold."""
        self._ended_bytes = 0
        self._due: list[tuple[float, int, Lease[ContextT] | tuple[Flight[ContextT], Waiter]]] = []
        self._ticket = 0
        self._sooner = asyncio.Event()
        self._dismissed = False

    @property
    def active(self) -> int:
        """Questions whose answer is being made."""
        return len(self._flights)

    def context(self, lease_id: str) -> ContextT:
        """What was kept about the question of a lease. Raises NotFound(LEASE_UNKNOWN)."""
        return self._known(lease_id).flight.context

    def filling(self, key: str) -> bool:
        """Whether an answer to this very question is being made."""
        self.expire()
        return key in self._flights

    def idle(self, lease_id: str) -> bool:
        """Whether nobody makes the answer of a lease any more, nor has made it. Raises NotFound(LEASE_UNKNOWN)."""
        flight = self._known(lease_id).flight
        return flight.filled is None and flight.key not in self._flights

    def in_progress(self, key: str, token: str) -> InProgress | None:
        """Who else is filling `key` now, without taking a lease; None if nobody, or if `token` holds the lease."""
        self.expire()
        flight = self._flights.get(key)
        if flight is None or flight.lease is None or (token and flight.lease.token == token):
            return None
        return InProgress(flight.lease.id)

    def acquire(self, key: str, token: str, context: ContextT) -> Granted | InProgress:
        """The lease for `key`, or who holds it; the same `token` gets its lease again.

        Raises Exhausted when too many questions are in flight.
        """
        self.expire()
        flight = self._flights.get(key)
        if flight is not None and flight.lease is not None:
            if token and flight.lease.token == token:
                return self._granted(flight.lease)
            return InProgress(flight.lease.id)
        if len(self._flights) >= self._max_active:
            raise Exhausted("too many questions are being answered", reason=Reason.OVERLOADED)
        return self._grant(self._open(key, context), token)

    async def wait(self, lease_id: str, token: str, until: float) -> WaitResult:
        """The answer that is made under a lease, or the lease itself, or Pending at `until` (monotonic).

        Raises NotFound(LEASE_UNKNOWN).
        """
        self.expire()
        lease = self._known(lease_id)
        if lease.flight.filled is not None:
            return lease.flight.filled
        flight = self._flights.get(lease.flight.key)
        if flight is None:
            # Its holder gave up before this caller came, and nobody else has asked since.
            return self._grant(self._open(lease.flight.key, lease.flight.context), token)
        if flight.lease is not None and token and flight.lease.token == token:
            return self._granted(flight.lease)
        if self._dismissed or until <= self._monotonic():
            return Pending()
        result = await self._wait(flight, Waiter(token, until, asyncio.get_running_loop().create_future()))
        return Pending() if isinstance(result, Over) else result

    async def watch(self, flight: Flight[ContextT], until: float) -> Over | Pending:
        """Wait near a question until nobody makes its answer any more, or until `until` (monotonic)."""
        self.expire()
        if self._flights.get(flight.key) is not flight:
            return Over(committed=flight.filled is not None)
        if self._dismissed or until <= self._monotonic():
            return Pending()
        waiter = Waiter("", until, asyncio.get_running_loop().create_future(), near=True)
        result = await self._wait(flight, waiter)
        return result if isinstance(result, Over) else Pending()

    def renew(self, lease_id: str) -> Granted:
        """The lease with a new end. Raises Aborted(LEASE_LOST) or NotFound(LEASE_UNKNOWN)."""
        self.expire()
        lease = self._known(lease_id)
        if lease.aborted or lease.committed is not None:
            raise NotFound("the lease is over", reason=Reason.LEASE_UNKNOWN)
        self._hold(lease)
        lease.expires = self._monotonic() + self._duration
        self._schedule(lease.expires, lease)
        return self._granted(lease)

    def held(self, lease_id: str) -> Lease[ContextT]:
        """The lease, for its holder to commit: current, or committed before (see `Lease.committed`).

        Raises Aborted(LEASE_LOST) or NotFound(LEASE_UNKNOWN).
        """
        self.expire()
        lease = self._known(lease_id)
        if lease.committed is None:
            self._hold(lease)
        return lease

    def commit(self, lease: Lease[ContextT], filled: Filled, result: CommitResult) -> None:
        """End a lease that `held` returned just now: hand the answer to all who wait, remember `result`."""
        flight = lease.flight
        lease.committed = result
        flight.filled = filled
        self._close(flight)
        for waiter in flight.waiters:
            _tell(waiter, Over(committed=True) if waiter.near else filled)
        flight.waiters.clear()
        self._end(lease, len(filled.answer.text))

    def abort(self, lease_id: str) -> bool:
        """Give up a lease; one of those who wait gets it. Returns whether it was held until now."""
        self.expire()
        lease = self._leases.get(lease_id)
        if lease is None or not lease.current:
            return False
        lease.aborted = True
        if lease.id not in self._ended:
            self._end(lease, 0)
            self._pass_on(lease.flight)
        return True

    def expire(self) -> None:
        """Do what is due: take leases from holders whose time ran out, send away who cannot wait longer, forget."""
        now = self._monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, subject = heapq.heappop(self._due)
            if isinstance(subject, Lease):
                if subject.current and subject.id not in self._ended and subject.expires <= now:
                    self._end(subject, 0)
                    self._pass_on(subject.flight)
            else:
                flight, waiter = subject
                if not waiter.result.done():
                    flight.waiters.remove(waiter)
                    _tell(waiter, Pending())
        while self._ended and self._forgettable(now):
            lease_id, (_, size) = self._ended.popitem(last=False)
            self._ended_bytes -= size
            lease = self._leases.pop(lease_id)
            if lease.flight.lease is lease and self._idle.get(lease.flight.key) is lease.flight:
                del self._idle[lease.flight.key]

    def dismiss(self) -> None:
        """Send away all who wait, and all who come to wait: this server stops."""
        self._dismissed = True
        for flight in self._flights.values():
            for waiter in flight.waiters:
                _tell(waiter, Pending())
            flight.waiters.clear()

    async def run(self) -> None:
        """Call `expire()` whenever something is due, until cancelled."""
        while True:
            self._sooner.clear()
            self.expire()
            timeout = max(self._due[0][0] - self._monotonic(), 0.0) if self._due else None
            try:
                async with asyncio.timeout(timeout):
                    await self._sooner.wait()
            except TimeoutError:
                continue

    def _open(self, key: str, context: ContextT) -> Flight[ContextT]:
        # An idle flight is gone on with, so that its late holder learns that someone has taken over.
        flight = self._idle.pop(key, None) or Flight(key, context)
        flight.context = context
        self._fly(flight)
        return flight

    def _fly(self, flight: Flight[ContextT]) -> None:
        self._flights[flight.key] = flight
        if self._watcher is not None:
            self._watcher.opened(flight)

    def _close(self, flight: Flight[ContextT]) -> None:
        del self._flights[flight.key]
        if self._watcher is not None:
            self._watcher.closed(flight)

    async def _wait(self, flight: Flight[ContextT], waiter: Waiter) -> WaitResult | Over:
        flight.waiters.append(waiter)
        self._schedule(waiter.until, (flight, waiter))
        try:
            return await waiter.result
        except asyncio.CancelledError:
            self._left(flight, waiter)
            raise

    def _grant(self, flight: Flight[ContextT], token: str) -> Granted:
        lease = Lease(secrets.token_urlsafe(18), flight, token, self._monotonic() + self._duration)
        self._leases[lease.id] = flight.lease = lease
        self._schedule(lease.expires, lease)
        return self._granted(lease)

    def _granted(self, lease: Lease[ContextT]) -> Granted:
        return Granted(lease.id, lease.expires, self._duration)

    def _known(self, lease_id: str) -> Lease[ContextT]:
        lease = self._leases.get(lease_id)
        if lease is None:
            raise NotFound("the lease is not known here", reason=Reason.LEASE_UNKNOWN)
        return lease

    def _hold(self, lease: Lease[ContextT]) -> None:
        """Make sure that the lease is its holder's, also if its time ran out but nobody took over."""
        if not lease.current:
            raise Aborted("someone else has the lease now", reason=Reason.LEASE_LOST)
        flight = self._idle.pop(lease.flight.key, None)
        if flight is not None:
            self._fly(flight)
            _, size = self._ended.pop(lease.id)
            self._ended_bytes -= size
            self._schedule(lease.expires, lease)

    def _pass_on(self, flight: Flight[ContextT]) -> None:
        """Give the lease to the first who waits; without anyone the question is nobody's, and its lease stays known."""
        heir = next((waiter for waiter in flight.waiters if not waiter.near and not waiter.result.done()), None)
        if heir is not None:
            flight.waiters.remove(heir)
            _tell(heir, self._grant(flight, heir.token))
            return
        self._close(flight)
        self._idle[flight.key] = flight
        for waiter in flight.waiters:
            _tell(waiter, Over(committed=False))
        flight.waiters.clear()

    def _left(self, flight: Flight[ContextT], waiter: Waiter) -> None:
        """A caller stopped waiting, perhaps at the very moment at which it was given the lease."""
        if waiter in flight.waiters:
            flight.waiters.remove(waiter)
        elif waiter.result.done() and not waiter.result.cancelled():
            result = waiter.result.result()
            if isinstance(result, Granted):
                self.abort(result.lease_id)

    def _end(self, lease: Lease[ContextT], size: int) -> None:
        size += lease.flight.context.size
        self._ended[lease.id] = (self._monotonic(), size)
        self._ended_bytes += size

    def _forgettable(self, now: float) -> bool:
        oldest, _ = next(iter(self._ended.values()))
        return (
            oldest + REMEMBER_SECONDS <= now or len(self._ended) > REMEMBER_ENDED or self._ended_bytes > REMEMBER_BYTES
        )

    def _schedule(self, at: float, subject: Lease[ContextT] | tuple[Flight[ContextT], Waiter]) -> None:
        self._ticket += 1
        heapq.heappush(self._due, (at, self._ticket, subject))
        if self._due[0][1] == self._ticket:
            self._sooner.set()


def _tell(waiter: Waiter, result: WaitResult | Over) -> None:
    if not waiter.result.done():
        waiter.result.set_result(result)
