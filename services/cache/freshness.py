"""How long an answer is good."""

from __future__ import annotations

TTL_JITTER = 0.05
"""At most this share is taken off, so that answers stored together do not all expire together (only ever earlier)."""


def time_to_live(asked: float | None, *, limit: float, chance: float) -> float:
    """Seconds an entry lives: what its caller asked for, at most the operator's `limit`, less up to 5 %.

    `chance` is uniform in [0, 1).
    """
    seconds = limit if asked is None else min(asked, limit)
    return seconds * (1.0 - TTL_JITTER * chance)
