"""The router service behind `services.completion.ports.Router`."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import date
from typing import TypeVar

from antiphon.router.v1 import router_pb2
from antiphon_client import AsyncRouterClient
from services.chassis.auth.values import Caller
from services.chassis.errors import Reason, Unavailable
from services.completion.adapters.errors import translated
from services.completion.adapters.serving import served
from services.completion.ports import (
    Candidate,
    Embedding,
    ListedModel,
    ListedPrices,
    Report,
    Routing,
    VerdictReport,
)
from services.completion.proto.durations import write_duration
from services.completion.proto.words import (
    CAPABILITIES,
    CAPABILITY_NUMBERS,
    COMPLEXITIES,
    OBJECTIVE_NUMBERS,
    STATUS_NUMBERS,
)
from services.completion.request import Constraints, Request
from services.llm.writing import write_cost, write_message, write_options, write_tool, write_usage

T = TypeVar("T")

_PREFIXES = {"policy": "routing_policy"}
"""The router's fields by the names that they have in a request of ours."""


class GrpcRouter:
    """Calls one router server, for the callers of the requests."""

    def __init__(self, client: AsyncRouterClient) -> None:
        self._client = client

    async def route(self, request: Request, embedding: Embedding | None, *, timeout: float) -> Routing:
        """Rank the models for a request; `InvalidRequest` or `FailedPrecondition` if none can take it."""
        question = request.question
        asked = router_pb2.RouteRequest(
            messages=[write_message(message) for message in question.messages],
            tools=[write_tool(tool) for tool in question.tools],
            options=write_options(question.options),
            query_embedding=b"" if embedding is None else embedding.vector,
            embedder="" if embedding is None else embedding.embedder,
            constraints=_constraints(request.constraints),
            objective=OBJECTIVE_NUMBERS[request.objective],
            policy=request.routing_policy,
            model=question.model,
        )
        response = await _call(self._client.route(asked, timeout=timeout, metadata=served(request.caller)))
        return Routing(
            candidates=tuple(Candidate(each.model, each.upstream) for each in response.candidates),
            decision_id=response.decision_id,
            complexity=COMPLEXITIES.get(response.complexity),
            reasons=tuple(response.reasons),
            policy_version=response.policy_version,
        )

    async def list_models(self, *, timeout: float) -> Sequence[ListedModel]:
        """List what the router offers."""
        response = await _call(self._client.list_models(router_pb2.ListModelsRequest(), timeout=timeout))
        try:
            return tuple(_listed(model) for model in response.models)
        except ValueError:
            raise Unavailable("the router lists prices of no date", reason=Reason.ROUTER_UNAVAILABLE) from None

    async def record(self, caller: Caller, reports: Sequence[Report], *, timeout: float) -> int:
        """Report how calls ended and what is said of answers, for one caller; return how many were refused."""
        request = router_pb2.BatchRecordOutcomesRequest(reports=map(_report, reports))
        call = self._client.batch_record_outcomes(request, timeout=timeout, metadata=served(caller))
        return sum(result.HasField("error") for result in (await _call(call)).results)


def _report(report: Report) -> router_pb2.RecordOutcomeRequest:
    if isinstance(report, VerdictReport):
        return router_pb2.RecordOutcomeRequest(
            decision_id=report.decision_id,
            kind=router_pb2.OUTCOME_KIND_VERDICT,
            source=report.source,
            model=report.model,
            verdict=router_pb2.VERDICT_GOOD if report.right else router_pb2.VERDICT_BAD,
        )
    first = report.time_to_first_token
    return router_pb2.RecordOutcomeRequest(
        decision_id=report.decision_id,
        kind=router_pb2.OUTCOME_KIND_USAGE,
        source=report.source,
        model=report.model,
        usage=write_usage(report.usage),
        cost=write_cost(report.cost),
        latency=write_duration(report.latency),
        time_to_first_token=None if first is None else write_duration(first),
        status=STATUS_NUMBERS[report.status],
        policy_version=report.policy_version,
    )


async def _call(call: Awaitable[T]) -> T:
    return await translated(call, unavailable=Reason.ROUTER_UNAVAILABLE, prefixes=_PREFIXES)


def _constraints(constraints: Constraints) -> router_pb2.RouteConstraints:
    return router_pb2.RouteConstraints(
        allowed_models=sorted(constraints.allowed),
        denied_models=sorted(constraints.denied),
        max_cost_nano_usd=constraints.max_cost,
        max_latency=None if constraints.max_latency is None else write_duration(constraints.max_latency),
        capabilities=sorted(CAPABILITY_NUMBERS[capability] for capability in constraints.capabilities),
    )


def _listed(model: router_pb2.Model) -> ListedModel:
    prices = model.prices
    return ListedModel(
        name=model.name,
        prices=ListedPrices(
            input=prices.input_nano_usd_per_million,
            output=prices.output_nano_usd_per_million,
            cached_input=prices.cached_input_nano_usd_per_million,
            cache_write=prices.cache_write_nano_usd_per_million,
            per_request=prices.request_nano_usd,
            date=date.fromisoformat(prices.price_date),
            version=prices.price_version,
        ),
        context_tokens=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
        # A capability of a newer router means nothing to us.
        capabilities=frozenset(CAPABILITIES[number] for number in model.capabilities if number in CAPABILITIES),
    )
