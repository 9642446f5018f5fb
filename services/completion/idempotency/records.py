"""What is kept of an idempotency key, and what follows from it. Times are Unix seconds; durations are seconds.

    (nothing) ──claim──▶ in the making ──finished──▶ done ──expires──▶ (nothing)
                          │  ▲                          for `keep` seconds
                  lease out│  │renewed by its owner
                          ▼  │
                         taken over by another

Processes compare each other's leases with their own clocks: these must agree within a good part of a lease.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class Scope:
    """A key belongs to a tenant: two tenants may use the same."""

    tenant: str
    key: str


@dataclass(frozen=True, slots=True)
class Terms:
    """`lease`: for how long a claim holds unless it is renewed; `keep`: for how long a key is remembered."""

    lease: float
    keep: float


@dataclass(frozen=True, slots=True)
class Record:
    """A key as the store has it. Every write raises `version`, and names the one that it replaces."""

    scope: Scope
    body: str
    """A digest of the request: all that the caller sent but the key itself and the request's id."""
    owner: str
    """Who makes the answer: a name that is made anew for every claim."""
    version: int
    lease_until: float
    expires_at: float
    response: bytes | None = None
    """The whole answer; None while it is made."""


class Verdict(Enum):
    """What a caller finds at its key."""

    ANSWERED = auto()
    """The answer is there."""
    REUSED = auto()
    """The key stands for another request."""
    BUSY = auto()
    """Somebody makes the answer."""
    ABANDONED = auto()
    """Nobody makes it any more, or nobody remembers: whoever comes may take over."""


def judge(record: Record, body: str, now: float) -> Verdict:
    """Say what a request with this `body` may make of what is stored."""
    if record.expires_at <= now:
        return Verdict.ABANDONED
    if record.body != body:
        return Verdict.REUSED
    if record.response is not None:
        return Verdict.ANSWERED
    return Verdict.BUSY if now < record.lease_until else Verdict.ABANDONED


def claimed(scope: Scope, body: str, owner: str, now: float, terms: Terms) -> Record:
    """Return a first claim.

    Its version is the time in microseconds, so that nobody who still looks at an older record of this key, deleted
    since, can mistake this one for it.
    """
    return Record(scope, body, owner, int(now * 1e6), now + terms.lease, now + terms.keep)


def taken_over(record: Record, body: str, owner: str, now: float, terms: Terms) -> Record:
    """Return the claim that replaces an abandoned one."""
    return Record(record.scope, body, owner, record.version + 1, now + terms.lease, now + terms.keep)


def renewed(record: Record, now: float, terms: Terms) -> Record:
    """Return the same claim for a whole lease from now."""
    return replace(record, version=record.version + 1, lease_until=now + terms.lease, expires_at=now + terms.keep)


def finished(record: Record, response: bytes, now: float, terms: Terms) -> Record:
    """Return the claim with its answer."""
    return replace(record, version=record.version + 1, lease_until=now, expires_at=now + terms.keep, response=response)
