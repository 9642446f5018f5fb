"""Outcome reports in the store: the collection `antiphon_outcomes_v1`, without vectors.

The point's id is made of (tenant, decision, kind, source), and no point is ever replaced, so the report that is there
first stays. Payload: the report's fields, plus policy, class and model of the decision where it was still
remembered.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

from services.router.outcomes import Outcome, StoredOutcome
from services.storage.collection import VERSION_KEY
from services.storage.connection import Connection
from services.storage.filters import Between
from services.storage.values import CollectionSpec, Index, IndexKind, Json, Point

RECORDED_AT = "recorded_us"
"""Unix microseconds, below 2⁵³ for the next two centuries."""

SPEC = CollectionSpec(
    "antiphon_outcomes_v1",
    indexes=(
        Index("ns", IndexKind.TENANT),
        Index("decision_id", IndexKind.KEYWORD),
        Index("model", IndexKind.KEYWORD),
        Index(RECORDED_AT, IndexKind.INTEGER),
        Index(VERSION_KEY, IndexKind.INTEGER),
    ),
)

_NAMESPACE = uuid.UUID("6f0e3d1c-5a0b-5c39-9a55-0b8f6f7c1d42")
"""Fixed for ever: ids of stored reports are made with it."""


class QdrantOutcomeStore:
    """See `services.router.outcomes.OutcomeStore`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def save(self, outcomes: Sequence[StoredOutcome]) -> None:
        """Store what is not there yet, durably; raises `Unavailable` or `FailedPrecondition` of the store."""
        async with self._connection.collection(SPEC) as collection:
            await collection.insert([_point(stored) for stored in outcomes])

    async def forget_before(self, recorded_at: float) -> None:
        """Delete reports that are older."""
        async with self._connection.collection(SPEC) as collection:
            await collection.delete_where(Between(RECORDED_AT, lt=int(recorded_at * 1e6)))


def point_id(outcome: Outcome) -> str:
    """Return the id under which a report is stored: the same for a repeated one."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps(outcome.key)))


def _point(stored: StoredOutcome) -> Point:
    outcome, decision = stored.outcome, stored.decision
    payload: dict[str, Json] = {
        VERSION_KEY: 0,
        RECORDED_AT: int(stored.recorded_at * 1e6),
        "ns": outcome.tenant,
        "decision_id": outcome.decision_id,
        "kind": outcome.kind.value,
        "source": outcome.source,
        "model": outcome.model,
        "status": outcome.status.value,
        "verdict": outcome.verdict.value,
        "latency_s": outcome.latency,
        "first_token_s": outcome.first_token,
    }
    if outcome.usage is not None:
        payload["usage"] = {
            "input": outcome.usage.input,
            "cached_input": outcome.usage.cached_input,
            "cache_write_input": outcome.usage.cache_write_input,
            "output": outcome.usage.output,
            "reasoning": outcome.usage.reasoning,
            "estimated": outcome.usage.estimated,
        }
    if outcome.cost is not None:
        payload["cost"] = {"nano_usd": outcome.cost.nano_usd, "price_version": outcome.cost.price_version}
    if decision is not None:
        payload["decision"] = {
            "policy_version": decision.policy_version,
            "complexity": decision.complexity,
            "model": decision.model,
            "confidence": decision.confidence,
        }
    return Point(point_id(outcome), None, payload)
