"""Counts of values by size, in buckets that never change, so that the memory they take is bounded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

SIMILARITY_BOUNDS = (
    *(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.82, 0.84, 0.86, 0.88),
    *(0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99),
)
"""Cosines; finest where thresholds are. The contract names them."""

LATENCY_BOUNDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds: from an exact hit to the longest embedding. The contract names them."""

P_WRONG_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
"""Probabilities that an entry is wrong for a question; finest where promises are made. The contract names them."""


class Buckets:
    """Bucket `i` counts values v with bounds[i - 1] <= v < bounds[i]; the first and the last are open.

    A threshold that is a bound separates: what reaches it is never in the bucket below.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` rise."""
        self._bounds = bounds
        self._keys = [object() for _ in range(len(bounds) + 1)]

    def key(self, value: float) -> object:
        """Of the bucket in whose number a value counts."""
        return self._keys[bisect_right(self._bounds, value)]

    def counts(self, numbers: Mapping[object, int]) -> list[int]:
        """The number of each bucket, one more than there are bounds."""
        return [numbers.get(key, 0) for key in self._keys]
