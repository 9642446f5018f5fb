"""Takes out of the store what nobody can see any more: the expired, tombstones that have done their work, the cleared.

One replica does it for all, as long as it holds a lease. Nothing depends on it but the size of the store: what has
expired is not served, and what was cleared is hidden by its epoch.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from services.cache.clock import Clock
from services.cache.entry import MICROSECONDS
from services.cache.ports import EntryStore, EpochStore, Leases
from services.cache.recovery import Recovery
from services.chassis.errors import FailedPrecondition, Unavailable

PAUSE_SECONDS = 60.0
"""Between two purges."""

LEASE_SECONDS = 3 * PAUSE_SECONDS
"""After which another replica takes over from one that is gone."""

WORK = "purge"


class Purging:
    """Purges again and again; `run` does the work."""

    def __init__(
        self,
        *,
        store: EntryStore,
        epochs: EpochStore,
        leases: Leases,
        recovery: Recovery,
        clock: Clock,
        stale: float,
        report: Callable[[BaseException], None],
    ) -> None:
        """`stale`: seconds that what has expired is kept for those who take it all the same."""
        self._store = store
        self._epochs = epochs
        self._leases = leases
        self._recovery = recovery
        self._clock = clock
        self._stale = stale
        self._report = report
        self._lock = asyncio.Lock()
        self._holder = secrets.token_hex(8)
        self._purged: dict[tuple[str, str], int] = {}
        """The epochs of which nothing older is stored any more."""
        self.rounds = 0
        """Purges that were finished."""

    async def run(self) -> None:
        """Purge whenever it is this replica's turn, until cancelled."""
        await self._recovery.ready.wait()
        failing = False
        while True:
            try:
                await self.purge()
                failing = False
            except (Unavailable, FailedPrecondition) as error:
                if not failing:
                    self._report(error)
                failing = True
            await asyncio.sleep(PAUSE_SECONDS)

    async def purge(self) -> bool:
        """Purge once, unless another replica does; whether this one did. Raises Unavailable."""
        async with self._lock:
            return await self._purge()

    async def _purge(self) -> bool:
        # By a time that has lasted: a clock that is wrong for a moment must not empty the store.
        now = self._clock.settled()
        if not await self._leases.hold(
            WORK, holder=self._holder, seconds=LEASE_SECONDS, now_us=int(now * MICROSECONDS)
        ):
            return False
        await self._store.purge_expired(now_us=int((now - self._stale) * MICROSECONDS))
        for epoch in await self._epochs.load():
            key = epoch.tenant, epoch.namespace
            if self._purged.get(key) != epoch.number:
                await self._store.purge_cleared(epoch)
                self._purged[key] = epoch.number
        self.rounds += 1
        return True
