"""What answers calls: the cache over the embedder that serves, and for a while the one before it.

A question is looked up in one of them, with its embedder. A lease belongs to the cache that granted it. What is deleted
goes from both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from services.cache.cache import Cache
from services.cache.entry import MICROSECONDS, Entry
from services.cache.feedback import Feedback, Reviewed
from services.cache.outline import same
from services.cache.ports import EntryStore, Epoch, Tombstone
from services.cache.rotation.plan import End
from services.cache.rotation.readdress import readdressed
from services.cache.values import Action, ByIds, Chosen, CommitResult, Policy, Query
from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError, NotFound, Reason, Unavailable
from services.llm.values import Answer

STEP = 100
"""Deletes that are translated, and told to the store, before others may run: about 3 ms."""


@dataclass(frozen=True, eq=False, slots=True)
class Side:
    """A cache with its embedder. `version`: of what decides; `skipped`: stored records that cannot be read."""

    end: End
    cache: Cache
    store: EntryStore
    version: str
    skipped: Callable[[], int]
    aclose: Callable[[], Awaitable[None]]
    """Writes what waits for the store and lets go of everything; after the cache's `run` was cancelled."""


class Sides:
    """For one event loop."""

    def __init__(self, first: Side) -> None:
        self.current = first
        """Answers lookups."""
        self.previous: Side | None = None
        """Answered them before; those who hold its leases still come."""
        self.incoming: Side | None = None
        """Is about to answer, and takes over what the current one knows: what goes meanwhile goes from it, too. None
        again if it could not be told of something that went."""
        self.changing = asyncio.Lock()
        """Held while entries go, and in steps in which what goes must not come back."""
        self.turning = asyncio.Lock()
        """Held while one side takes over from the other, or the current one takes over what a process has left."""

        self._turned = asyncio.Event()
        """Set when another side has become the current one."""
        self.behind = False
        """Whether the current side is not the one that serves elsewhere, and nobody brings over what it stores."""

    @property
    def cache(self) -> Cache:
        """That of the current side."""
        return self.current.cache

    def all(self) -> Iterator[Side]:
        """The current one first."""
        yield self.current
        if self.previous is not None:
            yield self.previous

    def change_to(self, side: Side) -> None:
        """Let it answer from now on."""
        self.current, self.previous = side, self.current
        self._turned.set()
        self._turned = asyncio.Event()

    async def ready(self) -> None:
        """Wait until the current side has read everything that is stored."""
        while not self.cache.recovery.ready.is_set():
            waits = [asyncio.ensure_future(one.wait()) for one in (self.cache.recovery.ready, self._turned)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waits:
                    one.cancel()

    def of_lease(self, lease_id: str) -> Cache:
        """The cache that granted a lease; the current one if nobody knows it."""
        for side in self.all():
            with suppress(NotFound):
                side.cache.fills.context(lease_id)
                return side.cache
        return self.cache

    async def commit(self, tenant: str, lease_id: str, answer: Answer, *, durable: bool, writer: str) -> CommitResult:
        """See `Cache.commit`. Raises Unavailable, too, if `durable` while `behind`."""
        self._require_served(durable)
        cache = self.of_lease(lease_id)
        result = await cache.commit(tenant, lease_id, answer, durable=durable, writer=writer)
        if result.entry_id and (entry := cache.entries.find_any(tenant, result.entry_id)) is not None:
            if not entry.whole and same(entry.answer, answer):
                entry = replace(entry, answer=answer)
            if entry.whole:  # or another answer is in its place by now, whose own commit sees to it
                self._follow(cache, entry)
        return result

    async def put(
        self,
        tenant: str,
        query: Query,
        policy: Policy,
        answer: Answer,
        *,
        durable: bool,
        writer: str,
        deadline: Deadline,
    ) -> Entry:
        """See `Cache.put`. Raises Unavailable, too, if `durable` while `behind`."""
        self._require_served(durable)
        cache = self.cache
        entry = await cache.put(tenant, query, policy, answer, durable=durable, writer=writer, deadline=deadline)
        self._follow(cache, entry)
        return entry

    async def feedback(self, tenant: str, feedback: Feedback) -> Reviewed:
        """See `Cache.feedback`; an id of the previous side will do."""
        known = self._known(tenant, feedback.entry_id)
        return await self.cache.feedback(tenant, replace(feedback, entry_id=known))

    async def remove(self, tenant: str, chosen: Chosen, action: Action, *, by: str, dry_run: bool) -> int:
        """See `Cache.remove`; ids of the previous side will do. Raises Unavailable, too, while `behind`."""
        self._require_served(not dry_run)
        async with self.changing:
            if isinstance(chosen.selector, ByIds):
                known = ByIds(tuple(self._known(tenant, one) for one in chosen.selector.ids))
                chosen = replace(chosen, selector=known)
            before = self._before(tenant, chosen)
            buried: list[tuple[Entry, Tombstone]] = []
            with self._broken_off():
                count = await self.cache.remove(tenant, chosen, action, by=by, dry_run=dry_run, buried=buried)
            if self.incoming is not None and not dry_run:
                with self._untold():
                    await self._bury(self.incoming, buried)
                    if not isinstance(chosen.selector, ByIds):  # what other replicas have stored there already
                        await self.incoming.cache.remove(tenant, chosen, action, by=by)
            if self.previous is not None and before is not None and not dry_run:
                await self.previous.cache.remove(tenant, before, action, by=by)
            return count

    async def clear(self, tenant: str, namespace: str, *, dry_run: bool) -> tuple[int, int]:
        """See `Cache.clear`."""
        async with self.changing:
            with self._broken_off():
                cleared, number = await self.cache.clear(tenant, namespace, dry_run=dry_run)
            if self.previous is not None and not dry_run:
                await _clear(self.previous, tenant, namespace, number)
            if self.incoming is not None and not dry_run:
                with self._untold():
                    await _clear(self.incoming, tenant, namespace, number)
            return cleared, number

    def dismiss(self) -> None:
        """See `Fills.dismiss`."""
        for side in self.all():
            side.cache.fills.dismiss()

    @contextmanager
    def _broken_off(self) -> Iterator[None]:
        """What goes on without its caller is not told to the incoming side: that has to take over anew."""
        try:
            yield
        except AntiphonError:
            raise
        except BaseException:
            self.incoming = None
            raise

    @contextmanager
    def _untold(self) -> Iterator[None]:
        """What has gone has gone: if the incoming side cannot be told, it has to take over anew."""
        try:
            yield
        except AntiphonError:
            self.incoming = None
        except BaseException:
            self.incoming = None
            raise

    async def _bury(self, side: Side, buried: Sequence[tuple[Entry, Tombstone]]) -> None:
        """Delete what was deleted in the current side, also what this one has not heard of yet."""
        for start in range(0, len(buried), STEP):
            graves = []
            for entry, grave in buried[start : start + STEP]:
                if (moved := readdressed(entry, self.cache.addresses, side.cache.addresses)) is not None:
                    graves.append(replace(grave, id=moved[0].id))
            await side.store.save(graves)
            for grave in graves:
                side.cache.entries.bury(grave)

    def _require_served(self, promised: bool) -> None:
        if promised and self.behind:
            what = "this replica has not changed over to the embedder that serves; another one can promise it"
            raise Unavailable(what, reason=Reason.EMBEDDER_UNAVAILABLE, retry_after=1.0)

    def _follow(self, cache: Cache, entry: Entry) -> None:
        """What the previous side stores is the current one's, too."""
        if cache is not self.cache and (moved := readdressed(entry, cache.addresses, self.cache.addresses)):
            self.cache.carry(moved[0])

    def _known(self, tenant: str, entry_id: str) -> str:
        """The id by which the current side has an entry that the previous one had under this."""
        if self.previous is None or self.cache.entries.find_any(tenant, entry_id) is not None:
            return entry_id
        return _translated(tenant, entry_id, self.previous.cache, self.cache)

    def _before(self, tenant: str, chosen: Chosen) -> Chosen | None:
        """The same for the previous side; None if that has none of it."""
        if self.previous is None or not isinstance(chosen.selector, ByIds):
            return chosen
        ids = {_translated(tenant, one, self.cache, self.previous.cache) for one in chosen.selector.ids}
        # A cache refuses several of which one does not exist.
        there = {one for one in ids if self.previous.cache.entries.find_any(tenant, one) is not None}
        return replace(chosen, selector=ByIds(tuple(sorted(there)))) if there else None


def _translated(tenant: str, entry_id: str, here: Cache, there: Cache) -> str:
    entry = here.entries.find_any(tenant, entry_id)
    moved = None if entry is None else readdressed(entry, here.addresses, there.addresses)
    return entry_id if moved is None else moved[0].id


async def _clear(side: Side, tenant: str, namespace: str, number: int) -> None:
    """Heed an epoch; the collections of all sides have the same ones."""
    await side.cache.recovery.apply([Epoch(tenant, namespace, number, int(side.cache.now() * MICROSECONDS))])
