"""Notices when the event loop stands still, and where: otherwise nothing tells why everybody had to wait.

The loop notes the time again and again, and a thread looks at it. If the note is old the thread writes down where the
loop's thread is. A machine with too little to give looks the same from inside, but then the process has used no time.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from services.chassis.telemetry import Telemetry

BLOCKED_SECONDS = 0.2
"""That the loop may stand still."""

LOOK_SECONDS = 0.1
"""Between two notes, and between two looks at them."""

TOLD_SECONDS = 1.0
"""That it stands still before the log tells where; shorter times are counted only."""

QUIET_SECONDS = 10.0
"""Between two lines of the log; all are counted."""

FRAMES = 12
"""Of the loop's stack that are logged, the innermost ones."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """In seconds: one that nobody sets, and the time that this process has used."""

    monotonic: Callable[[], float] = time.monotonic
    used: Callable[[], float] = time.process_time


class Watchdog:
    """Of one loop. Within `watching`, call nothing of it."""

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        blocked: float = BLOCKED_SECONDS,
        told: float = TOLD_SECONDS,
        clocks: Clocks = Clocks(),
    ) -> None:
        """`blocked`: seconds that the loop may stand still; `told`: after so many the log tells where it does."""
        self._log = telemetry.log
        self._seconds = Histogram(
            "antiphon_loop_blocked_seconds",
            "How long the event loop stood still at a time, where that was longer than 0.2 s.",
            buckets=(0.5, 1.0, 2.0, 5.0, 10.0),
            registry=telemetry.registry,
        )
        self._starved = Counter(
            "antiphon_process_starved",
            "Times that the process did not run for longer than 0.2 s though it was ready to.",
            registry=telemetry.registry,
        )
        self._tasks = Gauge("antiphon_loop_tasks", "Tasks of the event loop now.", registry=telemetry.registry)
        self._blocked = blocked
        self._told_after = told
        self._clocks = clocks
        self._noted = self._looked = clocks.monotonic()
        self._used = clocks.used()
        self._told = False
        self._logged = float("-inf")
        self._thread = 0

    @contextmanager
    def watching(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Watch the loop, which runs in this thread, until the block ends."""
        ended = threading.Event()
        self._thread = threading.get_ident()
        timer: list[asyncio.TimerHandle] = []

        def note() -> None:
            self.note()
            timer[:] = [loop.call_later(LOOK_SECONDS, note)]

        def watch() -> None:
            while not ended.wait(LOOK_SECONDS):
                self.look()

        self._tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
        note()
        thread = threading.Thread(target=watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            timer[0].cancel()
            thread.join()

    def note(self) -> None:
        """The loop runs."""
        now = self._clocks.monotonic()
        if now - self._noted > self._blocked + LOOK_SECONDS:
            self._seconds.observe(now - self._noted)
        self._told = False
        self._noted = now

    def look(self) -> None:
        """See whether it still does."""
        now, used = self._clocks.monotonic(), self._clocks.used()
        late, worked = now - self._looked - LOOK_SECONDS, used - self._used
        self._looked, self._used = now, used
        if late > self._blocked and worked < late / 2:  # this thread did not run either, and no other one did
            self._starved.inc()
            self._noted += late  # the loop is not to blame for it
        stood = now - self._noted
        if stood > self._told_after and not self._told:
            self._told = True
            self._tell(now, stood)

    def _tell(self, now: float, stood: float) -> None:
        if now - self._logged < QUIET_SECONDS:
            return
        self._logged = now
        frame = sys._current_frames().get(self._thread)  # as `faulthandler` does; there is no other way
        stack = traceback.extract_stack(frame)[-FRAMES:] if frame is not None else []
        where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(stack)]
        self._log.warning("event loop blocked", seconds=round(stood, 3), at=where)
