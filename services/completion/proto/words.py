"""The contract's enums and the plain words for them."""

from __future__ import annotations

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.router.v1 import router_pb2
from services.catalogue.values import Capability, Tier
from services.completion.ports import CallStatus, FeedbackSource, Outcome
from services.completion.request import CacheMode, Objective
from services.completion.streaming.view import TextEvents

MODES = {
    cache_pb2.CACHE_MODE_UNSPECIFIED: CacheMode.DEFAULT,
    cache_pb2.CACHE_MODE_DEFAULT: CacheMode.DEFAULT,
    cache_pb2.CACHE_MODE_BYPASS: CacheMode.BYPASS,
    cache_pb2.CACHE_MODE_REFRESH: CacheMode.REFRESH,
    cache_pb2.CACHE_MODE_ONLY_IF_CACHED: CacheMode.ONLY_IF_CACHED,
}
MODE_NUMBERS = {mode: number for number, mode in MODES.items()}

TEXT_EVENTS = {
    completion_pb2.TEXT_EVENTS_UNSPECIFIED: TextEvents.DELTAS,
    completion_pb2.TEXT_EVENTS_DELTAS: TextEvents.DELTAS,
    completion_pb2.TEXT_EVENTS_SENTENCES: TextEvents.SENTENCES,
    completion_pb2.TEXT_EVENTS_DELTAS_AND_SENTENCES: TextEvents.DELTAS_AND_SENTENCES,
}

OBJECTIVES = {
    router_pb2.OBJECTIVE_UNSPECIFIED: Objective.COST,
    router_pb2.OBJECTIVE_COST: Objective.COST,
    router_pb2.OBJECTIVE_QUALITY: Objective.QUALITY,
    router_pb2.OBJECTIVE_LATENCY: Objective.LATENCY,
}
OBJECTIVE_NUMBERS = {objective: number for number, objective in OBJECTIVES.items()}

CAPABILITIES = {
    router_pb2.CAPABILITY_TOOLS: Capability.TOOLS,
    router_pb2.CAPABILITY_IMAGES: Capability.IMAGES,
    router_pb2.CAPABILITY_JSON_SCHEMA: Capability.JSON_SCHEMA,
    router_pb2.CAPABILITY_STREAMING: Capability.STREAMING,
    router_pb2.CAPABILITY_REASONING: Capability.REASONING,
}
CAPABILITY_NUMBERS = {capability: number for number, capability in CAPABILITIES.items()}

COMPLEXITIES = {
    router_pb2.COMPLEXITY_SIMPLE: Tier.SIMPLE,
    router_pb2.COMPLEXITY_MODERATE: Tier.MODERATE,
    router_pb2.COMPLEXITY_COMPLEX: Tier.COMPLEX,
}
COMPLEXITY_NUMBERS: dict[Tier | None, router_pb2.Complexity.ValueType] = {
    None: router_pb2.COMPLEXITY_UNSPECIFIED,
    **{tier: number for number, tier in COMPLEXITIES.items()},
}

OUTCOMES = {
    cache_pb2.OUTCOME_EXACT: Outcome.EXACT,
    cache_pb2.OUTCOME_SEMANTIC: Outcome.SEMANTIC,
    cache_pb2.OUTCOME_STALE: Outcome.STALE,
    cache_pb2.OUTCOME_MISS: Outcome.MISS,
    cache_pb2.OUTCOME_BYPASS: Outcome.BYPASS,
}
OUTCOME_NUMBERS = {outcome: number for number, outcome in OUTCOMES.items()}

SOURCES = {
    cache_pb2.FEEDBACK_SOURCE_UNSPECIFIED: FeedbackSource.USER,
    cache_pb2.FEEDBACK_SOURCE_USER: FeedbackSource.USER,
    cache_pb2.FEEDBACK_SOURCE_JUDGE: FeedbackSource.JUDGE,
    cache_pb2.FEEDBACK_SOURCE_AUDIT: FeedbackSource.AUDIT,
    cache_pb2.FEEDBACK_SOURCE_OPERATOR: FeedbackSource.OPERATOR,
}
SOURCE_NUMBERS = {source: number for number, source in SOURCES.items()}

STATUS_NUMBERS = {
    CallStatus.OK: router_pb2.CALL_STATUS_OK,
    CallStatus.UPSTREAM_ERROR: router_pb2.CALL_STATUS_UPSTREAM_ERROR,
    CallStatus.CANCELLED: router_pb2.CALL_STATUS_CANCELLED,
}
