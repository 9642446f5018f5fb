"""What a change of the embedder needs from outside, as it wants to see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from services.cache.ports import EntryStore, QuestionEmbedder, WriteQueue
from services.cache.rotation.plan import Choice, End
from services.cache.rotation.sides import Side
from services.cache.scope import Addresses
from services.cache.stats import Stats
from services.chassis.errors import FailedPrecondition, Reason

PROBE = "Does this embedder work?"
"""Embedded before a change begins: a remote one may be down, or have vectors of another length than was said."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An embedder that is ready."""

    end: End
    embedder: QuestionEmbedder
    aclose: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Left:
    """A queue on disk that no side uses, and where its entries belonged; `slug` is that of its embedder."""

    slug: str
    queue: WriteQueue
    addresses: Addresses
    aclose: Callable[[], Awaitable[None]]


class Workshop(Protocol):
    """Makes what belongs to one embedder.

    Raises FailedPrecondition for an embedder that is not there, InvalidRequest for a choice that names none.
    """

    async def embedder(self, choice: Choice) -> Opened:
        """Open it. Unavailable, too, if it is remote and down."""
        ...

    async def side(self, choice: Choice, stats: Stats | None) -> Side:
        """A cache over it, which does not run yet; `stats`: to go on with."""
        ...

    def store(self, end: End) -> EntryStore:
        """Its collection."""
        ...

    def addresses(self, end: End) -> Addresses:
        """Where questions belong there."""
        ...

    async def left(self) -> list[Left]:
        """Queues with something in them that no side uses; to be closed."""
        ...


def require(slug: str, end: End) -> None:
    """Raise FailedPrecondition if what was made here is another embedder than the one that was chosen."""
    if slug != end.slug:
        problem = "this replica's settings make another embedder of what was chosen"
        raise FailedPrecondition(problem, reason=Reason.EMBEDDER_MISMATCH)
