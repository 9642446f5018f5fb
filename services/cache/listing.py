"""What is stored, page by page, for operators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from heapq import nsmallest
from operator import attrgetter

from services.cache.bucket import Bucket
from services.cache.entries import STEP, Entries
from services.cache.entry import Entry
from services.cache.recovery import Recovery
from services.cache.stats import Stats

_BY_ID = attrgetter("id")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries; what is empty or None does not matter. `model` made the answer, `writer` is an API key's id."""

    namespace: str = ""
    model: str = ""
    tag: str = ""
    writer: str = ""
    quarantined: bool | None = None

    def takes(self, entry: Entry) -> bool:
        """Whether an entry of the right namespace is meant."""
        return (
            self.model in {"", entry.answer.model}
            and self.writer in {"", entry.writer}
            and (not self.tag or self.tag in entry.tags)
            and self.quarantined in {None, entry.review.quarantine is not None}
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended. Entries are in the order of their namespace and id, which later writes do not change."""

    namespace: str
    entry_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and where the next page begins, if there is more."""

    entries: tuple[Entry, ...]
    next: Place | None
    hits: tuple[int, ...] = ()
    """Of each entry, where that was asked for."""


class Listing:
    """Reads the memory; others run in between."""

    def __init__(self, *, entries: Entries, recovery: Recovery, stats: Stats, now: Callable[[], float]) -> None:
        self._entries = entries
        self._stats = stats
        self._recovery = recovery
        self._now = now

    async def page(self, tenant: str, wanted: Wanted, *, size: int, after: Place | None) -> Page:
        """The live entries of a tenant behind `after`, at most `size`. Raises Unavailable until all are known."""
        self._recovery.require_all()
        found: list[Entry] = []
        for bucket in sorted(self._entries.buckets(tenant), key=attrgetter("namespace")):
            if wanted.namespace not in {"", bucket.namespace} or (after and bucket.namespace < after.namespace):
                continue
            behind = after.entry_id if after and after.namespace == bucket.namespace else ""
            found += await self._smallest(bucket, wanted, behind, size + 1 - len(found))
            if len(found) > size:
                last = found[size - 1]
                return Page(tuple(found[:size]), Place(last.namespace, last.id))
        return Page(tuple(found), None)

    def most_served(self, tenant: str, wanted: Wanted, *, size: int) -> Page:
        """The live entries that were served most, with their hits. Raises Unavailable until all are known."""
        self._recovery.require_all()
        found, now = [], self._now()
        for counter in self._stats.traffic.most_served(tenant):
            entry = self._entries.find(tenant, counter.namespace, counter.entry_id)
            if (
                entry is not None
                and entry.live(now)
                and wanted.namespace in {"", entry.namespace}
                and wanted.takes(entry)
            ):
                found.append((entry, counter.least))
        del found[size:]
        return Page(tuple(entry for entry, _ in found), None, tuple(hits for _, hits in found))

    async def _smallest(self, bucket: Bucket, wanted: Wanted, behind: str, most: int) -> list[Entry]:
        """The `most` entries of a namespace with the smallest ids behind `behind`, by id."""
        best: list[Entry] = []
        everything, now = list(bucket.entries.values()), self._now()
        for start in range(0, len(everything), STEP):
            part = everything[start : start + STEP]
            fits = [entry for entry in part if entry.id > behind and entry.live(now) and wanted.takes(entry)]
            best = nsmallest(most, [*best, *fits], key=_BY_ID)
            await asyncio.sleep(0)
        return best
