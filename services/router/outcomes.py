"""What became of decisions: taken once each, remembered within bounds, stored behind the callers' backs.

A report is known by (tenant, decision, kind, source). The memory of reports tells a repeated one at once. When it has
forgotten, or after a restart, a repeated report is taken as new and counted again, but the store still keeps the first
one alone: its ids are made of the same parts.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from services.chassis.auth.values import ANYONE
from services.chassis.errors import AntiphonError
from services.llm.values import Cost, Usage
from services.router.decisions import DecisionLog, DecisionSummary


class OutcomeKind(StrEnum):
    """What a report is about."""

    USAGE = "usage"
    VERDICT = "verdict"


class CallStatus(StrEnum):
    """How a call ended."""

    UNKNOWN = "unknown"
    OK = "ok"
    UPSTREAM_ERROR = "upstream_error"
    CANCELLED = "cancelled"


class Verdict(StrEnum):
    """A judgement of an answer."""

    NONE = "none"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One report. Seconds, tokens, nano-USD; `None` where the reporter said nothing."""

    decision_id: str
    kind: OutcomeKind
    source: str
    model: str = ""
    usage: Usage | None = None
    cost: Cost | None = None
    latency: float | None = None
    first_token: float | None = None
    status: CallStatus = CallStatus.UNKNOWN
    verdict: Verdict = Verdict.NONE
    tenant: str = ANYONE.tenant
    """Whose decision it is."""
    policy_version: str = ""
    """Of a decision that was made without the router; else empty."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes two reports the same."""
        return self.tenant, self.decision_id, self.kind.value, self.source


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """A report with the time it came (Unix seconds) and the decision, if that was still remembered."""

    outcome: Outcome
    recorded_at: float
    decision: DecisionSummary | None


class OutcomeStore(Protocol):
    """Where reports are kept."""

    async def save(self, outcomes: Sequence[StoredOutcome]) -> None:
        """Store what is not there yet, durably; idempotent. Raises a domain error and may then have stored a part."""

    async def forget_before(self, recorded_at: float) -> None:
        """Delete reports that are older."""


class OutcomeObserver(Protocol):
    """Who counts; see `metrics`."""

    def recorded(self, outcome: Outcome) -> None:
        """A new report was taken."""

    def stored(self, count: int) -> None:
        """So many were written to the store."""

    def dropped(self, count: int) -> None:
        """So many were given up because the store was away for too long."""

    def store_failed(self, error: AntiphonError) -> None:
        """The store could not be written to; it is tried again."""

    def queued(self, count: int) -> None:
        """So many wait to be written."""


class OutcomeLog:
    """Takes reports; bounded memory of the last ones. For one event loop."""

    def __init__(
        self,
        decisions: DecisionLog,
        writer: OutcomeWriter,
        observer: OutcomeObserver,
        *,
        remembered: int,
        now: Callable[[], float],
    ) -> None:
        self._decisions = decisions
        self._writer = writer
        self._observer = observer
        self._remembered = remembered
        self._now = now
        self._keys: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()

    def record(self, outcome: Outcome) -> bool:
        """Take a report; False if it is known already, and then nothing changes. Never waits."""
        if outcome.key in self._keys:
            return False
        self._keys[outcome.key] = None
        while len(self._keys) > self._remembered:
            self._keys.popitem(last=False)
        self._observer.recorded(outcome)
        self._writer.add(StoredOutcome(outcome, self._now(), self._decisions.find(outcome.decision_id)))
        return True


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """How the writer works. Seconds."""

    queue: int = 10_000
    """Reports that may wait; then the oldest are dropped and counted."""
    batch: int = 256
    delay: float = 1.0
    """How long a report may wait for others to be written with."""
    first_retry: float = 0.5
    last_retry: float = 30.0
    retention: float = 30 * 86_400.0
    sweep_every: float = 3_600.0


class OutcomeWriter:
    """Writes reports to the store in batches, in the order they came; survives an absent store within its bound."""

    def __init__(
        self,
        store: OutcomeStore,
        observer: OutcomeObserver,
        limits: WriterLimits,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._observer = observer
        self._limits = limits
        self._now = now
        self._monotonic = monotonic
        self._jitter = jitter
        self._queue: deque[StoredOutcome] = deque()
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._next_sweep = monotonic()

    def add(self, stored: StoredOutcome) -> None:
        """Queue a report; never waits."""
        self._queue.append(stored)
        self._trim()
        self._some.set()
        if len(self._queue) >= self._limits.batch:
            self._enough.set()

    async def run(self) -> None:
        """Write until cancelled; what is queued then stays for `drain`."""
        pause = self._limits.first_retry
        while True:
            await self._some.wait()
            await self._for_more()
            try:
                await self._write_batch()
                await self._sweep()
            except AntiphonError as error:
                self._observer.store_failed(error)
                # Full jitter between half and all of the pause, so that replicas do not come back in step.
                await asyncio.sleep(pause * (1 + self._jitter()) / 2)
                pause = min(pause * 2, self._limits.last_retry)
            else:
                pause = self._limits.first_retry

    async def drain(self, timeout: float) -> None:
        """Write what is queued, for at most `timeout` seconds; what is left is dropped and counted. For the end."""
        try:
            async with asyncio.timeout(timeout):
                while self._queue:
                    await self._write_batch()
        except TimeoutError:
            pass  # counted below, as whatever is left
        except AntiphonError as error:
            self._observer.store_failed(error)
        if self._queue:
            self._observer.dropped(len(self._queue))
            self._queue.clear()

    async def _for_more(self) -> None:
        """Wait until a batch is full or the delay has passed."""
        try:
            async with asyncio.timeout(self._limits.delay):
                await self._enough.wait()
        except TimeoutError:
            return

    async def _write_batch(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._limits.batch))]
        try:
            await self._store.save(batch)
        except BaseException:
            self._queue.extendleft(reversed(batch))
            self._trim()
            raise
        else:
            self._observer.stored(len(batch))
        finally:
            self._observer.queued(len(self._queue))
            if not self._queue:
                self._some.clear()
            if len(self._queue) < self._limits.batch:
                self._enough.clear()

    async def _sweep(self) -> None:
        if self._monotonic() >= self._next_sweep:
            await self._store.forget_before(self._now() - self._limits.retention)
            self._next_sweep = self._monotonic() + self._limits.sweep_every

    def _trim(self) -> None:
        over = len(self._queue) - self._limits.queue
        for _ in range(over):
            self._queue.popleft()
        if over > 0:
            self._observer.dropped(over)
        self._observer.queued(len(self._queue))
