"""What the cache keeps beside its entries, in the collection `antiphon_control`.

Epochs, what was learned, and what tells whether a process has the right key.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson

from services.cache.adapters.records import partition
from services.cache.entry import MICROSECONDS
from services.cache.ports import Epoch, LearnedState, WrongKey
from services.chassis.errors import Reason, Unavailable
from services.storage import (
    AllOf,
    Between,
    Collection,
    CollectionSpec,
    Connection,
    Equals,
    Index,
    IndexKind,
    Json,
    Point,
)

_IDS = uuid.UUID("a4a4a3a2-6f0e-5c53-8a3d-6f3f2f0a7c11")
"""UUID namespace (RFC 9562 §5.5) of the records' ids."""

ATTEMPTS = 8
"""To be the one who raises an epoch; more than a few means that something is wrong."""

_EPOCH = "epoch"
_LEASE = "lease"
_KEY = "fingerprint_key"
_LEARNED = "learned"


def control_spec(replication_factor: int, write_consistency_factor: int) -> CollectionSpec:
    """The collection of all this."""
    return CollectionSpec(
        name="antiphon_control",
        indexes=(
            Index("ns", IndexKind.TENANT),
            Index("kind", IndexKind.KEYWORD),
            Index("ver", IndexKind.INTEGER),
            Index("saved_us", IndexKind.INTEGER),
        ),
        replication_factor=replication_factor,
        write_consistency_factor=write_consistency_factor,
    )


class StoredControl:
    """An `EpochStore`, a `LearningStore`, `Leases`, and the check that this process has the key of the entries."""

    def __init__(
        self,
        connection: Connection,
        *,
        replication_factor: int = 1,
        write_consistency_factor: int = 1,
        now: Callable[[], float] = time.time,
        learned_under: str = "",
    ) -> None:
        """`now`: Unix seconds; `learned_under`: the embedder under which namespaces learned, as others learn anew."""
        self._connection = connection
        self._learned_under = learned_under
        self._now = now
        self._spec = control_spec(replication_factor, write_consistency_factor)

    async def check_key(self, verifier: str, *, store_is_empty: bool) -> None:
        """Make sure that entries are made with one key only; the first process to come decides which.

        Raises WrongKey if another key's verifier is stored, or none although there are entries.
        """
        record_id = str(uuid.uuid5(_IDS, _KEY))
        async with self._opened() as collection:
            found = await collection.get([record_id])
            if not found:
                if not store_is_empty:
                    raise WrongKey
                payload: dict[str, Json] = {"ns": "", "kind": _KEY, "verifier": verifier, "schema": 1}
                await collection.insert_absent(Point(record_id, None, payload))
                found = await collection.get([record_id])
        if not found or found[0].payload.get("verifier") != verifier:
            raise WrongKey

    async def load(self, *, since_us: int | None = None) -> list[Epoch]:
        """See `EpochStore`."""
        epochs: list[Epoch] = []
        wanted = Equals("kind", _EPOCH)
        which = wanted if since_us is None else AllOf(wanted, Between("saved_us", gte=since_us))
        async with self._opened() as collection:
            async for page in collection.scroll(which, order_by=None):
                epochs += [_read(record.payload) for record in page]
        return epochs

    async def advance(self, tenant: str, namespace: str, *, beyond: int, now_us: int, once: bool = False) -> Epoch:
        """See `EpochStore`."""
        ns = partition(tenant, namespace)
        record_id = str(uuid.uuid5(_IDS, f"{_EPOCH}/{ns}"))
        async with self._opened() as collection:
            for _ in range(ATTEMPTS):
                found = await collection.get([record_id])
                stored = _read(found[0].payload) if found else Epoch(tenant, namespace, 0, 0)
                if once and stored.number > beyond and stored.cleared_us >= now_us:
                    return stored
                # Of two clears the later one counts for what came after, whichever is stored first.
                cleared_us = max(stored.cleared_us, now_us)
                epoch = Epoch(tenant, namespace, max(stored.number, beyond) + 1, cleared_us)
                payload: dict[str, Json] = {
                    "ns": ns,
                    "kind": _EPOCH,
                    "ver": epoch.number,
                    "cleared_us": cleared_us,
                    "saved_us": int(self._now() * MICROSECONDS),
                    "schema": 1,
                    # Two processes that clear at once must not both take the same number for theirs.
                    "writer": uuid.uuid4().hex,
                }
                if (await collection.upsert_newer([Point(record_id, None, payload)], durable=True))[0]:
                    return epoch
        raise Unavailable("too many clears of this namespace at once", reason=Reason.STORE_UNAVAILABLE)

    async def hold(self, work: str, *, holder: str, seconds: float, now_us: int) -> bool:
        """See `Leases`."""
        record_id = str(uuid.uuid5(_IDS, f"{_LEASE}/{work}"))
        until_us = now_us + int(seconds * MICROSECONDS)
        payload: dict[str, Json] = {"ns": "", "kind": _LEASE, "holder": holder, "until_us": until_us, "schema": 1}
        async with self._opened() as collection:
            found = await collection.get([record_id])
            if not found:
                return await collection.insert_absent(Point(record_id, None, {**payload, "ver": 1}))
            held: dict[str, Any] = found[0].payload
            # One that ends later than a whole lease from now is from a clock that is wrong.
            if held["holder"] != holder and now_us < held["until_us"] <= until_us:
                return False
            return await collection.replace(
                Point(record_id, None, {**payload, "ver": held["ver"] + 1}), ver=held["ver"]
            )

    async def load_learned(self, tenant: str, namespace: str) -> object:
        """See `LearningStore`."""
        async with self._opened() as collection:
            found = await collection.get([self._learned_id(partition(tenant, namespace))])
        if not found:
            return None
        try:
            state: object = orjson.loads(str(found[0].payload["state"]))
        except (KeyError, TypeError, ValueError):
            return _UNREADABLE
        return state

    async def save_learned(self, states: Sequence[LearnedState]) -> None:
        """See `LearningStore`."""
        points = []
        for one in states:
            ns = partition(one.tenant, one.namespace)
            # As text: filters have no use for what is in it, and a store need not keep the order of members.
            payload: dict[str, Json] = {
                "ns": ns,
                "kind": _LEARNED,
                "state": orjson.dumps(one.state).decode(),
                "schema": 1,
            }
            points.append(Point(self._learned_id(ns), None, payload))
        async with self._opened() as collection:
            await collection.upsert(points, durable=True)

    def _learned_id(self, ns: str) -> str:
        return str(uuid.uuid5(_IDS, "/".join([_LEARNED, *filter(None, [self._learned_under]), ns])))

    def _opened(self) -> AbstractAsyncContextManager[Collection]:
        return self._connection.collection(self._spec)


_UNREADABLE = "unreadable"
"""In the place of a state that is no JSON: whoever reads it refuses it as one of no use, and counts it."""


def _read(payload: dict[str, Any]) -> Epoch:
    tenant, _, namespace = payload["ns"].rpartition("|")
    return Epoch(tenant, namespace, payload["ver"], payload["cleared_us"])
