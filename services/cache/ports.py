"""What the cache needs from outside, as it wants to see it; `__main__` puts the adapters in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.cache.entry import Entry
from services.cache.values import Vector


@dataclass(frozen=True, slots=True)
class Write:
    """An entry as it is stored: with the embedding of its question, unless only its own words may find it."""

    entry: Entry
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Epoch:
    """How often a namespace has been cleared, and when last (Unix microseconds)."""

    tenant: str
    namespace: str
    number: int
    cleared_us: int


class WrongKey(Exception):
    """The store's entries were made with another fingerprint key than this process has."""


class EntryStore(Protocol):
    """Where entries outlive the process. Calls raise Unavailable(STORE_UNAVAILABLE) while the store is down."""

    async def save(self, writes: Sequence[Write]) -> list[bool]:
        """Store each unless something as new is there; durable. Returns whether it is what is stored now."""
        ...

    async def read(self, ids: Sequence[str]) -> list[Write]:
        """What is stored under these ids, without the absent and the unreadable."""
        ...

    def load(self, *, now_us: int) -> AsyncIterator[list[Write]]:
        """Everything that has not expired, in parts. What cannot be read is counted and left where it is."""
        ...

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Delete these, durably, but nothing newer under the same ids."""
        ...

    async def purge_cleared(self, epoch: Epoch) -> None:
        """Delete what is older than the epoch of its namespace."""
        ...

    async def purge_expired(self, *, now_us: int) -> None:
        """Delete what has expired."""
        ...


class EpochStore(Protocol):
    """Where clears outlive the process. Calls raise Unavailable(STORE_UNAVAILABLE) while the store is down."""

    async def load(self) -> list[Epoch]:
        """Every namespace that was ever cleared."""
        ...

    async def advance(self, tenant: str, namespace: str, *, beyond: int, now_us: int) -> Epoch:
        """A new epoch, larger than `beyond` and than any stored one; durable."""
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
