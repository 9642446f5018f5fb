"""What the tests of the cache are made of: clocks that stand still, an embedder whose similarities are known."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import pytest

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache import clock, feedback
from services.cache import similarity as similarity_module
from services.cache.adapters.disk_queue import NoQueue
from services.cache.adapting import Setup
from services.cache.cache import Cache
from services.cache.decision import Judge, Verdict
from services.cache.entry import Entry
from services.cache.fill_values import Granted
from services.cache.judges import GuardedJudge
from services.cache.outside import Limits, Outside
from services.cache.ports import Epoch, Head, Sealed, Tombstone, Write
from services.cache.proto import write_report
from services.cache.rotation.plan import Choice, End
from services.cache.rotation.sides import Side, Sides
from services.cache.similarity import Similarity
from services.cache.values import Asked, LookupResult, Mode, Policy, Query, Vector
from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError, Reason, Unavailable
from services.llm.values import Answer, Cost, FinishReason, Message, Role, TextPart, Usage

TENANT = "default"
DIM = 64
KEY = bytes(range(32))
START = 1_800_000_000.0
ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
ONLY = Policy(mode=Mode.ONLY_IF_CACHED)


class Clock:
    """Wall and monotonic time, moved by the test."""

    def __init__(self) -> None:
        self.wall = START
        self.mono = 1_000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds


@contextmanager
def searches_held(similarity: Similarity, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every search waits on its thread inside."""
    go_on, search = threading.Event(), similarity._search

    def held(*given: Any) -> Any:
        go_on.wait()
        return search(*given)

    with monkeypatch.context() as patch:
        patch.setattr(similarity_module, "INLINE_ROWS", 0)
        patch.setattr(similarity_module, "MOST_INLINE_ROWS", 0)
        patch.setattr(similarity, "_search", held)
        try:
            yield
        finally:
            go_on.set()


class KnownEmbedder:
    """Texts have unrelated vectors unless the test says how alike two are."""

    def __init__(self, dim: int = DIM, name: str = "") -> None:
        """Embedders of different names give a text unrelated vectors."""
        self._dim = dim
        self._name = name
        self._alike: dict[str, tuple[str, float]] = {}
        self.calls: list[str] = []
        self.error: AntiphonError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.passes = 20
        """What a text costs: enough that a slow machine does not make a lookup late."""

    def alike(self, text: str, other: str, cosine: float) -> None:
        """Give `text` this cosine to `other`."""
        self._alike[text] = (other, cosine)

    def vector(self, text: str) -> Vector:
        if text in self._alike:
            other, cosine = self._alike[text]
            base = self.vector(other).astype(np.float64)
            away = self._random(text)
            away -= base * (away @ base)
            away /= np.linalg.norm(away)
            return (cosine * base + np.sqrt(1 - cosine**2) * away).astype(np.float32)
        return self._random(text).astype(np.float32)

    def _random(self, text: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        seed = int.from_bytes(hashlib.sha256((self._name + text).encode()).digest()[:8], "big")
        vector = np.random.default_rng(seed).standard_normal(self._dim)
        return vector / np.linalg.norm(vector)

    def windows(self, text: str) -> int:
        return self.passes

    def comparable(self, text: str) -> bool:
        return True

    async def embed_one(self, text: str) -> tuple[Vector, int]:
        self.calls.append(text)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.vector(text), len(text.split())


class Trusting(GuardedJudge):
    """Judges by the cosine alone: the texts of tests are alike because a test says so."""

    def judge(self, question: str, cached: Sequence[str], cosines: Sequence[float]) -> list[Verdict]:
        return [Verdict() for _ in cached]


class NoStore:
    """A store that nobody can reach."""

    async def save(self, writes: Sequence[Write | Tombstone]) -> list[bool]:
        raise down()

    async def read(self, ids: Sequence[str], *, vectors: bool = True) -> list[Write | Tombstone | Sealed]:
        raise down()

    async def load(self, *, now_us: int) -> AsyncIterator[list[Write | Tombstone]]:
        raise down()
        yield []

    async def heads(self, *, since_us: int | None) -> AsyncIterator[list[Head]]:
        raise down()
        yield []

    async def remove(self, entries: Sequence[Entry]) -> None:
        raise down()

    async def purge_cleared(self, epoch: Epoch) -> None:
        raise down()

    async def purge_expired(self, *, now_us: int) -> None:
        raise down()


class NoEpochs:
    """As `NoStore`."""

    async def load(self, *, since_us: int | None = None) -> list[Epoch]:
        raise down()

    async def advance(self, tenant: str, namespace: str, *, beyond: int, now_us: int, once: bool = False) -> Epoch:
        raise down()

    async def hold(self, work: str, *, holder: str, seconds: float, now_us: int) -> bool:
        raise down()


class RoomyQueue(NoQueue):
    """Takes everything."""

    async def append(self, items: Sequence[Write | Tombstone | Epoch], *, durable: bool) -> None: ...


def down() -> Unavailable:
    return Unavailable("the store is not available", reason=Reason.STORE_UNAVAILABLE)


ANY = Policy()


class Bench:
    """A cache without a store, on a clock that stands still."""

    def __init__(
        self,
        *,
        judge: Judge | None = None,
        learning: Setup | None = None,
        min_similarity: float = 0.9,
        **limits: object,
    ) -> None:
        self.judge = judge or Trusting(min_similarity)
        self.clock = Clock()
        self.embedder = KnownEmbedder()
        self.reported: list[tuple[str, BaseException]] = []
        self.verdicts: list[feedback.Verdict] = []
        self.chance = 0.0
        self._queries: dict[str, Query] = {}

        async def unreachable() -> None:
            raise down()

        self.cache = Cache(
            Limits(**{"decision_budget": 10.0, **limits}),  # type: ignore[arg-type]
            Outside(
                open_store=unreachable,
                store=NoStore(),
                epochs=NoEpochs(),
                leases=NoEpochs(),
                queue=RoomyQueue(),
                embedder=self.embedder,
                embedder_slug="known_1",
                embedder_dim=DIM,
                judge=self.judge,
                key=KEY,
                clock=clock.Clock(self.clock.now, self.clock.monotonic),
                chance=lambda: self.chance,
                report=lambda part, error: self.reported.append((part, error)),
                learning=learning,
                heed=self.verdicts.append,
            ),
        )

    def sides(self) -> Sides:
        """As a process has it around its cache."""
        end = End(Choice("known"), "known_1", DIM)
        return Sides(Side(end, self.cache, NoStore(), "v", lambda: 0, self.cache.aclose))

    def deadline(self, seconds: float = 5.0) -> Deadline:
        return Deadline.after(seconds, monotonic=self.clock.monotonic)

    async def look(
        self, what: Query | str, policy: Policy | None = None, *, token: str = "", tenant: str = TENANT
    ) -> LookupResult:
        # As in a server, the same words are the same object.
        query = self._queries.setdefault(what, ask(what)) if isinstance(what, str) else what
        return await self.cache.lookup(tenant, Asked(query, policy or ANY, token), self.deadline())

    async def look_many(self, asked: Sequence[Asked], *, tenant: str = TENANT) -> list[LookupResult]:
        return await self.cache.lookup_many(tenant, asked, self.deadline())

    async def put(
        self, what: Query | str, text: str = "an answer", policy: Policy | None = None, *, tenant: str = TENANT
    ) -> Entry:
        query = ask(what) if isinstance(what, str) else what
        return await self.cache.put(
            tenant, query, policy or Policy(), answer(text), durable=False, deadline=self.deadline()
        )


@asynccontextmanager
async def benched(
    *, judge: Judge | None = None, learning: Setup | None = None, **limits: object
) -> AsyncIterator[Bench]:
    """A bench, and no defect in the background by its end."""
    bench = Bench(judge=judge, learning=learning, **limits)
    yield bench
    await bench.cache.aclose()
    assert bench.reported == []


def user(text: str) -> Message:
    return Message(Role.USER, (TextPart(text),))


def ask(text: str, *before: Message, **fields: object) -> Query:
    return Query(messages=(*before, user(text)), **fields)  # type: ignore[arg-type]


def answer(text: str = "an answer", **fields: object) -> Answer:
    values: dict[str, object] = {
        "finish_reason": FinishReason.STOP,
        "model": "small",
        "usage": Usage(input=10, output=20),
        "cost": Cost(300, "p1"),
        **fields,
    }
    return Answer(text=text, **values)  # type: ignore[arg-type]


def lease(result: object) -> str:
    """The lease that was granted, by a lookup or with a wait."""
    fill = result.fill if isinstance(result, LookupResult) else result
    assert isinstance(fill, Granted), result
    return fill.lease_id


async def told(bench: Bench, tenant: str = TENANT, namespace: str | None = None) -> pb.GetStatsResponse:
    """What a tenant is told of its cache."""
    return write_report(await bench.cache.report(tenant, namespace))
