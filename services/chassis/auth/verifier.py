"""From a call's metadata to whoever makes it."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from services.chassis.auth.api_key import Digests, key_id_of
from services.chassis.auth.credentials import Credentials, StoredKey
from services.chassis.auth.values import Caller, Identity
from services.chassis.errors import Reason, Unauthenticated

AUTHORIZATION = "authorization"
SCHEME = "bearer"
"""Compared without regard to case (RFC 9110, section 11.1)."""

Metadata = Sequence[tuple[str, str | bytes]]
"""As gRPC gives it: names in lower case, a name as often as it was sent."""


class Verifier(Protocol):
    """Knows callers by what they send. Asked for every call, on the event loop: it neither waits nor reads a file."""

    def verify(self, metadata: Metadata) -> Identity:
        """Return who calls; raises `Unauthenticated`, whose text says nothing of what was sent."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    digest: bytes
    expires_at: float
    revoked: bool
    identity: Identity


class ApiKeys:
    """Verifies `authorization: Bearer <API key>` against one state of the credentials file."""

    def __init__(self, credentials: Credentials, *, now: Callable[[], float] = time.time) -> None:
        """`now` is in Unix seconds: keys expire by the calendar."""
        self._digests = Digests(credentials.hmac_key)
        self._keys = {key.id: _known(key) for key in credentials.keys}
        self._now = now

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def ids(self) -> Collection[str]:
        """Of all keys, revoked ones too."""
        return self._keys.keys()

    def verify(self, metadata: Metadata) -> Identity:
        """As `Verifier` says: MISSING_CREDENTIAL, INVALID_CREDENTIAL or EXPIRED_CREDENTIAL."""
        text = bearer(metadata)
        key_id = key_id_of(text)
        known = self._keys.get(key_id) if key_id is not None else None
        # An id is no secret, so it may take less time to find that there is no such key.
        if known is None or not hmac.compare_digest(known.digest, self._digests.of(text)) or known.revoked:
            raise Unauthenticated("the API key is not one of this server's")
        if known.expires_at <= self._now():
            raise Unauthenticated("the API key has expired", reason=Reason.EXPIRED_CREDENTIAL)
        return known.identity


def bearer(metadata: Metadata) -> str:
    """The one bearer token that a call carries; raises `Unauthenticated`."""
    found: str | bytes | None = None
    for name, value in metadata:
        if name == AUTHORIZATION:
            if found is not None:
                raise Unauthenticated("the call carries more than one credential")
            found = value
    if found is None:
        raise Unauthenticated(
            "the call carries no API key; send it as metadata `authorization: Bearer <API key>`",
            reason=Reason.MISSING_CREDENTIAL,
        )
    if isinstance(found, str):
        scheme, _, token = found.partition(" ")
        if scheme.lower() == SCHEME:
            return token
    raise Unauthenticated("the credential is not of the form `Bearer <API key>`")


def _known(key: StoredKey) -> _Known:
    return _Known(
        digest=key.hmac_sha256,
        expires_at=inf if key.expires_at is None else key.expires_at.timestamp(),
        # However the clocks of two machines differ: revoked is revoked.
        revoked=key.revoked_at is not None,
        identity=Identity(Caller(key.tenant, key.id, key.role), key.requests_per_minute, key.tokens_per_minute),
    )
