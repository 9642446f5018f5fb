"""Token buckets: so much per minute, and a minute's worth at once."""

from __future__ import annotations

from collections.abc import Callable

SECONDS = 60.0
"""The minute that limits are stated for; also how long an empty bucket takes to fill."""


class Bucket:
    """Holds `per_minute` at most and gains as much in a minute; it begins full. For use on one event loop."""

    __slots__ = ("_level", "_monotonic", "_seen", "per_minute")

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._monotonic = monotonic
        self._level = float(per_minute)
        self._seen = monotonic()

    def level(self) -> float:
        """What is in it now; below zero after a charge of more than there was."""
        now = self._monotonic()
        if now > self._seen:
            gained = (now - self._seen) * self.per_minute / SECONDS
            self._level = min(self._level + gained, float(self.per_minute))
            self._seen = now
        return self._level

    def take(self) -> float:
        """Take one and return 0; or take nothing and return the seconds until there is one."""
        level = self.level()
        if level < 1:
            return (1 - level) * SECONDS / self.per_minute
        self._level = level - 1
        return 0.0

    def shortage(self) -> float:
        """Seconds until there is something in it; 0 if there is."""
        level = self.level()
        # Until there is one: "more than nothing" would be reached at no moment that can be told.
        return 0.0 if level > 0 else (1 - level) * SECONDS / self.per_minute

    def charge(self, amount: int) -> None:
        """Take what was used, whether it is there or not."""
        self._level = self.level() - amount

    def resize(self, per_minute: int) -> None:
        """Change the limit from now on; what was used stays used."""
        used = self.per_minute - self.level()
        self.per_minute = per_minute
        self._level = per_minute - used
