"""Ids of decisions, each for the tenant that asked.

An id ends with a digest of its random part and the tenant, so that a report is taken after a restart, from another
replica's decision, days later, but from the decision's own tenant only. The digest needs no key: whoever makes up an id
for its own tenant has an id of its own, under which nobody else's report is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from services.chassis.errors import NotFound, Reason

EXPLICIT_POLICY = "explicit/1"
"""Of a decision that leaves nothing to choose: the caller named the model. Who sees that it fits may decide so."""

RANDOM_BYTES = 16
DIGEST_BYTES = 8


def new_id(tenant: str) -> str:
    """Return a new id for a decision made for `tenant`: 48 hex digits."""
    head = secrets.token_hex(RANDOM_BYTES)
    return head + _digest(head, tenant)


def require_own(tenant: str, decision_id: str) -> None:
    """Raise NotFound(DECISION_NOT_FOUND) unless `decision_id` was made for `tenant`; others' look like none at all."""
    head, digest = decision_id[: 2 * RANDOM_BYTES], decision_id[2 * RANDOM_BYTES :]
    if not hmac.compare_digest(digest.encode(), _digest(head, tenant).encode()):
        raise NotFound("the decision is not known", reason=Reason.DECISION_NOT_FOUND, field="decision_id")


def _digest(head: str, tenant: str) -> str:
    return hashlib.blake2b(f"{head}/{tenant}".encode(), digest_size=DIGEST_BYTES, person=b"decision").hexdigest()
