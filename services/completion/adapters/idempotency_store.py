"""Idempotency keys in the store: the collection `antiphon_idempotency`, without vectors."""

from __future__ import annotations

import base64
import uuid
from contextlib import AbstractAsyncContextManager
from typing import Any

from services.completion.idempotency.records import Record, Scope
from services.storage import (
    AllOf,
    Between,
    Collection,
    CollectionSpec,
    Connection,
    Equals,
    HasId,
    Index,
    IndexKind,
    Json,
    Point,
)

_IDS = uuid.UUID("7d5b0f54-1d0c-5d0a-9c43-2b8a4a6f9e10")
"""UUID namespace (RFC 9562 §5.5) of the records' ids."""

SCHEMA = 1


class StoredRecords:
    """See `services.completion.idempotency.ports.Records`."""

    def __init__(
        self, connection: Connection, *, replication_factor: int = 1, write_consistency_factor: int = 1
    ) -> None:
        self._connection = connection
        self._spec = CollectionSpec(
            name="antiphon_idempotency",
            indexes=(
                Index("ns", IndexKind.TENANT),
                Index("owner", IndexKind.KEYWORD),
                Index("ver", IndexKind.INTEGER),
                Index("expires_us", IndexKind.INTEGER),
            ),
            replication_factor=replication_factor,
            write_consistency_factor=write_consistency_factor,
        )

    async def insert(self, record: Record) -> bool:
        """Store it unless the scope has one already."""
        async with self._opened() as collection:
            return await collection.insert_absent(_point(record))

    async def find(self, scope: Scope) -> Record | None:
        """What is stored of this key."""
        async with self._opened() as collection:
            found = await collection.get([record_id(scope)])
        return _record(scope, found[0].payload) if found else None

    async def replace(self, record: Record, *, version: int) -> bool:
        """Store it over the one that has `version`."""
        async with self._opened() as collection:
            return await collection.replace(_point(record), ver=version)

    async def free(self, scope: Scope, owner: str) -> None:
        """Delete it if it is this owner's."""
        async with self._opened() as collection:
            await collection.delete_where(AllOf(HasId([record_id(scope)]), Equals("owner", owner)))

    async def purge(self, now: float) -> None:
        """Delete what has expired."""
        async with self._opened() as collection:
            await collection.delete_where(Between("expires_us", lt=_us(now)))

    def _opened(self) -> AbstractAsyncContextManager[Collection]:
        return self._connection.collection(self._spec)


def record_id(scope: Scope) -> str:
    """Return the id of a key's record. A tenant's name holds no `|`."""
    return str(uuid.uuid5(_IDS, f"{scope.tenant}|{scope.key}"))


def _us(seconds: float) -> int:
    return int(seconds * 1e6)


def _point(record: Record) -> Point:
    payload: dict[str, Json] = {
        "schema": SCHEMA,
        "ns": record.scope.tenant,
        "body": record.body,
        "owner": record.owner,
        "ver": record.version,
        "lease_us": _us(record.lease_until),
        "expires_us": _us(record.expires_at),
    }
    if record.response is not None:
        payload["response"] = base64.b64encode(record.response).decode("ascii")
    return Point(record_id(record.scope), None, payload)


def _record(scope: Scope, payload: dict[str, Any]) -> Record:
    response = payload.get("response")
    return Record(
        scope,
        body=payload["body"],
        owner=payload["owner"],
        version=payload["ver"],
        lease_until=payload["lease_us"] / 1e6,
        expires_at=payload["expires_us"] / 1e6,
        response=None if response is None else base64.b64decode(response),
    )
