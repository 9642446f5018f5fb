"""Percentiles of any number of samples in bounded memory.

Samples are counted in buckets whose bounds grow by a fixed factor, so that each percentile is right to within
`ACCURACY` of its value (the sketch of Masson, Rim, Lee: DDSketch, VLDB 2019).
"""

from __future__ import annotations

import math
from collections import Counter

ACCURACY = 0.005
"""The relative error of a percentile at most."""

LEAST = 1e-3
"""Smaller samples count as this: for milliseconds, a microsecond."""

_LOG_GAMMA = math.log((1 + ACCURACY) / (1 - ACCURACY))


class Samples:
    """Positive numbers. From 10⁻³ to 10⁸ there are 2,533 buckets."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, value: float) -> None:
        """Count one sample."""
        self._buckets[math.ceil(math.log(max(value, LEAST)) / _LOG_GAMMA)] += 1
        self._count += 1

    def percentile(self, percent: float) -> float | None:
        """Return the value that `percent` of the samples do not exceed (nearest rank), or None without samples."""
        if not self._count:
            return None
        rank = max(math.ceil(self._count * percent / 100), 1)
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                # The point whose relative distance to both bounds of the bucket is the same.
                return 2 * math.exp(bucket * _LOG_GAMMA) / (1 + math.exp(_LOG_GAMMA))
        raise AssertionError("the counts of the buckets are those of the samples")
