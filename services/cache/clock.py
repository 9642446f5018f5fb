"""The time that entries live by: a wall clock that nobody can turn back, and that follows the fastest of the replicas.

Whatever is wrong with a clock must never lengthen a life. So time never goes back: where the wall clock does it goes on
by the monotonic clock, and what other replicas have written is not in the future. That costs the answers which a clock
that ran ahead has let expire, until they are read again; nothing is deleted for good by a time that has not lasted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from services.cache.entry import MICROSECONDS

MAX_LEAD_SECONDS = 600.0
"""By which another replica's clock is followed. One that is further ahead is wrong, and what it wrote is not served."""

SETTLED_SECONDS = 3_600.0
"""That a jump of the wall clock must last before anything is deleted by it: an hour is enough to notice and mend it."""


class Clock:
    """`now` is Unix seconds, `monotonic` seconds of a clock that nobody sets."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self.monotonic = monotonic
        self._least = self._first = wall() - monotonic()
        self._offsets = deque([(monotonic(), self._first)])
        """Of the wall clock to `monotonic`, by when they were seen; both rising, for the least of the last hour."""

    def now(self) -> float:
        """The wall clock, but never less than what it has shown and what has passed since."""
        at = self.monotonic()
        self._least = max(self._least, self._wall() - at)
        return self._least + at

    def believable(self, times_us: Iterable[int]) -> int:
        """The latest of these times (Unix microseconds) that another replica's clock may have shown; 0 if none may."""
        most = (self.now() + MAX_LEAD_SECONDS) * MICROSECONDS
        return max((time_us for time_us in times_us if time_us <= most), default=0)

    def follow(self, times_us: Iterable[int]) -> None:
        """Other replicas' clocks have shown these times already."""
        latest = self.believable(times_us) / MICROSECONDS
        if latest > self.now():
            self._least = latest - self.monotonic()

    def settled(self) -> float:
        """The time as it would be without any jump forward of the last hour; never more than `now`."""
        at = self.monotonic()
        offset = max(self._wall() - at, self._first)
        while self._offsets and self._offsets[-1][1] > offset:
            self._offsets.pop()
        if not self._offsets or self._offsets[-1][1] < offset:
            self._offsets.append((at, offset))
        while len(self._offsets) > 1 and self._offsets[1][0] <= at - SETTLED_SECONDS:
            self._offsets.popleft()
        return at + self._offsets[0][1]
