"""`antiphon.router.v1.RouterService`: translates and delegates."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from antiphon.router.v1 import router_pb2
from services.catalogue.decision_ids import require_own
from services.catalogue.tokens import soon_counted
from services.chassis.call import Call
from services.chassis.errors import AntiphonError
from services.chassis.handler import unary
from services.chassis.status import part_status
from services.llm.fields import invalid, missing
from services.router.decisions import DecisionLog
from services.router.metrics import RouterMetrics
from services.router.outcomes import OutcomeLog
from services.router.proto import read_outcome, read_route_request, write_decision, write_model
from services.router.router import Router

DEADLINE = 2.0
"""Seconds for a call whose caller set no deadline."""

MAX_REPORTS = 256
"""In one batch."""


class RouterServicer:
    """One instance per process."""

    def __init__(
        self, router: Router, decisions: DecisionLog, outcomes: OutcomeLog, metrics: RouterMetrics, executor: Executor
    ) -> None:
        self._router = router
        self._decisions = decisions
        self._outcomes = outcomes
        self._metrics = metrics
        self._executor = executor
        models = sorted(router.catalogue.models, key=lambda model: model.name)
        self._models = router_pb2.ListModelsResponse(
            models=[write_model(model) for model in models], catalogue_version=router.catalogue.version
        )

    @unary(deadline=DEADLINE)
    async def Route(self, request: router_pb2.RouteRequest, call: Call) -> router_pb2.RouteResponse:  # noqa: N802
        """Rank the models that can take the request."""
        asked = read_route_request(request, tenant=call.caller.tenant)
        if soon_counted(asked.messages, asked.tools, asked.options):
            decision = self._router.route(asked)
        else:
            decision = await asyncio.get_running_loop().run_in_executor(self._executor, self._router.route, asked)
        self._metrics.decided(self._decisions.add(decision))
        return write_decision(decision)

    @unary(deadline=DEADLINE)
    async def ListModels(  # noqa: N802
        self, _request: router_pb2.ListModelsRequest, _call: Call
    ) -> router_pb2.ListModelsResponse:
        """List the catalogue."""
        return self._models

    @unary(deadline=DEADLINE)
    async def RecordOutcome(  # noqa: N802
        self, request: router_pb2.RecordOutcomeRequest, call: Call
    ) -> router_pb2.RecordOutcomeResponse:
        """Take a report of how a decision turned out."""
        return self._take(request, call)

    @unary(deadline=DEADLINE)
    async def BatchRecordOutcomes(  # noqa: N802
        self, request: router_pb2.BatchRecordOutcomesRequest, call: Call
    ) -> router_pb2.BatchRecordOutcomesResponse:
        """Take many reports."""
        if not request.reports:
            raise missing("reports", "at least one is required")
        if len(request.reports) > MAX_REPORTS:
            raise invalid("reports", f"at most {MAX_REPORTS}")
        response = router_pb2.BatchRecordOutcomesResponse()
        for report in request.reports:
            try:
                response.results.add(response=self._take(report, call))
            except AntiphonError as error:
                response.results.add(error=part_status(error))
        return response

    def _take(self, report: router_pb2.RecordOutcomeRequest, call: Call) -> router_pb2.RecordOutcomeResponse:
        outcome = read_outcome(report, tenant=call.caller.tenant)
        require_own(outcome.tenant, outcome.decision_id)
        if outcome.policy_version and (
            learned := self._decisions.learn(outcome.decision_id, outcome.policy_version, outcome.model)
        ):
            self._metrics.decided(learned)
        return router_pb2.RecordOutcomeResponse(recorded=self._outcomes.record(outcome))
