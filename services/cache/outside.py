"""What a cache gets from outside the domain: the operator's limits, adapters, clocks and chance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from services.cache.adapting import Setup
from services.cache.clock import Clock
from services.cache.decision import Judge
from services.cache.feedback import Heed
from services.cache.ports import EntryStore, EpochStore, Leases, QuestionEmbedder, WriteQueue
from services.cache.room import Capacity


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator set; seconds, bytes, counts. See `services.cache.settings`."""

    ttl: float = 86_400.0
    max_entry_bytes: int = 262_144
    capacity: Capacity = field(default_factory=Capacity)
    decision_budget: float = 0.05
    search_threads: int = 1
    lease: float = 30.0
    max_fills: int = 100_000
    max_unsaved: int = 10_000
    max_queue_bytes: int = 268_435_456
    stale: float = 3_600.0
    quarantine_users: int = 3
    hot_bytes: int = 268_435_456


@dataclass(frozen=True, slots=True)
class Outside:
    """Everything that comes from outside the domain: adapters, clocks, chance, and where failures are reported.

    `chance` is uniform in [0, 1). `learning` None: the judge's rule is the same for every namespace, for ever.
    """

    open_store: Callable[[], Awaitable[None]]
    store: EntryStore
    epochs: EpochStore
    leases: Leases
    queue: WriteQueue
    embedder: QuestionEmbedder
    embedder_slug: str
    embedder_dim: int
    judge: Judge
    key: bytes
    clock: Clock
    chance: Callable[[], float]
    report: Callable[[str, BaseException], None]
    heed: Heed
    learning: Setup | None = None
