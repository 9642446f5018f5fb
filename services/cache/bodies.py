"""Fetches what memory does not have of answers: their bodies, from the store, by the entry's id.

A body is taken only from the very version that memory has, in the same scope. Where the store has something else, or
nothing, memory follows it, and whoever asked looks again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.cache.background import Background
from services.cache.entries import Entries
from services.cache.entry import Entry
from services.cache.outline import body_bytes, same
from services.cache.ports import EntryStore, Sealed, Tombstone, Write
from services.cache.values import Fetch
from services.cache.writer import Writer
from services.chassis.errors import AntiphonError, Reason, Unavailable

FETCH_SECONDS = 1.0
"""That anybody waits for a body at most: who asked has a model to ask instead."""

WORK_SECONDS = 10.0
"""The same for work in the background; a call of the store has a timeout of its own, half as long by default."""

REST_SECONDS = 1.0
"""After a fetch that failed, in which none is tried: a store that hangs must not hold up every hit."""

HANG_SECONDS = 0.25
"""For which a read must be out, and none have ended, before a caller whose time is over says that the store hangs. Who
had less time than that, or asked for much, says nothing about it."""

READ = 64
"""Records in one request to the store."""

READ_BYTES = 2 * 1024 * 1024
"""Of bodies in one request, and of one that is larger by itself: who wants little does not wait for much."""

REQUESTS = 4
"""To the store at once; what is wanted meanwhile comes with the next one, which costs a fifth as much for each body."""

_Key = tuple[str, int]
"""An entry's id and version."""

_Task = asyncio.Task[dict[_Key, Entry | None]]


@dataclass(eq=False, slots=True)
class _Request:
    """Entries whose bodies are fetched together."""

    entries: list[Entry] = field(default_factory=list)
    task: _Task | None = None
    bytes: int = 0


class Bodies:
    """For one event loop. Who wants the same body at the same time shares one fetch."""

    def __init__(
        self,
        *,
        entries: Entries,
        store: EntryStore,
        writer: Writer,
        background: Background,
        adopt: Callable[[Sequence[Write | Tombstone]], None],
        fetched: Callable[[Entry, Fetch], None],
        monotonic: Callable[[], float],
    ) -> None:
        """`adopt` takes over what the store has; `fetched` is told how a fetch ended; `monotonic`: seconds."""
        self._entries = entries
        self._store = store
        self._writer = writer
        self._background = background
        self._adopt = adopt
        self._fetched = fetched
        self._monotonic = monotonic
        self._fetching: dict[_Key, _Task] = {}
        self._next: _Request | None = None
        """Not sent yet."""
        self._places = asyncio.Semaphore(REQUESTS)
        self._rests_until = -math.inf
        self._ended = -math.inf
        """When a read of the store ended last."""
        self._out: dict[object, float] = {}
        """When each read that is out was begun."""

    async def whole(self, entry: Entry) -> Entry | None:
        """As `for_work`, one entry."""
        return (await self.for_work([entry]))[0]

    async def for_work(self, entries: Sequence[Entry]) -> list[Entry | None]:
        """As `all_whole`, where no caller's time is short. Raises Unavailable."""
        try:
            return await self.all_whole(entries, WORK_SECONDS)
        except TimeoutError:
            raise _unavailable() from None

    async def all_whole(self, entries: Sequence[Entry], within: float = FETCH_SECONDS) -> list[Entry | None]:
        """Each with its body; None where that is not what is stored any more: memory says now what is.

        `within`: seconds. Raises Unavailable, and TimeoutError when they are over.
        """
        known = [entry if entry.whole else self._known(entry) for entry in entries]
        cold = {_key(entry): entry for entry in known if entry is not None and not entry.whole}
        if not cold:
            return known
        try:
            found = await self._fetch(cold, within)
        except (TimeoutError, AntiphonError):
            for entry in cold.values():
                self._fetched(entry, Fetch.FAILED)
            raise
        return [entry if entry is None or entry.whole else self._current(found[_key(entry)]) for entry in known]

    async def _fetch(self, cold: dict[_Key, Entry], within: float) -> dict[_Key, Entry | None]:
        if self._monotonic() < self._rests_until:
            raise _unavailable()
        for key, entry in cold.items():
            if key not in self._fetching:
                self._join(entry)
        found: dict[_Key, Entry | None] = {}
        try:
            async with asyncio.timeout(max(within, 0.0)):
                for task in {self._fetching[key] for key in cold}:
                    found.update(await asyncio.shield(task))
        except (TimeoutError, AntiphonError) as error:
            if isinstance(error, AntiphonError) or self._hangs():
                self._rests_until = self._monotonic() + REST_SECONDS
            raise
        return found

    def _hangs(self) -> bool:
        """Whether the store has not answered for so long that it makes no sense to ask it."""
        begun = min(self._out.values(), default=math.inf)
        return self._monotonic() - max(begun, self._ended) >= HANG_SECONDS

    def _join(self, entry: Entry) -> None:
        """Have the entry fetched with the next request to the store."""
        size = body_bytes(entry.answer)
        if self._next is not None and self._next.bytes + size > READ_BYTES:
            self._next = None
        if self._next is None:
            self._next = _Request()
            self._next.task = self._background.start("fetch", self._send(self._next))
        request = self._next
        request.entries.append(entry)
        request.bytes += size
        if len(request.entries) == READ:
            self._next = None
        if request.task is not None:
            self._fetching[_key(entry)] = request.task

    async def _send(self, request: _Request) -> dict[_Key, Entry | None]:
        try:
            async with self._places:
                await asyncio.sleep(0)  # who asks in the same turn of the loop comes along
                if self._next is request:
                    self._next = None
                return await self._read(request.entries)
        finally:
            if self._next is request:
                self._next = None
            for entry in request.entries:
                self._fetching.pop(_key(entry), None)

    async def _read(self, entries: Sequence[Entry]) -> dict[_Key, Entry | None]:
        ids = [entry.id for entry in entries]
        mark = object()
        self._out[mark] = self._monotonic()
        try:
            read = await self._store.read(ids, vectors=False)
        except Unavailable:  # a store that was started anew is somewhere else perhaps, which the second call finds out
            read = await self._store.read(ids, vectors=False)
        finally:
            del self._out[mark]
        self._ended = self._monotonic()
        stored = {one.id: one for one in read}
        found: dict[_Key, Entry | None] = {}
        for entry in entries:
            one = stored.get(entry.id)
            if isinstance(one, Write) and _is_body_of(one.entry, entry):
                self._fetched(entry, Fetch.DONE)
                found[_key(entry)] = self._entries.hot.warm(entry, one.entry.whole_answer)
            else:
                self._fetched(entry, Fetch.CHANGED)
                found[_key(entry)] = await self._follow(entry)
        return found

    async def _follow(self, entry: Entry) -> Entry | None:
        """Let memory have what the store has in the entry's place: something newer, a tombstone, or nothing."""
        # A delete of this process must not fall between reading a record and taking it over.
        async with self._writer.exclusive():
            read = await self._store.read([entry.id])
            if not self._entries.current(entry):
                return None
            for one in read:
                if isinstance(one, Write) and _is_body_of(one.entry, entry):  # it was being written just now
                    return self._entries.hot.warm(entry, one.entry.whole_answer)
            self._entries.remove(entry)
            self._adopt([one for one in read if not isinstance(one, Sealed)])
            return None

    def _known(self, entry: Entry) -> Entry | None:
        """The same, as memory has it by now."""
        known = self._entries.find(entry.tenant, entry.namespace, entry.id)
        return known if known is not None and known.ver == entry.ver else None

    def _current(self, entry: Entry | None) -> Entry | None:
        return entry if entry is not None and self._entries.current(entry) else None


def _key(entry: Entry) -> _Key:
    return entry.id, entry.ver


def _is_body_of(stored: Entry, entry: Entry) -> bool:
    return (
        stored.ver == entry.ver
        and (stored.tenant, stored.namespace) == (entry.tenant, entry.namespace)
        and (stored.scope, stored.key) == (entry.scope, entry.key)
        and same(stored.answer, entry.answer)
    )


def _unavailable() -> Unavailable:
    return Unavailable("an answer is in the store, which is not available", reason=Reason.STORE_UNAVAILABLE)
