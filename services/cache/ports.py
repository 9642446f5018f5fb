"""What the cache needs from outside, as it wants to see it; `main` puts the adapters in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.cache.entry import CLOCK_SKEW_US, Entry
from services.cache.values import Vector
from services.chassis.value import value


@value
class Write:
    """An entry as it is stored: with the embedding of its question, unless only its own words may find it."""

    entry: Entry
    vector: Vector | None

    @property
    def id(self) -> str:
        """The entry's."""
        return self.entry.id

    @property
    def ver(self) -> int:
        """The entry's."""
        return self.entry.ver

    @property
    def updated_us(self) -> int:
        """The entry's."""
        return self.entry.updated_us


@value
class Tombstone:
    """Says in an entry's place that it was deleted, until nothing that it hides could be served any more.

    Without it a write that comes late, or a replica that has not heard, would bring the entry back.
    """

    id: str
    tenant: str
    namespace: str
    ver: int
    """Larger than that of the entry; an answer that was stored after the delete has a larger one."""
    epoch: int
    updated_us: int
    expires_us: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """A record that this process cannot read: another version of this software wrote it, or it was damaged."""

    id: str
    ver: int


@value
class Head:
    """What tells whether a stored record is news."""

    id: str
    tenant: str
    namespace: str
    ver: int
    epoch: int
    buried: bool
    """It is a tombstone."""
    saved_us: int
    """When it was stored, by the clock of who did it; 0 in records from before that was kept."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """How often a namespace has been cleared, and when last (Unix microseconds)."""

    tenant: str
    namespace: str
    number: int
    cleared_us: int

    def hides(self, entry: Entry, own: Epoch | None) -> bool:
        """Whether it was made before the clear that led to this epoch.

        `own`: a clear of the namespace that the maker of the entry has made itself, and counted on its epoch.
        """
        after_own = own is not None and own.cleared_us == self.cleared_us and entry.epoch == own.number
        made_since = after_own or entry.updated_us > self.cleared_us + CLOCK_SKEW_US
        return entry.epoch < self.number and not made_since


class WrongKey(Exception):
    """The store's entries were made with another fingerprint key than this process has."""


class EntryStore(Protocol):
    """Where entries outlive the process. Calls raise Unavailable(STORE_UNAVAILABLE) while the store is down."""

    async def save(self, writes: Sequence[Write | Tombstone]) -> list[bool]:
        """Store each unless something as new is there; durable. Returns whether it is what is stored now."""
        ...

    async def read(self, ids: Sequence[str], *, vectors: bool = True) -> list[Write | Tombstone | Sealed]:
        """What is stored under these ids, without the absent; without `vectors` none has one."""
        ...

    def load(self, *, now_us: int) -> AsyncIterator[list[Write | Tombstone]]:
        """Everything that has not expired, in parts. What cannot be read is counted and left where it is."""
        ...

    def heads(self, *, since_us: int | None) -> AsyncIterator[list[Head]]:
        """What was stored since then, or everything; in parts, without what cannot be read by this version."""
        ...

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Take these out, durably, but nothing newer under the same ids; leaves no tombstone."""
        ...

    async def purge_cleared(self, epoch: Epoch) -> None:
        """Delete what is older than the epoch of its namespace."""
        ...

    async def purge_expired(self, *, now_us: int) -> None:
        """Delete what has expired, tombstones too."""
        ...


class EpochStore(Protocol):
    """Where clears outlive the process. Calls raise Unavailable(STORE_UNAVAILABLE) while the store is down."""

    async def load(self, *, since_us: int | None = None) -> list[Epoch]:
        """Every namespace that was ever cleared, or since then."""
        ...

    async def advance(self, tenant: str, namespace: str, *, beyond: int, now_us: int, once: bool = False) -> Epoch:
        """A new epoch, larger than `beyond` and than any stored one; durable.

        `once`: not if the namespace has been cleared at `now_us` or later, to an epoch beyond `beyond`: then that one.
        """
        ...


class WriteQueue(Protocol):
    """What waits for the store, on this machine's disk. Calls raise Unavailable while the disk refuses."""

    @property
    def size(self) -> int:
        """Bytes on disk."""
        ...

    def size_of(self, write: Write) -> int:
        """About how many bytes a write takes there."""
        ...

    async def read(self) -> list[Write | Tombstone | Epoch]:
        """Everything, in the order in which it came; what is torn is counted and left out."""
        ...

    async def append(self, items: Sequence[Write | Tombstone | Epoch], *, durable: bool) -> None:
        """Add these, all or none; they survive the process, and if `durable` the machine."""
        ...

    async def replace(self, items: Sequence[Write | Tombstone | Epoch]) -> None:
        """Have these and nothing else, in one step."""
        ...


class Leases(Protocol):
    """Work that one replica does for all. Calls raise Unavailable(STORE_UNAVAILABLE) while the store is down."""

    async def hold(self, work: str, *, holder: str, seconds: float, now_us: int) -> bool:
        """Take the work, or keep it, for so long; False while someone else has it."""
        ...


@dataclass(frozen=True, slots=True)
class LearnedState:
    """What one namespace's traffic has taught, as JSON; see `learning.state`."""

    tenant: str
    namespace: str
    state: Mapping[str, Any]


class LearningStore(Protocol):
    """Where it outlives the process. Calls raise Unavailable(STORE_UNAVAILABLE) while the store is down."""

    async def load_learned(self, tenant: str, namespace: str) -> object:
        """The state of a namespace, whatever was stored as one; None if nothing was."""
        ...

    async def save_learned(self, states: Sequence[LearnedState]) -> None:
        """Store each in the place of the one before; durable."""
        ...


class Readiness(Protocol):
    """How far the start has come."""

    @property
    def hydrating(self) -> bool:
        """Whether what is stored is being read now, so that memory has a part of it only."""
        ...


class QuestionEmbedder(Protocol):
    """Turns one question into its vector; batches of its own accord."""

    def windows(self, text: str) -> int:
        """How many forward passes the text costs."""
        ...

    def comparable(self, text: str) -> bool:
        """Whether the text's vector says enough to serve another text's answer for it."""
        ...

    async def embed_one(self, text: str) -> tuple[Vector, int]:
        """The vector, of norm 1, and the tokens it took.

        Raises Unavailable or Exhausted when the embedder cannot, InvalidRequest for a text that it cannot read whole.
        """
        ...
