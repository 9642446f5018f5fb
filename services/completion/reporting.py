"""Telling the router how calls of models ended and what is said of their answers, without delaying anybody."""

from __future__ import annotations

from collections.abc import Sequence

from services.completion.metrics import Metrics
from services.completion.outbox import Outbox
from services.completion.ports import Report, Router

CALL_SECONDS = 2.0

WAITING_REPORTS = 10_000
"""A few MiB; while the router is away for longer, later reports tell it more than old ones."""

TOGETHER = 256
"""Reports of one caller in one call, as many as the router takes: a call costs both sides far more than a report."""

GATHER_SECONDS = 0.5
"""In which reports gather for the next call."""

KEEP_SECONDS = 600.0
"""How long a report waits for the router."""


class Reporting:
    """A bounded queue of reports; what it cannot hold is dropped and counted."""

    def __init__(self, router: Router, metrics: Metrics, *, waiting: int = WAITING_REPORTS) -> None:
        self._router = router
        self._metrics = metrics
        self._reports: Outbox[Report] = Outbox(
            self._send,
            capacity=waiting,
            keep=KEEP_SECONDS,
            dropped=self._dropped,
            together=TOGETHER,
            alike=lambda report: report.caller,
            gather=GATHER_SECONDS,
        )

    def __len__(self) -> int:
        """Reports that were not sent yet."""
        return len(self._reports)

    def report(self, report: Report) -> None:
        """Take a report; one without a decision is nobody's concern."""
        if report.decision_id:
            self._reports.put((type(report), report.caller.tenant, report.decision_id, report.source), report)

    async def run(self) -> None:
        """Send until cancelled."""
        await self._reports.run()

    async def drain(self, seconds: float) -> None:
        """Send what is left, but not longer than `seconds`; `run` must be running meanwhile."""
        await self._reports.drain(seconds)

    async def _send(self, reports: Sequence[Report]) -> None:
        refused = await self._router.record(reports[0].caller, reports, timeout=CALL_SECONDS)
        for _ in range(refused):
            self._dropped("refused")

    def _dropped(self, reason: str) -> None:
        self._metrics.reports_dropped.labels(reason).inc()
