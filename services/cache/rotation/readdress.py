"""Where an entry of one embedder belongs under another: its scope names the embedder, and its id follows from it."""

from __future__ import annotations

from dataclasses import replace

from services.cache.entry import Entry
from services.cache.scope import Address, Addresses


def readdressed(entry: Entry, here: Addresses, there: Addresses) -> tuple[Entry, Address] | None:
    """The entry as it is stored `there`, and its address; None if nobody can tell, in records from before origins."""
    if entry.origin is None:
        return None
    try:
        address = there.at(entry.tenant, entry.namespace, entry.question, here.sealed(entry.scope, entry.origin))
    except ValueError:
        return None
    moved = replace(
        entry,
        id=address.entry_id,
        scope=address.scope,
        key=address.key,
        origin=there.sealed(address.scope, address.origin),
    )
    return moved, address
