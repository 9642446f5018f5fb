"""Whom a call of the cache or the router serves, as metadata that they believe from a service's key alone."""

from __future__ import annotations

from services.chassis.auth.access import KEY_ID_HEADER, TENANT_HEADER
from services.chassis.auth.values import Caller


def served(caller: Caller) -> tuple[tuple[str, str], ...]:
    """Return the metadata that names `caller`; nothing where no credentials are configured: servers refuse it there."""
    if caller.role is None:
        return ()
    return (TENANT_HEADER, caller.tenant), (KEY_ID_HEADER, caller.key_id)
