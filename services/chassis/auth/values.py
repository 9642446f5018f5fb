"""Who a call comes from, as the rest of a server sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

TENANT = re.compile(r"[a-z0-9._-]{1,64}")
"""What a tenant may be called; for `fullmatch`."""


class Role(StrEnum):
    """What kind of caller a key belongs to; `services.chassis.auth.table` says what each may call."""

    CLIENT = "client"
    """An application: asks for answers."""
    OPERATOR = "operator"
    """A person or a job that looks after one tenant's cache."""
    SERVICE = "service"
    """The suite itself, which acts for any tenant."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a call is made for: with role `service`, the tenant and key of the caller that it serves."""

    tenant: str
    """Nothing of one tenant is ever seen by another."""
    key_id: str = ""
    """Names the key, in logs and limits; empty without credentials."""
    role: Role | None = None
    """Of the key that the call came with; None where no credentials are configured and everyone may do everything."""


ANYONE = Caller("default")
"""Every caller of a server without credentials."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a credential proves: whose it is, and how much may be done with it per minute (None: no limit)."""

    caller: Caller
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
