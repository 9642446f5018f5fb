"""When a call with an idempotency key is made again: the server answers a repeated key without buying twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from antiphon_client.errors import DeadlineExceededError, UnavailableError

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds; the bound of the pause doubles from the first to the longest."""


class Repeats:
    """The attempts of one call, within the time that its caller gives to all of them together.

    Pauses are random between nothing and a bound that doubles ("full jitter":
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), on top of what the server asked for.
    """

    def __init__(
        self,
        timeout: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._monotonic = monotonic
        self._uniform = uniform
        self._end = monotonic() + timeout
        self._bound = FIRST_PAUSE
        self._last: UnavailableError | None = None

    def remaining(self) -> float:
        """Seconds that the next attempt may take."""
        return max(self._end - self._monotonic(), 0.0)

    def pause(self, error: UnavailableError) -> float | None:
        """Seconds to wait before the next attempt; `None` if there is no time left for one."""
        self._last = error
        seconds = (error.retry_after or 0.0) + self._uniform(0.0, self._bound)
        self._bound = min(2 * self._bound, LONGEST_PAUSE)
        return seconds if seconds < self.remaining() else None

    def late(self, error: DeadlineExceededError) -> DeadlineExceededError:
        """The error for a last attempt that the time ran out for, with why the one before had failed.

        Its metadata has the `last_reason`, as that of the service's own errors has.
        """
        if self._last is None or error.reason:
            return error
        said = {"last_reason": self._last.reason or self._last.code.name}
        return DeadlineExceededError(
            f"{error.message}; the attempt before failed: {self._last.message}",
            retry_after=self._last.retry_after,
            metadata={**self._last.metadata, **error.metadata, **said},
        )
