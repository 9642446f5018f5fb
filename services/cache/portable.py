"""An entry on its way from one cache to another. Times are Unix microseconds."""

from __future__ import annotations

from dataclasses import dataclass

from services.cache.entry import Source
from services.cache.origin import Origin
from services.cache.review import UNREVIEWED, Review
from services.cache.values import Vector
from services.llm.values import Answer


@dataclass(frozen=True, slots=True)
class Portable:
    """Nothing in it depends on the key, the embedder, the tenant or the clock of the cache it comes from.

    `origin` is not sealed. `embedder`, `vector`: the identity's slug and the question's embedding, if it comes along.
    """

    namespace: str
    question: str
    origin: Origin
    version: int
    """Of the address: `services.cache.scope.VERSION` where it comes from."""
    answer: Answer
    created_us: int
    expires_us: int
    tags: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    source: Source = Source.PUT
    writer: str = ""
    decided_by: str = ""
    review: Review = UNREVIEWED
    vector: Vector | None = None
    embedder: str = ""
