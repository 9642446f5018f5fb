"""The plan of a change of the embedder, in `antiphon_control`, and what it does with whole collections."""

from __future__ import annotations

import uuid
from dataclasses import asdict, replace
from typing import Any

import orjson

from services.cache.adapters.control_store import control_spec
from services.cache.adapters.entry_store import CURRENT_ALIAS, collection_name
from services.cache.rotation.plan import Choice, End, Phase, Plan
from services.chassis.errors import FailedPrecondition, Reason
from services.storage import Connection, Json, Point

_ID = str(uuid.UUID("5d0c3c6e-63ac-5a5e-8f0e-6f1f3c0f5a11"))
"""Of the one record; a UUID as any."""

_KIND = "reembedding"
SCHEMA = 1


class StoredPlans:
    """`Plans` and `Collections` over one connection."""

    def __init__(
        self, connection: Connection, *, replication_factor: int = 1, write_consistency_factor: int = 1
    ) -> None:
        self._connection = connection
        self._spec = control_spec(replication_factor, write_consistency_factor)

    async def load_plan(self) -> Plan | None:
        """See `Plans`. Raises FailedPrecondition for one that another version of this software wrote."""
        async with self._connection.collection(self._spec) as collection:
            found = await collection.get([_ID])
        return _read(found[0].payload) if found else None

    async def save_plan(self, plan: Plan) -> bool:
        """See `Plans`."""
        point = Point(_ID, None, _payload(replace(plan, ver=plan.ver + 1)))
        async with self._connection.collection(self._spec) as collection:
            if plan.ver == 0:
                return await collection.insert_absent(point)
            return await collection.replace(point, ver=plan.ver)

    async def name_current(self, end: End) -> None:
        """See `Collections`."""
        await self._connection.move_alias(CURRENT_ALIAS, collection_name(end.slug, end.dim))

    async def drop(self, end: End) -> None:
        """See `Collections`."""
        await self._connection.drop(collection_name(end.slug, end.dim))


def _payload(plan: Plan) -> dict[str, Json]:
    # `writer` tells this write from another one of the same version.
    fields = asdict(plan)
    # What says nothing new is left out: a replica of an earlier version reads it then.
    for name in ("cancelled", "old", "unembedded"):
        if not fields[name]:
            del fields[name]
    text = orjson.dumps(fields).decode()
    return {"ns": "", "kind": _KIND, "ver": plan.ver, "plan": text, "schema": SCHEMA, "writer": uuid.uuid4().hex}


def _read(payload: dict[str, Any]) -> Plan:
    if payload.get("schema") != SCHEMA:
        raise _foreign()
    try:
        fields = orjson.loads(payload["plan"])
        fields |= {name: _end(fields[name]) for name in ("source", "target")}
        fields["old"] = tuple(map(_end, fields.get("old", ())))
        return Plan(**{**fields, "phase": Phase(fields["phase"]), "ver": payload["ver"]})
    except (KeyError, TypeError, ValueError):
        raise _foreign() from None


def _end(fields: dict[str, Any]) -> End:
    return End(**{**fields, "choice": Choice(**fields["choice"])})


def _foreign() -> FailedPrecondition:
    return FailedPrecondition("another version of this software changes the embedder", reason=Reason.STORE_MISMATCH)
