"""The store as this room needs it. Every call raises Unavailable(STORE_UNAVAILABLE) while it is away."""

from __future__ import annotations

from typing import Protocol

from services.completion.idempotency.records import Record, Scope


class Records(Protocol):
    """Writes are durable when they return, and may be repeated."""

    async def insert(self, record: Record) -> bool:
        """Store it unless the scope has one already; returns whether this one is stored now."""
        ...

    async def find(self, scope: Scope) -> Record | None:
        """What the store has of this key."""
        ...

    async def replace(self, record: Record, *, version: int) -> bool:
        """Store it over the one of the same scope that has `version`; returns whether this one is stored now."""
        ...

    async def free(self, scope: Scope, owner: str) -> None:
        """Delete the record if it is this owner's."""
        ...

    async def purge(self, now: float) -> None:
        """Delete what has expired."""
        ...
