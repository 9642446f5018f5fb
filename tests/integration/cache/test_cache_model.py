"""The cache against a plain model of what it promises: whatever is done in whatever order, both say the same.

Two replicas over one real store, with one clock that the test moves; half of it with memory for few of the answers'
bodies.
`make campaign-model OPERATIONS=200000 SEED=1` runs more of the same; a failure prints its seed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from services.cache.entry import Entry
from services.cache.fill_values import Granted
from services.cache.values import ByIds, ByTags, Chosen, Fetch, Mode, Outcome, Policy, Query
from services.chassis.errors import NotFound
from tests.integration.cache.conftest import emptied
from tests.integration.cache.stored_cache import StoredCache
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import TENANT, answer, ask

OPERATIONS = int(os.environ.get("MODEL_OPERATIONS") or 5_000)
"""Of both tests together."""

SEED = os.environ.get("MODEL_SEED")

STEPS = 20
AT_ONCE = 60
"""Operations of one step: hypothesis takes longer for a step than the cache for an operation."""

SLOWEST = 10
"""Operations per second that the timeout allows for; it is a guard, not a promise."""

NAMESPACES = ("one", "two")
QUESTIONS = ("a bird in the hand", "a stitch in time", "too many cooks here", "a watched pot boils")
LIVES = (50.0, 500.0)
FILLER = " and so on" * 50
"""Long enough that an answer's body may leave memory."""
FEW = 2_500
"""Bytes of memory for bodies: those of four answers."""
WINDOW = 100.0
"""Seconds for which a stale answer is taken."""


class Kind(StrEnum):
    """What is done."""

    LOOKUP = "lookup"
    STALE = "stale"
    PUT = "put"
    COMMIT = "commit"
    DELETE = "delete"
    DELETE_TAG = "delete_tag"
    CLEAR = "clear"
    PASS = "pass"
    RESTART = "restart"
    PURGE = "purge"


WEIGHTS = {
    Kind.PUT: 20,
    Kind.LOOKUP: 40,
    Kind.STALE: 16,
    Kind.COMMIT: 14,
    Kind.DELETE: 8,
    Kind.DELETE_TAG: 2,
    Kind.CLEAR: 2,
    Kind.PASS: 6,
    Kind.RESTART: 1,
    Kind.PURGE: 2,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One of them; `pick` and `other` choose among what there is."""

    kind: Kind
    replica: int
    namespace: int
    question: int
    version: int
    pick: int


operations = st.builds(
    Operation,
    kind=st.sampled_from([kind for kind, weight in WEIGHTS.items() for _ in range(weight)]),
    replica=st.integers(0, 1),
    namespace=st.integers(0, len(NAMESPACES) - 1),
    question=st.integers(0, len(QUESTIONS) - 1),
    version=st.integers(0, 2),
    pick=st.integers(0, 999),
)


@dataclass(slots=True)
class Known:
    """What the model knows of one answer."""

    text: str
    expires: float
    version: int


@dataclass(slots=True)
class World:
    """The caches, the model, and what was done."""

    store: StoreProcess
    hot_bytes: int
    caches: list[StoredCache] = field(default_factory=list)
    model: dict[tuple[str, str], Known] = field(default_factory=dict)
    done: Counter[Kind] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    start: float = field(default_factory=time.time)
    passed: float = 0.0
    changed_by: int | None = None
    """The replica that has done something of which the other has not heard."""
    fetched: bool = False
    """Whether a body had to be fetched from the store."""
    texts: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))

    def now(self) -> float:
        return self.start + self.passed

    def made(self) -> StoredCache:
        return StoredCache(
            self.store,
            now=self.now,
            monotonic=lambda: 1_000.0 + self.passed,
            stale=WINDOW,
            hot_bytes=self.hot_bytes,
        )

    async def reset(self) -> None:
        """As if nothing had been done."""
        for cache in self.caches:
            await cache.stop()
        await asyncio.to_thread(emptied, self.store)
        self.model.clear()
        self.changed_by = None
        self.start, self.passed = self.start + self.passed + 1.0, 0.0
        self.caches = [await self.made().ready() for _ in range(2)]

    async def do(self, operation: Operation) -> None:
        """Do it to one of the replicas and to the model, and compare."""
        self.done[operation.kind] += 1
        # Time never stands still, or two clears of one moment could not be told apart.
        self.passed += 0.001
        cache = self.caches[operation.replica]
        if self.changed_by not in {None, operation.replica}:
            await cache.cache.tailing.look()  # what the other has done is known a second later at most
            self.changed_by = None
        if operation.kind not in {Kind.LOOKUP, Kind.STALE, Kind.PASS}:
            self.changed_by = operation.replica
        assert all(one.cache.entries.hot.bytes <= self.hot_bytes for one in self.caches)
        namespace, question = NAMESPACES[operation.namespace], QUESTIONS[operation.question]
        try:
            await getattr(self, f"_{operation.kind.value}")(cache, namespace, question, operation)
            self.fetched |= cache.cache.stats.fetches[Fetch.DONE] > 0
        except Exception as error:
            # Told here: hypothesis does the same again, and processes with a time of their own may then end otherwise.
            print(f"DIFFERENCE after {self.done.total()} operations: {operation}: {error!r}")
            raise

    async def _lookup(self, cache: StoredCache, namespace: str, question: str, operation: Operation) -> None:
        found = await cache.look(self._query(namespace, question), self._policy(operation))
        self._compare(namespace, question, operation, found.outcome, found.entry and found.entry.answer.text)

    async def _stale(self, cache: StoredCache, namespace: str, question: str, operation: Operation) -> None:
        found = await cache.look(self._query(namespace, question), self._policy(operation, stale=WINDOW))
        text = found.entry and found.entry.answer.text
        self._compare(namespace, question, operation, found.outcome, text, stale=WINDOW)

    async def _put(self, cache: StoredCache, namespace: str, question: str, operation: Operation) -> None:
        policy = self._policy(operation, ttl=LIVES[operation.pick % 2], tags=("odd",) if operation.pick % 2 else ())
        entry = await cache.put(self._query(namespace, question), self._text(), policy)
        self._remember(namespace, question, entry.answer.text, entry.expires_at, operation)

    async def _commit(self, cache: StoredCache, namespace: str, question: str, operation: Operation) -> None:
        policy = Policy(ttl=LIVES[operation.pick % 2], sources=self._policy(operation).sources)
        asked = await cache.look(self._query(namespace, question), policy)
        text = asked.entry and asked.entry.answer.text
        self._compare(namespace, question, operation, asked.outcome, text)
        if not isinstance(asked.fill, Granted):
            assert asked.outcome is not Outcome.MISS, "nobody else fills"
            return
        made = self._text()
        result = await cache.commit(asked.fill.lease_id, answer(made), durable=True)
        assert (result.stored, result.durable) == (True, True)
        entry = cache.cache.entries.find(TENANT, namespace, result.entry_id)
        assert entry is not None
        self._remember(namespace, question, made, entry.expires_at, operation)

    async def _delete(self, cache: StoredCache, namespace: str, question: str, operation: Operation) -> None:
        entry = cache.cache.entries.get(cache.cache.addresses.of(TENANT, self._query(namespace, question)))
        chosen = Chosen(ByIds((entry.id if entry else "absent",)), namespace)
        if entry is None:
            known = self.model.get((namespace, question))
            assert known is None or known.expires <= self.now()
            with pytest.raises(NotFound):
                await cache.cache.remove(TENANT, chosen)
            return
        assert await cache.cache.remove(TENANT, chosen, dry_run=True) == 1
        assert await cache.cache.remove(TENANT, chosen) == 1
        self.model.pop((namespace, question), None)

    async def _delete_tag(self, cache: StoredCache, namespace: str, question: str, operation: Operation) -> None:
        chosen = Chosen(ByTags(frozenset({"odd"})), namespace)
        tagged = [entry for entry in self._entries(cache, namespace) if "odd" in entry.tags]
        assert await cache.cache.remove(TENANT, chosen) == len(tagged)
        for entry in tagged:
            self.model.pop((namespace, entry.question), None)

    async def _clear(self, cache: StoredCache, namespace: str, question: str, operation: Operation) -> None:
        live = sum(where == namespace and known.expires > self.now() for (where, _), known in self.model.items())
        assert (await cache.clear(namespace, dry_run=True))[0] == live
        assert (await cache.clear(namespace))[0] == live
        for key in [key for key in self.model if key[0] == namespace]:
            del self.model[key]

    async def _pass(self, cache: StoredCache, namespace: str, question: str, operation: Operation) -> None:
        self.passed += 400.0 if operation.pick % 8 == 0 else (5.0, 20.0, 45.0)[operation.pick % 3]

    async def _restart(self, cache: StoredCache, namespace: str, question: str, operation: Operation) -> None:
        if operation.pick % 2:
            await cache.die()
        else:
            await cache.stop()
        if operation.pick % 10 == 0:
            self.store.kill()
            await asyncio.to_thread(self.store.start)
            await self.caches[1 - operation.replica].reached()  # or what it does would be told to the other later only
        self.caches[operation.replica] = await self.made().ready()

    async def _purge(self, cache: StoredCache, namespace: str, question: str, operation: Operation) -> None:
        await cache.cache.purging.purge()
        cache.cache.entries.pop_expired(int((self.now() - WINDOW) * 1e6), 100)

    def _entries(self, cache: StoredCache, namespace: str) -> list[Entry]:
        bucket = cache.cache.entries.bucket(TENANT, namespace)
        return list(bucket.entries.values()) if bucket else []

    def _text(self) -> str:
        return f"answer {next(self.texts)}{FILLER}"

    def _query(self, namespace: str, question: str) -> Query:
        return ask(question, namespace=namespace)

    def _policy(self, operation: Operation, **fields: object) -> Policy:
        sources = () if operation.version == 0 else (("docs", f"v{operation.version}"),)
        mode = Mode.ONLY_IF_CACHED if operation.kind in {Kind.LOOKUP, Kind.STALE} else Mode.DEFAULT
        return Policy(mode=mode, sources=sources, **fields)  # type: ignore[arg-type]

    def _remember(self, namespace: str, question: str, text: str, expires: float, operation: Operation) -> None:
        self.model[namespace, question] = Known(text, expires, operation.version)

    def _compare(
        self,
        namespace: str,
        question: str,
        operation: Operation,
        outcome: Outcome,
        text: str | None,
        *,
        stale: float = 0.0,
    ) -> None:
        known = self.model.get((namespace, question))
        fits = known is not None and operation.version in {0, known.version}
        wanted, expected = Outcome.MISS, None
        if known is not None and fits and self.now() < known.expires:
            wanted, expected = Outcome.EXACT, known.text
        elif known is not None and fits and self.now() < known.expires + stale:
            wanted, expected = Outcome.STALE, known.text
        assert (outcome, text) == (wanted, expected), (namespace, question, operation, known, self.now())
        self.outcomes[outcome] += 1


class Model(RuleBasedStateMachine):
    """Does what hypothesis draws."""

    def __init__(self, runner: asyncio.Runner, world: World) -> None:
        super().__init__()
        self._runner = runner
        self._world = world

    @initialize()
    def start(self) -> None:
        self._runner.run(self._world.reset())

    @rule(several=st.lists(operations, min_size=AT_ONCE // 2, max_size=AT_ONCE))
    def act(self, several: list[Operation]) -> None:
        async def act() -> None:
            for operation in several:
                await self._world.do(operation)

        self._runner.run(act())


@pytest.mark.timeout(300 + OPERATIONS // SLOWEST)
@pytest.mark.parametrize("hot_bytes", [FEW, 1 << 30], ids=["few bodies in memory", "all bodies in memory"])
def test_the_cache_does_what_the_model_does(tmp_path: Path, hot_bytes: int) -> None:
    number = int(SEED) if SEED else secrets.randbelow(2**32)
    store = StoreProcess(tmp_path / "state")
    store.start()
    world = World(store, hot_bytes)
    with asyncio.Runner() as runner:
        try:
            while world.done.total() < OPERATIONS // 2:
                print(f"MODEL_SEED={number}: {world.done.total()} operations before")
                run_state_machine_as_test(
                    seed(number)(lambda: Model(runner, world)),
                    settings=settings(
                        max_examples=4,
                        stateful_step_count=STEPS,
                        deadline=None,
                        database=None,
                        phases=[Phase.generate],
                        suppress_health_check=list(HealthCheck),
                    ),
                )
                number += 1
        finally:
            for cache in world.caches:
                runner.run(cache.stop())
            store.close()
    print(f"{world.done.total()} operations {dict(world.done)}, outcomes {dict(world.outcomes)}")
    assert set(world.done) == set(Kind), "everything was tried"
    assert min(world.outcomes[Outcome.EXACT], world.outcomes[Outcome.MISS]) > OPERATIONS // 100
    assert world.outcomes[Outcome.STALE] > 0
    assert world.fetched == (hot_bytes == FEW), "and of few bodies in memory the others were fetched"
