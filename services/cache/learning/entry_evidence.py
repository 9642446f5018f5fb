"""What is known of single entries: some are near to questions that they do not answer.

An entry multiplies the share of wrong of its rung by a factor ~ Gamma(k, k); with E wrong verdicts expected of it and W
seen, its mean is (k + W) / (k + E) (Gamma–Poisson shrinkage, DuMouchel 1999). W counts a verdict "different" by the
probability that it is a wrong pair and no error of its source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SHAPE = 0.5
"""k: at 0.5 an entry with two wrong pairs where hardly any was expected is judged several times worse. Chosen, not
fitted."""

KEPT = 500
"""Entries of a namespace that are remembered, some 200 bytes each; those with a wrong verdict stay longest."""

FORGOTTEN = 100
"""Entries that make room at once, so that choosing them is rare."""


@dataclass(slots=True)
class _Seen:
    wrong: float
    expected: float


class EntryEvidence:
    """By entry: wrong verdicts seen and expected; bounded."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def __len__(self) -> int:
        """Count the entries that are remembered."""
        return len(self._seen)

    def __iter__(self) -> Iterator[tuple[str, float, float]]:
        """(entry, wrong, expected), oldest first."""
        return iter([(entry, seen.wrong, seen.expected) for entry, seen in self._seen.items()])

    def add(self, entry: str, *, wrong: float, expected: float) -> None:
        """Count one verdict. ValueError for what is negative or not finite."""
        if not (0 <= wrong < float("inf") and 0 <= expected < float("inf")):
            raise ValueError("evidence is not negative")
        seen = self._seen.get(entry)
        if seen is not None:
            seen.wrong += wrong
            seen.expected += expected
            return
        if len(self._seen) >= KEPT:
            for other in sorted(self._seen, key=lambda each: self._seen[each].wrong)[:FORGOTTEN]:
                del self._seen[other]
        self._seen[entry] = _Seen(wrong, expected)

    def factor(self, entry: str) -> float:
        """How much more often than others of its rung it is wrong; 1 for an unknown one."""
        seen = self._seen.get(entry)
        return 1.0 if seen is None else (SHAPE + seen.wrong) / (SHAPE + seen.expected)

    def forget(self, entry: str) -> None:
        """Drop what is known of an entry; an unknown one is no error."""
        self._seen.pop(entry, None)

    def clear(self) -> None:
        """Drop all."""
        self._seen.clear()
