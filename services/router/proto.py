"""Between `antiphon.router.v1` and the plain values; validates what a caller sends and names the wrong field."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from antiphon.router.v1 import router_pb2
from services.catalogue.decision_ids import EXPLICIT_POLICY
from services.catalogue.values import Capability, Model, Tier
from services.llm.fields import invalid, missing, refuse_unsupported
from services.llm.reading import read_cost, read_messages, read_options, read_tools, read_usage
from services.llm.writing import write_cost
from services.router.outcomes import CallStatus, Outcome, OutcomeKind, Verdict
from services.router.values import Candidate, Constraints, Decision, Objective, RouteRequest

MAX_ID = 64
MAX_NAME = 128
MAX_NAMES = 256
"""Model names in one list of the constraints."""

_OBJECTIVES = {
    router_pb2.OBJECTIVE_UNSPECIFIED: Objective.COST,
    router_pb2.OBJECTIVE_COST: Objective.COST,
    router_pb2.OBJECTIVE_QUALITY: Objective.QUALITY,
    router_pb2.OBJECTIVE_LATENCY: Objective.LATENCY,
}
_CAPABILITIES = {
    router_pb2.CAPABILITY_TOOLS: Capability.TOOLS,
    router_pb2.CAPABILITY_IMAGES: Capability.IMAGES,
    router_pb2.CAPABILITY_JSON_SCHEMA: Capability.JSON_SCHEMA,
    router_pb2.CAPABILITY_STREAMING: Capability.STREAMING,
    router_pb2.CAPABILITY_REASONING: Capability.REASONING,
}
_CAPABILITY_NUMBERS = {capability: number for number, capability in _CAPABILITIES.items()}
_COMPLEXITY_NUMBERS = {
    None: router_pb2.COMPLEXITY_UNSPECIFIED,
    Tier.SIMPLE: router_pb2.COMPLEXITY_SIMPLE,
    Tier.MODERATE: router_pb2.COMPLEXITY_MODERATE,
    Tier.COMPLEX: router_pb2.COMPLEXITY_COMPLEX,
}
_KINDS = {
    router_pb2.OUTCOME_KIND_USAGE: OutcomeKind.USAGE,
    router_pb2.OUTCOME_KIND_VERDICT: OutcomeKind.VERDICT,
}
_VERDICTS = {
    router_pb2.VERDICT_UNSPECIFIED: Verdict.NONE,
    router_pb2.VERDICT_GOOD: Verdict.GOOD,
    router_pb2.VERDICT_BAD: Verdict.BAD,
}
_STATUSES = {
    router_pb2.CALL_STATUS_UNSPECIFIED: CallStatus.UNKNOWN,
    router_pb2.CALL_STATUS_OK: CallStatus.OK,
    router_pb2.CALL_STATUS_UPSTREAM_ERROR: CallStatus.UPSTREAM_ERROR,
    router_pb2.CALL_STATUS_CANCELLED: CallStatus.CANCELLED,
}


def read_route_request(message: router_pb2.RouteRequest, *, tenant: str) -> RouteRequest:
    """Read a request to be routed; `InvalidRequest` names the field that is wrong."""
    refuse_unsupported(message, ("reserve",))
    return RouteRequest(
        messages=read_messages(message.messages),
        tools=read_tools(message.tools),
        options=read_options(message.options),
        constraints=_read_constraints(message.constraints),
        objective=_OBJECTIVES[message.objective],
        policy=message.policy,
        model=message.model,
        tenant=tenant,
    )


def _read_constraints(message: router_pb2.RouteConstraints) -> Constraints:
    for field in ("allowed_models", "denied_models"):
        if len(getattr(message, field)) > MAX_NAMES:
            raise invalid(f"constraints.{field}", f"at most {MAX_NAMES}")
    if message.HasField("max_cost_nano_usd") and message.max_cost_nano_usd <= 0:
        raise invalid("constraints.max_cost_nano_usd", "must be more than 0")
    if message.HasField("max_latency") and _seconds(message.max_latency) <= 0:
        raise invalid("constraints.max_latency", "must be more than 0")
    capabilities = set()
    for i, number in enumerate(message.capabilities):
        if number not in _CAPABILITIES:
            raise invalid(f"constraints.capabilities[{i}]", "must be a capability")
        capabilities.add(_CAPABILITIES[number])
    return Constraints(
        allowed_models=tuple(message.allowed_models),
        denied_models=tuple(message.denied_models),
        max_cost=message.max_cost_nano_usd if message.HasField("max_cost_nano_usd") else None,
        max_latency=_seconds(message.max_latency) if message.HasField("max_latency") else None,
        capabilities=frozenset(capabilities),
    )


def write_decision(decision: Decision) -> router_pb2.RouteResponse:
    """Return the answer of `Route`."""
    tokens = decision.candidates[0].input_tokens
    return router_pb2.RouteResponse(
        candidates=[_write_candidate(candidate) for candidate in decision.candidates],
        decision_id=decision.id,
        complexity=_COMPLEXITY_NUMBERS[decision.complexity],
        reasons=decision.reasons,
        policy_version=decision.policy_version,
        confidence=decision.confidence,
        input_tokens_expected=tokens.expected,
        input_tokens_upper=tokens.upper,
    )


def _write_candidate(candidate: Candidate) -> router_pb2.Candidate:
    return router_pb2.Candidate(
        model=candidate.model.name,
        upstream=candidate.model.upstream,
        p_correct=candidate.p_correct,
        expected_cost=write_cost(candidate.expected_cost),
        expected_latency=_duration(candidate.expected_latency),
    )


def write_model(model: Model) -> router_pb2.Model:
    """Return a model as `ListModels` shows it."""
    prices = model.prices
    return router_pb2.Model(
        name=model.name,
        upstream=model.upstream,
        upstream_model=model.upstream_model,
        prices=router_pb2.Prices(
            input_nano_usd_per_million=prices.input,
            cached_input_nano_usd_per_million=prices.cached_input,
            cache_write_nano_usd_per_million=prices.cache_write,
            output_nano_usd_per_million=prices.output,
            request_nano_usd=prices.per_request,
            price_date=prices.date.isoformat(),
            price_version=prices.version,
        ),
        context_tokens=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
        capabilities=sorted(_CAPABILITY_NUMBERS[capability] for capability in model.capabilities),
        tier=_COMPLEXITY_NUMBERS[model.quality.tier],
    )


def read_outcome(message: router_pb2.RecordOutcomeRequest, *, tenant: str) -> Outcome:
    """Read a report; `InvalidRequest` names the field that is wrong."""
    kind = _KINDS.get(message.kind)
    for name, value, limit, required in (
        ("decision_id", message.decision_id, MAX_ID, True),
        ("source", message.source, MAX_ID, True),
        ("model", message.model, MAX_NAME, kind is OutcomeKind.USAGE),
    ):
        if required and not value:
            raise missing(name, "is required")
        if len(value) > limit:
            raise invalid(name, f"at most {limit} characters")
    if kind is None:
        raise missing("kind", "is required")
    if kind is OutcomeKind.VERDICT and message.verdict == router_pb2.VERDICT_UNSPECIFIED:
        raise missing("verdict", "is required")
    if message.policy_version and (kind is OutcomeKind.VERDICT or message.policy_version != EXPLICIT_POLICY):
        raise invalid("policy_version", f"must be {EXPLICIT_POLICY}, of a report of kind USAGE, or empty")
    return Outcome(
        tenant=tenant,
        decision_id=message.decision_id,
        kind=kind,
        source=message.source,
        model=message.model,
        usage=read_usage(message.usage) if message.HasField("usage") else None,
        cost=read_cost(message.cost) if message.HasField("cost") else None,
        latency=_optional_seconds(message, "latency"),
        first_token=_optional_seconds(message, "time_to_first_token"),
        status=_STATUSES[message.status],
        verdict=_VERDICTS[message.verdict],
        policy_version=message.policy_version,
    )


def _optional_seconds(message: router_pb2.RecordOutcomeRequest, field: str) -> float | None:
    if not message.HasField(field):  # type: ignore[arg-type]
        return None
    seconds = _seconds(getattr(message, field))
    if seconds < 0:
        raise invalid(field, "must not be negative")
    return seconds


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
