"""Lets calls in: who calls, may they call this, for whom, and how often. Asked once per call, before anything else."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection

from services.chassis.auth.rates import Rates
from services.chassis.auth.table import TABLE, Table
from services.chassis.auth.values import ANYONE, TENANT, Caller, Role
from services.chassis.auth.verifier import Metadata, Verifier
from services.chassis.errors import PermissionDenied, Reason

TENANT_HEADER = "x-antiphon-tenant"
KEY_ID_HEADER = "x-antiphon-key-id"
"""Whom a service acts for: believed from role `service`, refused from anyone else."""

_KEY_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

Admit = Callable[[Metadata], Caller]
"""Lets one call of a certain method in, and says for whom it is made."""


class Access:
    """Who may call what on one server. Without a verifier anyone may call anything: open mode."""

    def __init__(self, table: Table = TABLE, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._verifier: Verifier | None = None
        self._rates = Rates(monotonic)

    def use(self, verifier: Verifier, *, keys: Collection[str]) -> None:
        """Know callers by this verifier from the next call on; `keys` are the ids that it may name."""
        self._verifier = verifier
        self._rates.keep(keys)

    def charge(self, key_id: str, tokens: int) -> None:
        """Count tokens that were bought with a key against what it may buy in a minute."""
        self._rates.charge(key_id, tokens)

    def method(self, name: str, *, metered: bool = False) -> Admit:
        """What lets calls of the method in; `metered`: only while the key has tokens left.

        `TypeError` for a method that is not in the table. The result raises `Unauthenticated`, `PermissionDenied`
        (METHOD_NOT_ALLOWED, TENANT_NOT_ALLOWED) or `Exhausted` (RATE_LIMITED).
        """
        try:
            roles = self._table[name]
        except KeyError:
            raise TypeError(f"{name} is not in the table of who may call what") from None

        def admit(metadata: Metadata) -> Caller:
            if self._verifier is None:
                return _on_behalf(ANYONE, metadata)
            identity = self._verifier.verify(metadata)
            if identity.caller.role not in roles:
                raise PermissionDenied(f"a key with the role {identity.caller.role} may not call this method")
            caller = _on_behalf(identity.caller, metadata)
            self._rates.admit(identity, metered=metered)
            return caller

        return admit


def _on_behalf(caller: Caller, metadata: Metadata) -> Caller:
    """For whom the call is made: the caller itself, or whom a service names."""
    tenant: str | bytes | None = None
    key_id: str | bytes | None = None
    for name, value in metadata:
        if name == TENANT_HEADER:
            tenant = _once(tenant, value)
        elif name == KEY_ID_HEADER:
            key_id = _once(key_id, value)
    if tenant is None and key_id is None:
        return caller
    if caller.role is not Role.SERVICE:
        raise _not_allowed(f"only the suite's own services may send {TENANT_HEADER} and {KEY_ID_HEADER}")
    if tenant is None:
        raise _not_allowed(f"{KEY_ID_HEADER} goes with {TENANT_HEADER}")
    if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
        raise _not_allowed(f"{TENANT_HEADER} is not the name of a tenant")
    if key_id is not None and not (isinstance(key_id, str) and _KEY_ID.fullmatch(key_id)):
        raise _not_allowed(f"{KEY_ID_HEADER} is not the id of a key")
    return Caller(tenant, key_id or "", Role.SERVICE)


def _once(known: str | bytes | None, value: str | bytes) -> str | bytes:
    if known is not None:
        raise _not_allowed(f"{TENANT_HEADER} and {KEY_ID_HEADER} may be sent once")
    return value


def _not_allowed(message: str) -> PermissionDenied:
    return PermissionDenied(message, reason=Reason.TENANT_NOT_ALLOWED)
