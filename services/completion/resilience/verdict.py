"""What a failure of one call says about the next: whether this model may do better, and when, or only another one."""

from __future__ import annotations

from enum import StrEnum

from services.catalogue.values import UpstreamSpec
from services.chassis.errors import AntiphonError, Exhausted, FailedPrecondition, Reason
from services.completion.resilience.policy import AttemptPolicy


class Verdict(StrEnum):
    """What to do about a failure before the first content."""

    AGAIN = "again"
    """The server is there and stumbled: the same model may do better at once."""
    ELSEWHERE = "elsewhere"
    """The server is not there, or not in time: another model first, the same one only if there is no other."""
    LATER = "later"
    """The server has too much to do; it may have said until when."""
    BARRED = "barred"
    """The credential or the account is refused, for whatever is asked of this server."""
    LARGER = "larger"
    """The prompt is too long for this model."""
    UNKNOWN = "unknown"
    """The server does not have this model."""
    FATAL = "fatal"
    """The request's own fault: no model would take it."""

    @property
    def unhealthy(self) -> bool:
        """Whether it counts against the model at its breaker: nobody else would have fared better there."""
        return self in {Verdict.AGAIN, Verdict.ELSEWHERE, Verdict.UNKNOWN}


_BY_REASON = {
    Reason.CONTEXT_TOO_LONG: Verdict.LARGER,
    Reason.UPSTREAM_UNAUTHENTICATED: Verdict.BARRED,
    Reason.UPSTREAM_TRUNCATED: Verdict.ELSEWHERE,
    Reason.DEADLINE_EXCEEDED: Verdict.ELSEWHERE,
}

_OVERLOADED = frozenset({"429", "503", "529"})
"""Statuses of a server that has too much to do (RFC 9110, RFC 6585; 529 is Anthropic's)."""


def verdict_on(error: AntiphonError) -> Verdict:
    """Return the verdict on an upstream's failure; the errors are those of `upstreams.protocol`."""
    status, code = error.metadata.get("upstream_status", ""), error.metadata.get("upstream_code", "")
    match error.reason:
        case Reason.UPSTREAM_RATE_LIMITED:
            return Verdict.BARRED if code == "insufficient_quota" else Verdict.LATER
        case Reason.UPSTREAM_UNAVAILABLE if status in _OVERLOADED and error.retry_after is not None:
            return Verdict.LATER
        case Reason.UPSTREAM_UNAVAILABLE:
            return Verdict.AGAIN if status else Verdict.ELSEWHERE
        case Reason.UPSTREAM_MALFORMED:
            # A redirect, or more than we accept: it would do the same again.
            return Verdict.ELSEWHERE if isinstance(error, Exhausted) or status.startswith("3") else Verdict.AGAIN
        case Reason.UPSTREAM_REJECTED if isinstance(error, FailedPrecondition):
            return Verdict.UNKNOWN
    return _BY_REASON.get(error.reason, Verdict.FATAL)


def by_callers_limit(error: AntiphonError, wish: AttemptPolicy, spec: UpstreamSpec, total: float) -> bool:
    """Whether a limit that is tighter than the operator's ended the call: then it says nothing about the server.

    `total`: the seconds that the call was given. Else one caller's impatience would close a model to all others.
    """
    if error.reason is Reason.DEADLINE_EXCEEDED:
        return total < spec.total_timeout
    if "limit_bytes" in error.metadata:
        return True
    limit, own = {
        "connect": (wish.connect, spec.connect_timeout),
        "first_token": (wish.first_token, spec.first_token_timeout),
        "idle": (wish.idle, spec.idle_timeout),
    }.get(error.metadata.get("silent", ""), (None, 0.0))
    return limit is not None and limit < own


def overloads(error: AntiphonError) -> bool:
    """Whether the failure says that the server was given too many calls at once."""
    return verdict_on(error) is Verdict.LATER or error.metadata.get("upstream_status", "") in _OVERLOADED
