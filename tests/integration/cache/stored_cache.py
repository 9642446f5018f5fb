"""Caches over a real embedded store, in the test's own loop: several at once, stopped cleanly or left for dead."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from services.cache.adapters.control_store import StoredControl
from services.cache.adapters.disk_queue import DiskQueue, NoQueue
from services.cache.adapters.entry_store import StoredEntries
from services.cache.adapting import Setup
from services.cache.cache import Cache
from services.cache.clock import Clock
from services.cache.decision import Judge
from services.cache.entry import Entry
from services.cache.feedback import Verdict
from services.cache.fill_values import Granted
from services.cache.outside import Limits, Outside
from services.cache.ports import LearningStore
from services.cache.scope import verifier
from services.cache.values import Asked, CommitResult, LookupResult, Policy, Query
from services.chassis.deadline import Deadline
from services.chassis.errors import Reason, Unavailable
from services.llm.values import Answer
from services.storage import Connection, Place
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import ASKED, DIM, KEY, ONLY, TENANT, KnownEmbedder, Trusting, answer, ask

GUARD_S = 30.0


class StoredCache:
    """One cache process's domain, over `store`."""

    def __init__(
        self,
        store: StoreProcess,
        *,
        key: bytes = KEY,
        slug: str = "known_1",
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        queue: Path | None = None,
        locate: Callable[[], Place] | None = None,
        judge: Judge | None = None,
        learning: Callable[[LearningStore], Setup] | None = None,
        **limits: object,
    ) -> None:
        self.embedder = KnownEmbedder()
        self.reported: list[tuple[str, BaseException]] = []
        self.verdicts: list[Verdict] = []
        self.connection = Connection(locate or (lambda: place_of(store)), timeout=5.0)
        self.clock = Clock(now, monotonic)
        self.store = StoredEntries(self.connection, embedder=slug, dim=DIM, now=self.clock.now)
        self.control = StoredControl(self.connection, now=self.clock.now)
        self.queue = DiskQueue(queue, embedder=slug, dim=DIM) if queue else NoQueue()

        async def check() -> None:
            await self.control.check_key(verifier(key), store_is_empty=await self.store.is_empty())

        self.cache = Cache(
            Limits(**{"decision_budget": 10.0, **limits}),  # type: ignore[arg-type]
            Outside(
                open_store=check,
                store=self.store,
                epochs=self.control,
                leases=self.control,
                queue=self.queue,
                embedder=self.embedder,
                embedder_slug=slug,
                embedder_dim=DIM,
                judge=judge or Trusting(0.9),
                key=key,
                clock=self.clock,
                chance=random.random,
                report=lambda part, error: self.reported.append((part, error)),
                learning=None if learning is None else learning(self.control),
                heed=self.verdicts.append,
            ),
        )
        self.task: asyncio.Task[None] | None = None
        self._dead = False

    def start(self) -> StoredCache:
        self.task = asyncio.create_task(self.cache.run())
        return self

    async def ready(self) -> StoredCache:
        """Started, and all that is stored read."""
        if self.task is None:
            self.start()
        assert self.task is not None
        waiting = asyncio.create_task(self.cache.recovery.ready.wait())
        async with asyncio.timeout(GUARD_S):
            await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            await self.task
        return self

    async def reached(self) -> StoredCache:
        """The store answers again, and nothing waits for it that could not be told."""
        async with asyncio.timeout(GUARD_S):
            while True:
                with suppress(Unavailable):
                    await self.cache.tailing.look()
                    if not self.cache.writer.failing and not self.cache.writer.backlog.waiting:
                        return self
                await asyncio.sleep(0.01)

    async def die(self) -> None:
        """As if killed: nothing that waits is written."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            self.task = None
        await self.cache._background.aclose()
        await self.connection.aclose()
        self.queue.close()
        self._dead = True

    async def stop(self) -> None:
        """As on SIGTERM, unless it is dead."""
        if self._dead:
            return
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            self.task = None
        await self.cache.aclose()
        await self.connection.aclose()
        self.queue.close()
        self._dead = True

    async def put(
        self, what: Query | str, text: str = "an answer", policy: Policy | None = None, *, durable: bool = True
    ) -> Entry:
        query = ask(what) if isinstance(what, str) else what
        deadline = Deadline.after(10)
        return await self.cache.put(TENANT, query, policy or Policy(), answer(text), durable=durable, deadline=deadline)

    async def look(self, what: Query | str, policy: Policy = ONLY, token: str = "") -> LookupResult:
        query = ask(what) if isinstance(what, str) else what
        return await self.cache.lookup(TENANT, Asked(query, policy, token), Deadline.after(10))

    async def text(self, what: Query | str) -> str | None:
        """The answer that is served, if one is."""
        found = await self.look(what)
        return found.entry.answer.text if found.entry else None

    async def commit(self, lease_id: str, made: Answer | None = None, *, durable: bool = False) -> CommitResult:
        return await self.cache.commit(TENANT, lease_id, made or answer(), durable=durable)

    async def clear(self, namespace: str = "default", *, dry_run: bool = False) -> tuple[int, int]:
        return await self.cache.clear(TENANT, namespace, dry_run=dry_run)


async def lease(cache: StoredCache, text: str = ASKED, policy: Policy | None = None) -> str:
    """The lease of a miss."""
    missed = await cache.look(text, policy or Policy())
    assert isinstance(missed.fill, Granted)
    return missed.fill.lease_id


def place_of(store: StoreProcess) -> Place:
    """Where the store's process is now, as the cache finds it."""
    if not store.run_file.exists():
        raise Unavailable("the store does not run", reason=Reason.STORE_UNAVAILABLE)
    return Place(store.url, store.token)


async def until(state: Callable[[], bool], what: str) -> None:
    """Wait for a state."""
    try:
        async with asyncio.timeout(GUARD_S):
            while not state():  # noqa: ASYNC110 -- any state, with or without an event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(what) from None
