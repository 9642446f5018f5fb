"""Brings every entry of one embedder's collection into another's, store to store, at a pace that leaves room.

Nothing is kept of how far it came: what the new collection has, in the version that the old one has, is done. So it can
end at any moment, in any process, and another one goes on. An answer keeps its version, epoch and times, and what takes
its place or hides it is newer in either collection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import islice

from services.cache.embeddings import Embeddings
from services.cache.entry import MICROSECONDS, Entry
from services.cache.ports import EntryStore, EpochStore, Tombstone, Write
from services.cache.rotation.readdress import readdressed
from services.cache.rotation.share import Share
from services.cache.scope import Address, Addresses
from services.cache.storable import semantically
from services.cache.tailing import WINDOW_US
from services.cache.values import Vector
from services.chassis.errors import AntiphonError, Reason, Unavailable

BATCH = 16
"""Entries that are embedded and stored together."""

STEP = 50
"""Entries that are looked at before others may run: about 2 ms."""

READ = 200
"""Records that are read whole at once."""

EMBED_SECONDS = 60.0
"""That a batch may take: twenty windows for each of its texts, on a busy core."""

AGAIN_SECONDS = 5.0
"""After the embedder failed."""

TRIES = 3
"""Of a batch that fails while the embedder embeds other texts: then it is halved, or one entry moved as it is."""

QUIET = 256
"""Entries that a round finds changed, at most, before the collections count as equal: the next round takes a moment."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is; see `Plan`."""

    done: int
    total: int
    skipped: int
    unembedded: int
    failing: str = ""


class Moving:
    """One go; `fill` and then `follow` do the work. Raises Unavailable while the store is down."""

    def __init__(
        self,
        *,
        source: EntryStore,
        target: EntryStore,
        epochs: EpochStore,
        here: Addresses,
        there: Addresses,
        embeddings: Embeddings,
        probe: Callable[[], Awaitable[object]],
        unembedded: int,
        share: Share,
        stale: float,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        tell: Callable[[Progress], Awaitable[None]],
    ) -> None:
        """`here` addresses what is in `source`, `there` in `target`; `embeddings` are of the embedder of `target`.

        `probe` embeds some other text, and raises as the embedder does; `unembedded`: entries that earlier goes have
        moved without a vector, as the new embedder cannot embed them. `share`: of the time in which embedding may run;
        `stale`: seconds that what has expired is of use. `tell` hears of the progress after each batch.
        """
        self._source = source
        self._target = target
        self._epochs = epochs
        self._here = here
        self._there = there
        self._embeddings = embeddings
        self._probe = probe
        self._earlier = unembedded
        self._unembeddable: set[str] = set()
        """Ids of what fails again and again while other texts do not."""
        self._share = share
        self._stale = stale
        self._now = now
        self._monotonic = monotonic
        self._tell = tell
        self._moved: dict[str, tuple[int, str]] = {}
        """By id in `source`: the version that `target` has, or a newer one, and the id there."""
        self._unmovable: dict[str, int] = {}
        """Versions of what has no origin."""
        self._cleared: dict[tuple[str, str], int] = {}
        """Epochs by tenant and namespace."""
        self._seen_us = 0
        """Up to where, by the times of saving, everything was looked at."""
        self._left = 0
        """Entries that are known and not moved yet."""

    async def fill(self) -> None:
        """Return when both collections are as good as equal."""
        self._seen_us = int(self._now() * MICROSECONDS)
        todo = await self._survey()
        await self._work_off(todo)
        while await self.follow() > QUIET:
            pass
        await self._catch_up(None)

    async def follow(self) -> int:
        """Take over what has changed since the last look; returns how many entries."""
        begun_us = int(self._now() * MICROSECONDS)
        changed = await self._catch_up(self._seen_us - WINDOW_US)
        self._seen_us = begun_us
        return changed

    async def _survey(self) -> list[str]:
        """What is to be moved; what was deleted since an earlier go had moved it is deleted."""
        await self._heed_epochs()
        there: dict[str, int] = {}
        buried: set[str] = set()
        async with aclosing(self._target.heads(since_us=None)) as pages:  # type: ignore[type-var]  # a generator
            async for page in pages:
                there.update((head.id, head.ver) for head in page)
                buried.update(head.id for head in page if head.buried)
        todo: list[str] = []
        graves: dict[str, Tombstone] = {}
        async with aclosing(self._source.load(now_us=self._useful_us())) as loaded:  # type: ignore[type-var]
            async for records in loaded:
                for number, one in enumerate(records, start=1):
                    if number % STEP == 0:
                        await asyncio.sleep(0)
                    if isinstance(one, Tombstone):
                        graves[one.id] = one
                    elif self._wanted(one.entry):
                        self._sort(one.entry, there, todo)
        known = {target_id for _, target_id in self._moved.values()}
        await self._bury_orphans([one for one in there if one not in known and one not in buried], graves)
        return todo

    def _sort(self, entry: Entry, there: dict[str, int], todo: list[str]) -> None:
        moved = readdressed(entry, self._here, self._there)
        if moved is None:
            self._unmovable[entry.id] = entry.ver
        elif there.get(moved[0].id, -1) >= entry.ver:
            self._moved[entry.id] = (entry.ver, moved[0].id)
        else:
            todo.append(entry.id)

    async def _bury_orphans(self, ids: Sequence[str], graves: dict[str, Tombstone]) -> None:
        """Delete of these, in the target, what was deleted in the source."""
        if not graves:
            return
        for start in range(0, len(ids), READ):
            found = []
            for one in await self._target.read(ids[start : start + READ]):
                if not isinstance(one, Write) or (back := readdressed(one.entry, self._there, self._here)) is None:
                    continue
                grave = graves.get(back[0].id)
                if grave is not None and grave.ver > one.ver:
                    found.append(replace(grave, id=one.id))
            await self._save(found)

    async def _work_off(self, todo: list[str]) -> None:
        self._left = len(todo)
        waiting = iter(todo)
        await self._report()
        while batch := list(islice(waiting, BATCH)):
            await self._move(batch)
            self._left -= len(batch)
            await self._report()

    async def _catch_up(self, since_us: int | None) -> int:
        """Move and delete what has changed since then, or ever; returns how much that was."""
        await self._heed_epochs()
        changed: list[str] = []
        async with aclosing(self._source.heads(since_us=since_us)) as pages:  # type: ignore[type-var]
            async for page in pages:
                for head in page:
                    ver = max(self._moved.get(head.id, (-1, ""))[0], self._unmovable.get(head.id, -1))
                    # Of what was never moved nothing has to be deleted.
                    if head.ver > ver and (head.id in self._moved or not head.buried):
                        changed.append(head.id)
                await asyncio.sleep(0)
        for start in range(0, len(changed), BATCH):
            await self._move(changed[start : start + BATCH])
        if changed:
            await self._report()
        return len(changed)

    async def _move(self, ids: Sequence[str]) -> None:
        """Bring these into the target as they are in the source now, once the embedder works.

        One that it cannot embed while it embeds others is moved without a vector: only its own words find it.
        """
        failed = 0
        while failed < TRIES:
            begun = self._monotonic()
            try:
                await self._move_once(ids)
            except TimeoutError:
                await self._report("the embedder is too slow")
            except Unavailable as error:
                if error.reason is Reason.STORE_UNAVAILABLE:
                    raise
                await self._report(error.message)
            else:
                await self._share.rest(self._monotonic() - begun)
                return
            await asyncio.sleep(AGAIN_SECONDS)
            failed += await self._works()
        if len(ids) == 1:
            self._unembeddable.update(ids)
            await self._move(ids)
            return
        half = len(ids) // 2
        await self._move(ids[:half])
        await self._move(ids[half:])

    async def _works(self) -> bool:
        """Whether the embedder does, for other texts."""
        try:
            async with asyncio.timeout(EMBED_SECONDS):
                await self._probe()
        except (TimeoutError, AntiphonError):
            return False
        return True

    async def _move_once(self, ids: Sequence[str]) -> None:
        graves: list[Tombstone] = []
        moving: list[tuple[Entry, Entry, Address]] = []
        for one in await self._source.read(ids):
            known = self._moved.get(one.id)
            if isinstance(one, Tombstone) and known is not None:
                graves.append(replace(one, id=known[1]))
            elif isinstance(one, Write) and self._wanted(one.entry):
                moved = readdressed(one.entry, self._here, self._there)
                if moved is None:
                    self._unmovable[one.id] = one.ver
                else:
                    moving.append((one.entry, *moved))
        vectors = await asyncio.gather(*(self._vector(before, moved, at) for before, moved, at in moving))
        await self._save([*graves, *(Write(one[1], vector) for one, vector in zip(moving, vectors, strict=True))])
        by_target = {grave.id: grave.ver for grave in graves}
        for source_id in ids:
            if source_id in self._moved and (ver := by_target.get(self._moved[source_id][1])) is not None:
                self._moved[source_id] = (ver, self._moved[source_id][1])
        for before, moved_entry, _ in moving:
            self._moved[before.id] = (before.ver, moved_entry.id)

    async def _vector(self, before: Entry, moved: Entry, address: Address) -> Vector | None:
        if not address.question.semantic or not semantically(moved.answer):
            return None
        if before.id in self._moved:  # something was said about it, or it was answered anew: the question is the same
            for one in await self._target.read([moved.id]):
                if isinstance(one, Write) and one.vector is not None and one.entry.question == moved.question:
                    return one.vector
        if before.id in self._unembeddable:
            return None
        return (await self._embeddings.of(address, within=EMBED_SECONDS)).vector

    async def _save(self, writes: Sequence[Write | Tombstone]) -> None:
        if writes:
            await self._target.save(writes)

    def _wanted(self, entry: Entry) -> bool:
        epoch = self._cleared.get((entry.tenant, entry.namespace), 0)
        return entry.epoch >= epoch and entry.expires_us > self._useful_us()

    def _useful_us(self) -> int:
        return int((self._now() - self._stale) * MICROSECONDS)

    async def _heed_epochs(self) -> None:
        self._cleared = {(one.tenant, one.namespace): one.number for one in await self._epochs.load()}

    async def _report(self, failing: str = "") -> None:
        done = len(self._moved)
        await self._tell(
            Progress(done, done + self._left, len(self._unmovable), self._earlier + len(self._unembeddable), failing)
        )
