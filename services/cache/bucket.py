"""One namespace of one tenant in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.cache.entry import Entry
from services.cache.pool import Pool, Slot

SLOWEST_PACE = 1.2e-3 / 32_768
"""Seconds for each row, where none can be left out, at 384 dimensions; `tests/bench` measures it."""


@dataclass(slots=True)
class Group:
    """The rows of one scope in the vector index: the index's number for it, and how many there are.

    `pace`: seconds for each row that the next search of it is expected to take.
    """

    number: int
    rows: int = 0
    pace: float = SLOWEST_PACE


@dataclass(slots=True)
class Bucket:
    """Entries of one epoch. A clear puts a fresh bucket in place, which is why it takes no time."""

    tenant: str
    namespace: str
    pool: Pool
    epoch: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    """By entry id."""
    slots: dict[str, Slot] = field(default_factory=dict)
    """By entry id."""
    groups: dict[str, Group] = field(default_factory=dict)
    """By scope."""
    quarantined: int = 0
    """Entries of it that are quarantined."""
