"""Exact cosine search over groups of unit vectors, in Rust.

`IndexPoisoned` reports an internal fault of one index to one caller; every later call on that index raises its
subclass `IndexQuarantined`. Whoever catches either rebuilds the index from the store.
"""

from __future__ import annotations

from typing import Final

from simcore._native import (
    DIRECTIONS,
    FEATURES,
    GUARD_VERSION,
    Guard,
    GuardReport,
    Index,
    IndexPoisoned,
    IndexQuarantined,
    Judgement,
    Verifier,
    compare,
)

MISSING_ID: Final = 2**64 - 1
"""The id in a search's cell for which no row was found; its score is minus infinity."""

__all__ = [
    "DIRECTIONS",
    "FEATURES",
    "GUARD_VERSION",
    "MISSING_ID",
    "Guard",
    "GuardReport",
    "Index",
    "IndexPoisoned",
    "IndexQuarantined",
    "Judgement",
    "Verifier",
    "compare",
]
