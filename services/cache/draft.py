"""A question that waits for its answer: all that is needed to store the answer when it comes."""

from __future__ import annotations

from dataclasses import dataclass

from services.cache.decision import Candidate
from services.cache.scope import Address
from services.cache.values import Vector


@dataclass(frozen=True, slots=True)
class Draft:
    """`ttl` in seconds, already within the operator's limit; `vector` None: not computed, or exact tier only.

    `epoch` is that of the namespace when the question was asked: a `Clear` since then makes the answer invisible.
    """

    address: Address
    ttl: float
    tags: tuple[str, ...]
    no_store: bool
    epoch: int
    vector: Vector | None
    sources: tuple[tuple[str, str], ...] = ()
    near: tuple[Candidate, ...] = ()
    """The entries that were most similar and were not served: what the answer is compared with."""

    @property
    def size(self) -> int:
        """Bytes held, roughly."""
        return len(self.address.question.text) + (0 if self.vector is None else self.vector.nbytes)
