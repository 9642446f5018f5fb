"""Embeds what was stored without an embedding, one question after the other, at a pace that leaves room for lookups.

Entries are without one after an import from another embedder, and where the embedder was down or slow when they were
stored. What a kill leaves undone is found again at the next start.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from services.cache.embeddings import Embeddings
from services.cache.entries import Entries
from services.cache.entry import Entry
from services.cache.recovery import Recovery
from services.cache.scope import Address, Addresses
from services.cache.storable import semantically
from services.cache.storing import PUT_SECONDS, Storing
from services.chassis.errors import AntiphonError

REST = 3.0
"""Pauses are so many times as long as the embedding before them: it takes a quarter of the time, and so of a core."""

STEP = 100
"""Entries that are looked at before others may run: about 2 ms if all are without an embedding."""

AGAIN_SECONDS = 5.0
"""After the embedder failed. It is asked for one question then, however many wait."""


class LateEmbedding:
    """A queue, some 80 bytes for each entry, and who works it off."""

    def __init__(
        self,
        *,
        addresses: Addresses,
        entries: Entries,
        embeddings: Embeddings,
        storing: Storing,
        recovery: Recovery,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`now`: Unix seconds; `monotonic`: of a clock that nobody sets."""
        self._addresses = addresses
        self._entries = entries
        self._embeddings = embeddings
        self._storing = storing
        self._recovery = recovery
        self._now = now
        self._monotonic = monotonic
        self._queue: deque[tuple[str, str, str]] = deque()
        """Tenant, namespace and id: an entry itself would keep its answer in memory."""
        self._ids: set[str] = set()
        self._waiting: Counter[tuple[str, str]] = Counter()
        self._work = asyncio.Event()
        """Set while something waits."""

    def waiting(self, tenant: str, namespace: str | None) -> int:
        """How many entries of a namespace, or of all of the tenant, wait."""
        if namespace is not None:
            return self._waiting[tenant, namespace]
        return sum(count for (owner, _), count in self._waiting.items() if owner == tenant)

    def want(self, entry: Entry) -> bool:
        """Embed it some time, unless it has an embedding or none may be compared with it; whether it waits now."""
        if entry.id in self._ids:
            return True
        if self._entries.has_vector(entry.tenant, entry.namespace, entry.id) or self._address(entry) is None:
            return False
        self._queue.append((entry.tenant, entry.namespace, entry.id))
        self._ids.add(entry.id)
        self._waiting[entry.tenant, entry.namespace] += 1
        self._work.set()
        return True

    async def run(self) -> None:
        """Work until cancelled."""
        await self._recovery.ready.wait()
        await self._find()
        while True:
            await self._work.wait()
            await asyncio.sleep(await self._embed(*self._queue[0]))

    async def _find(self) -> None:
        """Look for what an earlier process has left without an embedding."""
        for bucket in self._entries.all_buckets():
            for number, entry in enumerate(list(bucket.entries.values()), start=1):
                self.want(entry)
                if number % STEP == 0:
                    await asyncio.sleep(0)

    async def _embed(self, tenant: str, namespace: str, entry_id: str) -> float:
        """Embed one; returns the seconds to rest."""
        begun = self._monotonic()
        current = self._entries.find(tenant, namespace, entry_id)
        address = None if current is None else self._address(current)
        known = self._entries.has_vector(tenant, namespace, entry_id)
        if current is not None and address is not None and not known:
            try:
                embedding = await self._embeddings.of(address, within=PUT_SECONDS)
                if embedding.vector is not None:
                    await self._storing.give_vector(current, embedding.vector)
            except (TimeoutError, AntiphonError):
                self._queue.rotate(-1)  # others shall not wait for one that cannot be embedded
                return AGAIN_SECONDS
        self._queue.popleft()
        if not self._queue:
            self._work.clear()
        self._ids.discard(entry_id)
        self._waiting[tenant, namespace] -= 1
        if not self._waiting[tenant, namespace]:
            del self._waiting[tenant, namespace]
        return REST * (self._monotonic() - begun)

    def _address(self, entry: Entry) -> Address | None:
        """Where its question belongs; None if reworded questions may not have the answer, or that is not known."""
        if entry.origin is None or not semantically(entry.answer) or not entry.live(self._now()):
            return None
        origin = self._addresses.sealed(entry.scope, entry.origin)
        address = self._addresses.at(entry.tenant, entry.namespace, entry.question, origin)
        return address if address.question.semantic else None
