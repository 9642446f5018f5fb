"""Reports are taken once, never wait, and reach the store in batches as long as it is not away for too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.chassis.errors import AntiphonError, Unavailable
from services.llm.values import Cost, Usage
from services.router.decisions import DecisionLog, DecisionSummary
from services.router.outcomes import (
    CallStatus,
    Outcome,
    OutcomeKind,
    OutcomeLog,
    OutcomeWriter,
    StoredOutcome,
    WriterLimits,
)


class Memory:
    """A store that can be away, and tells when it was written to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.away = False
        self.attempts = 0
        self.changed = asyncio.Condition()
        self.forgotten: list[float] = []
        self.hold: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def save(self, outcomes: Sequence[StoredOutcome]) -> None:
        self.entered.set()
        if self.hold is not None:
            await self.hold.wait()
        async with self.changed:
            self.attempts += 1
            self.changed.notify_all()
            if self.away:
                raise Unavailable("away")
            self.batches.append([stored.outcome.decision_id for stored in outcomes])

    async def forget_before(self, recorded_at: float) -> None:
        self.forgotten.append(recorded_at)

    @property
    def saved(self) -> list[str]:
        return [name for batch in self.batches for name in batch]

    async def until(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.saved) >= count)

    async def until_attempts(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.attempts >= count)


class Counts:
    def __init__(self) -> None:
        self.taken: list[Outcome] = []
        self.dropped_count = 0
        self.failures = 0
        self.waiting = 0

    def recorded(self, outcome: Outcome) -> None:
        self.taken.append(outcome)

    def stored(self, count: int) -> None:
        assert count > 0

    def dropped(self, count: int) -> None:
        self.dropped_count += count

    def store_failed(self, error: AntiphonError) -> None:
        self.failures += 1

    def queued(self, count: int) -> None:
        self.waiting = count


def report(decision: str, source: str = "completion", kind: OutcomeKind = OutcomeKind.USAGE) -> Outcome:
    return Outcome(decision, kind, source, "m", Usage(1, output=2), Cost(3), 1.0, 0.1, CallStatus.OK)


class Parts:
    def __init__(self, *, queue: int = 100, batch: int = 10, remembered: int = 100, decisions: int = 10) -> None:
        self.store, self.counts = Memory(), Counts()
        self.decisions = DecisionLog(decisions)
        limits = WriterLimits(queue=queue, batch=batch, delay=0.001, first_retry=0.001, last_retry=0.002)
        self.writer = OutcomeWriter(
            self.store, self.counts, limits, now=lambda: 1e9, monotonic=lambda: 0.0, jitter=lambda: 0.0
        )
        self.log = OutcomeLog(self.decisions, self.writer, self.counts, remembered=remembered, now=lambda: 1e9)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.writer.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_repeated_report_changes_nothing() -> None:
    parts = Parts()
    assert parts.log.record(report("d"))
    assert not parts.log.record(report("d"))
    assert parts.log.record(report("d", source="client"))
    assert parts.log.record(report("d", kind=OutcomeKind.VERDICT))
    assert len(parts.counts.taken) == 3
    assert parts.counts.waiting == 3


async def test_the_memory_of_reports_is_bounded() -> None:
    parts = Parts(remembered=2)
    for name in "abc":
        assert parts.log.record(report(name))
    assert not parts.log.record(report("c"))
    assert parts.log.record(report("a"))


async def test_reports_are_written_in_order_and_in_batches() -> None:
    parts = Parts(batch=4)
    expected = [str(i) for i in range(10)]
    for name in expected:
        parts.log.record(report(name))
    async with parts.writing():
        await parts.store.until(10)
    assert parts.store.saved == expected
    assert max(map(len, parts.store.batches)) <= 4
    assert len(parts.store.forgotten) == 1


async def test_an_absent_store_is_waited_for() -> None:
    parts = Parts()
    parts.store.away = True
    async with parts.writing():
        parts.log.record(report("a"))
        await parts.store.until_attempts(3)
        parts.log.record(report("b"))
        parts.store.away = False
        await parts.store.until(2)
    assert parts.store.saved == ["a", "b"]
    assert parts.counts.failures >= 2
    assert parts.counts.dropped_count == 0


async def test_beyond_the_bound_the_oldest_are_dropped_and_counted() -> None:
    parts = Parts(queue=3)
    for name in "abcde":
        assert parts.log.record(report(name))
    assert parts.counts.dropped_count == 2
    async with parts.writing():
        await parts.store.until(3)
    assert parts.store.saved == ["c", "d", "e"]


async def test_reports_that_come_during_a_failed_write_keep_the_bound() -> None:
    parts = Parts(queue=3, batch=3)
    parts.store.hold, parts.store.away = asyncio.Event(), True
    for name in "abc":
        parts.log.record(report(name))
    async with parts.writing():
        await parts.store.entered.wait()
        parts.log.record(report("d"))
        parts.store.hold.set()
        await parts.store.until_attempts(1)
        parts.store.away = False
        await parts.store.until(3)
    assert parts.store.saved == ["b", "c", "d"]
    assert parts.counts.dropped_count == 1


async def test_at_the_end_what_is_queued_is_written() -> None:
    parts = Parts(batch=2)
    parts.store.hold = asyncio.Event()
    for name in "abc":
        parts.log.record(report(name))
    async with parts.writing():
        await parts.store.entered.wait()
    parts.store.hold = None
    await parts.writer.drain(5)
    assert parts.store.saved == ["a", "b", "c"]


async def test_at_the_end_an_absent_or_stuck_store_holds_nothing_up() -> None:
    away = Parts()
    away.store.away = True
    away.log.record(report("a"))
    await away.writer.drain(5)
    assert (away.counts.dropped_count, away.counts.failures) == (1, 1)
    stuck = Parts()
    stuck.store.hold = asyncio.Event()
    stuck.log.record(report("a"))
    await stuck.writer.drain(0.01)
    assert stuck.counts.dropped_count == 1


async def test_a_report_is_joined_with_its_decision_while_that_is_remembered() -> None:
    parts = Parts(decisions=1)
    summary = DecisionSummary("static/1", "simple", "m", 0.5)
    parts.decisions._decisions["d"] = summary
    parts.log.record(report("d"))
    parts.log.record(report("other"))
    assert [stored.decision for stored in parts.writer._queue] == [summary, None]
