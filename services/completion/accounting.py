"""What calls of models took: counted, charged to keys, told to the router, whatever became of the call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from services.catalogue.money import price
from services.completion.background import Background
from services.completion.estimating import Estimator
from services.completion.fills import Fill
from services.completion.metrics import Metrics
from services.completion.ports import CallReport, CallStatus, Routing
from services.completion.reporting import Reporting
from services.completion.result import ATTEMPT_OK, Attempt
from services.completion.upstream_call import UpstreamCall
from services.llm.values import Usage

SOURCE = "completion"
"""Of the report about the call that settled a decision; earlier attempts have their number after it."""

Spent = Callable[[str, int], None]
"""Told the id of the key that a model was called for, and the tokens that the call took."""


@dataclass(frozen=True, slots=True)
class Accounting:
    """Settles calls behind their callers' backs."""

    estimator: Estimator
    reporting: Reporting
    background: Background
    metrics: Metrics
    spent: Spent

    async def finished(self, call: UpstreamCall) -> Usage:
        """Return what a call took that ended well, and note it with its cost."""
        usage = call.draft.usage or await self.estimator.usage(call.question, call.draft.written, call.model)
        call.usage, call.cost, call.status = usage, price(usage, call.model), CallStatus.OK
        return usage

    def settle(self, fill: Fill, routing: Routing, call: UpstreamCall, source: str) -> asyncio.Task[None] | None:
        """Count what an ended call took and tell the router; `attempt` is right once the task, if any, is done."""
        if call.status is not CallStatus.CANCELLED:
            self.metrics.attempt(call.model.name, _result(call)).inc()
        if call.usage is None and call.may_be_billed:
            return self.background.spawn(self._estimate(fill, routing, call, source), "report")
        self._note(fill, routing, call, source)
        return None

    async def _estimate(self, fill: Fill, routing: Routing, call: UpstreamCall, source: str) -> None:
        written = call.draft.written
        call.usage = call.draft.usage or await self.estimator.usage(call.question, written, call.model)
        call.cost = price(call.usage, call.model)
        self._note(fill, routing, call, source)

    def _note(self, fill: Fill, routing: Routing, call: UpstreamCall, source: str) -> None:
        self.metrics.cost_of(call.model.name).inc(call.cost.nano_usd)
        if call.usage is not None:
            self.spent(fill.request.caller.key_id, call.usage.input + call.usage.output)
        self.reporting.report(
            CallReport(
                caller=fill.request.caller,
                decision_id=routing.decision_id,
                source=source,
                model=call.model.name,
                usage=call.usage or Usage(),
                cost=call.cost,
                latency=call.ended - call.began,
                time_to_first_token=None if call.first_content is None else call.first_content - call.began,
                status=call.status,
                policy_version=routing.policy_version if routing.foregone else "",
            )
        )


def attempt(call: UpstreamCall) -> Attempt:
    """Return what is told of a call that has been settled."""
    return Attempt(
        call.model.name,
        call.model.upstream,
        _result(call),
        call.ended - call.began,
        call.usage or Usage(),
        call.cost,
        call.offset,
    )


def _result(call: UpstreamCall) -> str:
    if call.status is CallStatus.OK:
        return ATTEMPT_OK
    return "" if call.error is None else call.error.reason.value
