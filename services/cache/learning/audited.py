"""What audits say of the share of wrong hits, given that comparing answers errs itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.cache.learning.labels import ComparerError

Z = 1.96
"""Of a two-sided interval of 95 %."""


@dataclass(frozen=True, slots=True)
class Audited:
    """The share of wrong hits and its 95 % interval."""

    share: float
    low: float
    high: float


def audited(agreed: int, differed: int, error: ComparerError) -> Audited | None:
    """The share after the comparer's own errors are taken out; None before the first audit.

    The interval of what audits said (Wilson 1927), each end corrected as the share (Rogan & Gladen 1978).
    """
    count = agreed + differed
    if not count:
        return None
    raw = differed / count
    middle = (raw + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z * math.sqrt(raw * (1 - raw) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    alarm, _ = error.false_alarm()
    missed = error.overlooked()

    def corrected(said: float) -> float:
        return min(max((said - alarm) / max(1 - alarm - missed, 0.1), 0.0), 1.0)

    return Audited(corrected(raw), corrected(middle - half), corrected(middle + half))
