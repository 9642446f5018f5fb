"""When to try again what failed: work in the background that may fail for a while, or in this replica only."""

from __future__ import annotations

from collections.abc import Callable

from services.chassis.errors import AntiphonError, FailedPrecondition

AGAIN_SECONDS = 5.0
"""After something failed that may pass."""

UNABLE_SECONDS = 30.0
"""After this replica was found unable, as it lacks the embedder: two leases, so that another one can take it."""


class Attempts:
    """At one piece of work."""

    def __init__(self, monotonic: Callable[[], float], report: Callable[[BaseException], None]) -> None:
        self._monotonic = monotonic
        self._report = report
        self._not_before = 0.0
        self.problem = ""
        """Why the last one failed; empty if it did not."""

    @property
    def due(self) -> bool:
        """Whether to try."""
        return self._monotonic() >= self._not_before

    def failed(self, error: BaseException) -> None:
        """Report it, and let a while pass."""
        self._report(error)
        self.problem = error.message if isinstance(error, AntiphonError) else "an internal error; see the log"
        unable = isinstance(error, FailedPrecondition)
        self._not_before = self._monotonic() + (UNABLE_SECONDS if unable else AGAIN_SECONDS)

    def succeeded(self) -> None:
        """Nothing is wrong any more."""
        self.problem = ""
