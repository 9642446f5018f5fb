"""Audits that were asked for: which hit each is about, until its fresh answer comes or nobody waits for it any more."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from services.cache.entry import Entry

KEPT = 1_000
"""Audits that may be open at once; the oldest are given up first."""

KEEP_SECONDS = 600.0
"""How long an answer may take; completion gives up long before."""


@dataclass(frozen=True, slots=True)
class Audit:
    """A hit that is answered again. `rung`: of the pair of questions, see `learning.ladder`."""

    entry: Entry
    rung: int
    until: float


class Audits:
    """Open audits by id; bounded."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._open: OrderedDict[str, Audit] = OrderedDict()

    def __len__(self) -> int:
        """Count the open ones."""
        return len(self._open)

    def ask(self, entry: Entry, rung: int) -> str:
        """Open an audit of a hit; its id."""
        audit_id = secrets.token_urlsafe(18)
        self._open[audit_id] = Audit(entry, rung, self._monotonic() + KEEP_SECONDS)
        if len(self._open) > KEPT:
            self._open.popitem(last=False)
        return audit_id

    def close(self, tenant: str, audit_id: str) -> Audit | None:
        """End an audit; None if it is not this tenant's, was ended before, or is too old."""
        audit = self._open.get(audit_id)
        if audit is None or audit.entry.tenant != tenant:
            return None
        del self._open[audit_id]
        return audit if self._monotonic() < audit.until else None
