"""What the cache keeps beside its entries, in the collection `antiphon_control`: epochs, and the key's verifier."""

from __future__ import annotations

import uuid
from typing import Any

from services.cache.ports import Epoch, WrongKey
from services.cache.records import partition
from services.chassis.errors import Reason, Unavailable
from services.storage import Collection, CollectionSpec, Equals, Index, IndexKind, Json, Point, Store

_IDS = uuid.UUID("a4a4a3a2-6f0e-5c53-8a3d-6f3f2f0a7c11")
"""UUID namespace (RFC 9562 §5.5) of the records' ids."""

ATTEMPTS = 8
"""To be the one who raises an epoch; more than a few means that something is wrong."""

_EPOCH = "epoch"
_KEY = "fingerprint_key"


class StoredControl:
    """An `EpochStore`, and the check that this process has the key that the entries were made with."""

    def __init__(self, store: Store, *, replication_factor: int = 1, write_consistency_factor: int = 1) -> None:
        """`open` comes before everything else."""
        self._store = store
        self._spec = CollectionSpec(
            name="antiphon_control",
            indexes=(
                Index("ns", IndexKind.TENANT),
                Index("kind", IndexKind.KEYWORD),
                Index("ver", IndexKind.INTEGER),
            ),
            replication_factor=replication_factor,
            write_consistency_factor=write_consistency_factor,
        )
        self._collection: Collection | None = None

    async def open(self) -> None:
        """Create or check the collection. Raises Unavailable, or FailedPrecondition(STORE_MISMATCH)."""
        self._collection = await self._store.ensure(self._spec)

    async def check_key(self, verifier: str, *, store_is_empty: bool) -> None:
        """Make sure that entries are made with one key only; the first process to come decides which.

        Raises WrongKey if another key's verifier is stored, or none although there are entries.
        """
        record_id = str(uuid.uuid5(_IDS, _KEY))
        found = await self._opened.get([record_id])
        if not found:
            if not store_is_empty:
                raise WrongKey
            await self._opened.insert_absent(
                Point(record_id, None, {"ns": "", "kind": _KEY, "verifier": verifier, "schema": 1})
            )
            found = await self._opened.get([record_id])
        if not found or found[0].payload.get("verifier") != verifier:
            raise WrongKey

    async def load(self) -> list[Epoch]:
        """See `EpochStore`."""
        epochs: list[Epoch] = []
        async for page in self._opened.scroll(Equals("kind", _EPOCH), order_by=None):
            epochs += [_read(record.payload) for record in page]
        return epochs

    async def advance(self, tenant: str, namespace: str, *, beyond: int, now_us: int) -> Epoch:
        """See `EpochStore`."""
        ns = partition(tenant, namespace)
        record_id = str(uuid.uuid5(_IDS, f"{_EPOCH}/{ns}"))
        for _ in range(ATTEMPTS):
            found = await self._opened.get([record_id])
            stored = _read(found[0].payload).number if found else 0
            epoch = Epoch(tenant, namespace, max(stored, beyond) + 1, now_us)
            payload: dict[str, Json] = {
                "ns": ns,
                "kind": _EPOCH,
                "ver": epoch.number,
                "cleared_us": now_us,
                "schema": 1,
                # Two processes that clear at once must not both take the same number for theirs.
                "writer": uuid.uuid4().hex,
            }
            if (await self._opened.upsert_newer([Point(record_id, None, payload)], durable=True))[0]:
                return epoch
        raise Unavailable("too many clears of this namespace at once", reason=Reason.STORE_UNAVAILABLE)

    @property
    def _opened(self) -> Collection:
        if self._collection is None:
            raise Unavailable("the store has not been reached yet", reason=Reason.STORE_UNAVAILABLE)
        return self._collection


def _read(payload: dict[str, Any]) -> Epoch:
    tenant, _, namespace = payload["ns"].rpartition("|")
    return Epoch(tenant, namespace, payload["ver"], payload["cleared_us"])
