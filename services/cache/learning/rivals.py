"""Entries with different answers to questions that are near to each other: either may be served for the other.

Where a question is near to both, one of the two answers is wrong for it. Of the semantic hits that were wrong in the
online evaluation a quarter to three quarters had such a rival of the entry beside them, of those that were right one in
twenty.

A pair is about the two answers that were compared. Who stores another one, be it a caller, an import or another
replica, has not to tell: it is not the one that was compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

KEPT = 2_000
"""Pairs of a namespace that are remembered, some 600 bytes each; those that were found last stay."""

Answered = tuple[str, str]
"""An entry's id, and a digest of the answer that it has."""

_NONE: frozenset[str] = frozenset()


class Rivals:
    """Pairs of entries with their answers; bounded."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], None] = {}
        """Oldest first, the ids of each in order."""
        self._of: dict[str, set[str]] = {}
        self._answers: dict[str, str] = {}
        """Of all that are in a pair: the digest of what was compared last; all its pairs are about that."""

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self._pairs)

    def __iter__(self) -> Iterator[tuple[Answered, Answered]]:
        """The pairs, oldest first."""
        return iter([((one, self._answers[one]), (other, self._answers[other])) for one, other in self._pairs])

    def __contains__(self, entry: str) -> bool:
        """Whether an answer of the entry with this id has a rival."""
        return entry in self._of

    def of(self, entry: Answered) -> Set[str]:
        """The ids of the entries whose answers differed from this one."""
        name, answer = entry
        return self._of[name] if self._answers.get(name) == answer else _NONE

    def apart(self, one: Answered, other: Answered) -> bool:
        """Whether these two answers are known to differ."""
        return other[0] in self.of(one) and one[0] in self.of(other)

    def note(self, one: Answered, other: Answered, *, same: bool) -> None:
        """Take what a comparison of their answers, which they have now, said."""
        if one[0] == other[0]:
            return
        for name, answer in (one, other):
            if self._answers.get(name, answer) != answer:
                self._forget(name)
        pair = _pair(one[0], other[0])
        self._drop(pair)
        if same:
            return
        if len(self._pairs) >= KEPT:
            self._drop(next(iter(self._pairs)))
        self._pairs[pair] = None
        for (name, answer), rival in ((one, other[0]), (other, one[0])):
            self._of.setdefault(name, set()).add(rival)
            self._answers[name] = answer

    def _forget(self, name: str) -> None:
        for other in list(self._of[name]):
            self._drop(_pair(name, other))

    def _drop(self, pair: tuple[str, str]) -> None:
        if pair not in self._pairs:
            return
        del self._pairs[pair]
        for one, other in (pair, pair[::-1]):
            rivals = self._of[one]
            rivals.discard(other)
            if not rivals:
                del self._of[one], self._answers[one]


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
