"""The limits on the calls of models for one request: the operator's, which a caller may tighten and never loosen."""

from __future__ import annotations

from services.catalogue.values import UpstreamSpec
from services.chassis.value import value

MOST_TRIES = 3
"""Calls of models for one request, fallbacks included. With more, an outage is multiplied by every caller who waits."""


@value
class Timeouts:
    """Seconds of one call: to connect, to its first content, between two pieces, altogether."""

    connect: float
    first_token: float
    idle: float
    total: float


@value
class AttemptPolicy:
    """Seconds; `None`: no limit but that of the upstream's own entry in the catalogue."""

    total: float | None = None
    """For all calls together, the waits between them included."""
    connect: float | None = None
    first_token: float | None = None
    idle: float | None = None
    tries: int = MOST_TRIES
    continues: bool = False
    """An answer that broke off is continued by another model. Of the operator: whether callers may ask for that."""

    def tightened(self, wish: AttemptPolicy) -> AttemptPolicy:
        """Return what holds for a caller who wishes `wish`: the tighter of both in every respect."""
        return AttemptPolicy(
            total=_least(self.total, wish.total),
            connect=_least(self.connect, wish.connect),
            first_token=_least(self.first_token, wish.first_token),
            idle=_least(self.idle, wish.idle),
            tries=min(self.tries, wish.tries),
            continues=self.continues and wish.continues,
        )

    def timeouts(self, spec: UpstreamSpec) -> Timeouts:
        """Return the timeouts of one call of an upstream."""
        return Timeouts(
            connect=_within(spec.connect_timeout, self.connect),
            first_token=_within(spec.first_token_timeout, self.first_token),
            idle=_within(spec.idle_timeout, self.idle),
            total=_within(spec.total_timeout, self.total),
        )


def _least(one: float | None, other: float | None) -> float | None:
    if one is None:
        return other
    return one if other is None else min(one, other)


def _within(own: float, limit: float | None) -> float:
    return own if limit is None else min(own, limit)
