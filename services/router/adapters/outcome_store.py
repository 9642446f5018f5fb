"""Outcome reports in the store: the collection `antiphon_outcomes_v1`, without vectors.

The point's id is made of (decision, kind, source), and every point has the same version, so the report that is there
first stays. Payload: the report's fields, plus policy, class and model of the decision where it was still remembered.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from services.chassis.errors import AntiphonError
from services.router.outcomes import Outcome, StoredOutcome
from services.storage.collection import VERSION_KEY, Collection
from services.storage.filters import Between
from services.storage.store import Store
from services.storage.values import CollectionSpec, Index, IndexKind, Json, Point

RECORDED_AT = "recorded_us"
"""Unix microseconds, below 2⁵³ for the next two centuries."""

SPEC = CollectionSpec(
    "antiphon_outcomes_v1",
    indexes=(
        Index("decision_id", IndexKind.KEYWORD),
        Index("model", IndexKind.KEYWORD),
        Index(RECORDED_AT, IndexKind.INTEGER),
        Index(VERSION_KEY, IndexKind.INTEGER),
    ),
)

_NAMESPACE = uuid.UUID("6f0e3d1c-5a0b-5c39-9a55-0b8f6f7c1d42")
"""Fixed for ever: ids of stored reports are made with it."""


class QdrantOutcomeStore:
    """Connects when it is first needed, so that a router starts without its store."""

    def __init__(self, connect: Callable[[], Awaitable[Store]]) -> None:
        self._connect = connect
        self._store: Store | None = None
        self._collection: Collection | None = None

    async def save(self, outcomes: Sequence[StoredOutcome]) -> None:
        """Store what is not there yet, durably; raises `Unavailable` or `FailedPrecondition` of the store."""
        async with self._ensured() as collection:
            await collection.upsert_newer([_point(stored) for stored in outcomes], durable=True)

    async def forget_before(self, recorded_at: float) -> None:
        """Delete reports that are older."""
        async with self._ensured() as collection:
            await collection.delete_where(Between(RECORDED_AT, lt=int(recorded_at * 1e6)))

    async def aclose(self) -> None:
        """Close the connection."""
        if self._store is not None:
            await self._store.aclose()
            self._store = self._collection = None

    @asynccontextmanager
    async def _ensured(self) -> AsyncIterator[Collection]:
        """Yield the collection; after an error the next call connects anew, as the store may have moved."""
        try:
            if self._collection is None:
                if self._store is None:
                    self._store = await self._connect()
                self._collection = await self._store.ensure(SPEC)
            yield self._collection
        except AntiphonError:
            await self.aclose()
            raise


def point_id(outcome: Outcome) -> str:
    """Return the id under which a report is stored: the same for a repeated one."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps(outcome.key)))


def _point(stored: StoredOutcome) -> Point:
    outcome, decision = stored.outcome, stored.decision
    payload: dict[str, Json] = {
        VERSION_KEY: 0,
        RECORDED_AT: int(stored.recorded_at * 1e6),
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
