"""Replicas that change their embedder, over a real embedded store, in the test's own loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from services.cache.adapters.control_store import StoredControl
from services.cache.adapters.disk_queue import NoQueue, open_left
from services.cache.adapters.entry_store import StoredEntries
from services.cache.adapters.plan_store import StoredPlans
from services.cache.cache import Cache
from services.cache.clock import Clock
from services.cache.entry import Entry
from services.cache.hot import ALL_HOT
from services.cache.outside import Limits, Outside
from services.cache.rotation.plan import Choice, End, Phase, Plan, Plans, require_whole
from services.cache.rotation.rotating import Rotating
from services.cache.rotation.sides import Side, Sides
from services.cache.rotation.workshop import PROBE, Left, Opened
from services.cache.scope import Addresses, verifier
from services.cache.stats import Stats
from services.cache.values import Action, Asked, ByIds, Chosen, LookupResult, Mode, Policy
from services.chassis.deadline import Deadline
from services.chassis.errors import FailedPrecondition, Reason
from services.storage import Connection
from tests.integration.cache.stored_cache import GUARD_S, place_of
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import KEY, ONLY, TENANT, KnownEmbedder, Trusting, answer, ask

ONE, TWO = Choice("one"), Choice("two")
DIMS = {"one": 64, "two": 32}
"""The two embedders have vectors of other lengths, and say other things."""


class KnownWorkshop:
    """A `Workshop` of embedders whose similarities are known; the same objects for all that is made of them."""

    def __init__(self, connection: Connection, clock: Clock, control: StoredControl, plans: Plans) -> None:
        self._plans = plans
        self._connection = connection
        self._clock = clock
        self._control = control
        self.hot_bytes = ALL_HOT
        """Memory for answers of each cache that is made."""
        self.embedders = {name: KnownEmbedder(dim, name) for name, dim in DIMS.items()}
        self.queues: Path | None = None
        """Where those of earlier processes are."""
        self.absent: set[str] = set()
        """Embedders that this replica does not have."""
        self.reported: list[tuple[str, BaseException]] = []
        self.verdicts: list[object] = []

    async def embedder(self, choice: Choice) -> Opened:
        if choice.embedder in self.absent or choice.embedder not in DIMS:
            raise FailedPrecondition("the embedder is not there", reason=Reason.EMBEDDER_UNAVAILABLE)

        async def nothing() -> None: ...

        return Opened(self.end(choice), self.embedders[choice.embedder], nothing)

    async def side(self, choice: Choice, stats: Stats | None) -> Side:
        opened = await self.embedder(choice)
        end, store = opened.end, self.store(opened.end)

        async def check() -> None:
            await require_whole(self._plans, end.slug)
            await self._control.check_key(verifier(KEY), store_is_empty=await store.is_empty())

        cache = Cache(
            Limits(decision_budget=10.0, hot_bytes=self.hot_bytes),
            Outside(
                open_store=check,
                store=store,
                epochs=self._control,
                leases=self._control,
                queue=NoQueue(),
                embedder=opened.embedder,
                embedder_slug=end.slug,
                embedder_dim=end.dim,
                judge=Trusting(0.9),
                key=KEY,
                clock=self._clock,
                chance=random.random,
                report=lambda part, error: self.reported.append((part, error)),
                heed=self.verdicts.append,
            ),
            stats=stats,
        )
        return Side(end, cache, store, "v", store.skipped.total, cache.aclose)

    def store(self, end: End) -> StoredEntries:
        return StoredEntries(self._connection, embedder=end.slug, dim=end.dim, now=self._clock.now)

    def addresses(self, end: End) -> Addresses:
        return Addresses(KEY, embedder=end.slug, longest=262_144)

    async def left(self) -> list[Left]:
        found = [] if self.queues is None else open_left(self.queues)
        return [
            Left(
                slug,
                queue,
                Addresses(KEY, embedder=slug, longest=262_144),
                partial(asyncio.to_thread, queue.close),
            )
            for slug, queue in found
        ]

    @staticmethod
    def end(choice: Choice) -> End:
        return End(choice, f"known_{choice.embedder}", DIMS[choice.embedder])


class RotatingCache:
    """One replica's domain."""

    def __init__(self, store: StoreProcess, *, hot_bytes: int = ALL_HOT) -> None:
        self.connection = Connection(lambda: place_of(store), timeout=5.0)
        self.clock = Clock(time.time, time.monotonic)
        self.control = StoredControl(self.connection, now=self.clock.now)
        self.plans = StoredPlans(self.connection)
        self.workshop = KnownWorkshop(self.connection, self.clock, self.control, self.plans)
        self.workshop.hot_bytes = hot_bytes
        self.served: list[End] = []
        self.stood: list[bool] = []
        self.reported: list[BaseException] = []
        self._store = store
        self._task: asyncio.Task[None] | None = None
        self.rotating: Rotating

    async def ready(self, choice: Choice = ONE) -> RotatingCache:
        """Started with this embedder, and all that is stored read, and what was left on disk."""
        await self.start(choice)
        async with asyncio.timeout(4 * GUARD_S):
            await self.rotating.ready()
        return self

    async def start(self, choice: Choice = ONE) -> RotatingCache:
        """Started with this embedder."""
        self.sides = Sides(await self.workshop.side(choice, None))
        self.rotating = Rotating(
            self.sides,
            plans=self.plans,
            collections=self.plans,
            epochs=self.control,
            leases=self.control,
            workshop=self.workshop,
            clock=self.clock,
            stale=3_600.0,
            report=self.reported.append,
            changed=self.served.append,
            stands=self.stood.append,
        )
        self._task = asyncio.create_task(self.rotating.run())
        return self

    async def die(self) -> None:
        """As if killed: nothing that waits is written."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        for side in self.sides.all():
            await side.cache._background.aclose()
        await self.connection.aclose()

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def serving(self) -> str:
        return self.sides.current.end.choice.embedder

    async def plan(self) -> Plan:
        plan = await self.rotating.orders.status()
        assert plan is not None
        return plan

    async def until_phase(self, *phases: Phase) -> Plan:
        """Wait until the change stands there."""
        async with asyncio.timeout(GUARD_S):
            while (plan := await self.plan()).phase not in phases:  # noqa: ASYNC110 -- each turn reads the plan
                await asyncio.sleep(0.01)
        return plan

    async def until(self, state: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD_S):
            while not state():  # noqa: ASYNC110 -- any state, with or without an event
                await asyncio.sleep(0.005)

    async def put(self, question: str, text: str, policy: Policy | None = None) -> Entry:
        return await self.sides.put(
            TENANT,
            ask(question),
            policy or Policy(),
            answer(text),
            durable=True,
            writer="",
            deadline=Deadline.after(10),
        )

    async def look(self, question: str, policy: Policy = ONLY) -> LookupResult:
        return await self.sides.cache.lookup(TENANT, Asked(ask(question), policy, ""), Deadline.after(10))

    async def text(self, question: str) -> str | None:
        """The answer that is served to exactly this question, if one is."""
        found = await self.look(question, Policy(mode=Mode.ONLY_IF_CACHED, min_similarity=1.0))
        return found.entry.answer.text if found.entry else None

    async def delete(self, *ids: str) -> int:
        return await self.sides.remove(TENANT, Chosen(ByIds(ids)), Action.DELETE, by="", dry_run=False)


async def changed(cache: RotatingCache) -> None:
    """Wait until this replica has changed over."""
    await cache.until_phase(Phase.SWITCHED)
    await cache.until(lambda: cache.serving == "two")


def embedded(cache: RotatingCache, name: str = "two") -> list[str]:
    """The questions that were embedded in this replica."""
    return [text for text in cache.workshop.embedders[name].calls if text != PROBE]


def questions(count: int) -> list[str]:
    return [f"What is the meaning of number {place}?" for place in range(count)]


async def heads_of(cache: RotatingCache, name: str) -> list[object]:
    """What the store has under this embedder."""
    reader = RotatingCache(cache._store)
    heads = reader.workshop.store(reader.workshop.end(Choice(name))).heads(since_us=None)
    found = [head async for page in heads for head in page]
    await reader.connection.aclose()
    return found  # type: ignore[return-value]
