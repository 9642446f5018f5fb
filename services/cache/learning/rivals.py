"""Entries with different answers to questions that are near to each other: either may be served for the other.

Where a question is near to both, one of the two answers is wrong for it. Of the semantic hits that were wrong in the
online evaluation a quarter to three quarters had such a rival of the entry beside them, of those that were right one in
twenty.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

KEPT = 2_000
"""Pairs of a namespace that are remembered, some 500 bytes each; those that were found last stay."""

_NONE: frozenset[str] = frozenset()


class Rivals:
    """Pairs of entry ids; bounded."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], None] = {}
        """Oldest first, the ids of each in order."""
        self._of: dict[str, set[str]] = {}

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self._pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """The pairs, oldest first."""
        return iter(list(self._pairs))

    def of(self, entry: str) -> Set[str]:
        """The entries whose answers differ from this one's."""
        return self._of.get(entry, _NONE)

    def note(self, one: str, other: str, *, same: bool) -> None:
        """Take what a comparison of their answers said."""
        if one == other:
            return
        pair = (one, other) if one < other else (other, one)
        self._drop(pair)
        if same:
            return
        if len(self._pairs) >= KEPT:
            self._drop(next(iter(self._pairs)))
        self._pairs[pair] = None
        self._of.setdefault(one, set()).add(other)
        self._of.setdefault(other, set()).add(one)

    def forget(self, entry: str) -> None:
        """Drop what is known of an entry: it has another answer now. An unknown one is no error."""
        for other in list(self.of(entry)):
            self._drop((entry, other) if entry < other else (other, entry))

    def _drop(self, pair: tuple[str, str]) -> None:
        if pair not in self._pairs:
            return
        del self._pairs[pair]
        for one, other in (pair, pair[::-1]):
            rivals = self._of[one]
            rivals.discard(other)
            if not rivals:
                del self._of[one]
