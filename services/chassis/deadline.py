"""A point in time by which a call must be done; every outgoing call gets what is left of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import field

from services.chassis.errors import DeadlineExceeded
from services.chassis.value import value


@value
class Deadline:
    """`at` is in seconds of the monotonic clock, so that a change of the wall clock moves no deadline."""

    at: float
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    @classmethod
    def after(cls, seconds: float, *, monotonic: Callable[[], float] = time.monotonic) -> Deadline:
        """The deadline that is `seconds` from now."""
        return cls(monotonic() + seconds, monotonic)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(self.at - self.monotonic(), 0.0)

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.monotonic() >= self.at

    def within(self, seconds: float) -> float:
        """The timeout of a step that may take `seconds` but not longer than the call."""
        return min(self.remaining(), seconds)

    def earliest(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at, self.monotonic() + seconds), self.monotonic)

    def later(self, seconds: float) -> Deadline:
        """The deadline that is so much later."""
        return Deadline(self.at + seconds, self.monotonic)

    def check(self) -> None:
        """Raise `DeadlineExceeded` if no time is left."""
        if self.passed:
            raise DeadlineExceeded("the deadline of the call has passed")
