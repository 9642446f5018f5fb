"""Domain errors of the suite, free of gRPC; `services.chassis.status` maps each to its status code.

    AntiphonError
    ├── InvalidRequest        INVALID_ARGUMENT     a field is wrong; names the field
    ├── NotFound              NOT_FOUND            the object does not exist for this caller
    ├── FailedPrecondition    FAILED_PRECONDITION  the system is not in a state that allows it; retrying does not help
    ├── PermissionDenied      PERMISSION_DENIED
    ├── Unauthenticated       UNAUTHENTICATED
    ├── Exhausted             RESOURCE_EXHAUSTED   a limit was reached; retry later
    ├── Unavailable           UNAVAILABLE          a part is down or slow; retry later
    ├── DeadlineExceeded      DEADLINE_EXCEEDED    the caller's or our own deadline passed
    ├── Aborted               ABORTED              lost a race for a lease or a version
    └── Internal              INTERNAL             a defect of ours; the caller sees a reference id only

Messages are shown to callers: they carry no secret, no prompt, and nothing of another tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Reason(StrEnum):
    """Why a call failed; the names of `antiphon.errors.v1.ErrorReason` without their prefix (a test compares them)."""

    INVALID_FIELD = "INVALID_FIELD"
    MISSING_FIELD = "MISSING_FIELD"
    UNSUPPORTED_FIELD = "UNSUPPORTED_FIELD"
    MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    NO_MODEL_FITS = "NO_MODEL_FITS"
    CONTEXT_TOO_LONG = "CONTEXT_TOO_LONG"
    LEASE_LOST = "LEASE_LOST"
    LEASE_UNKNOWN = "LEASE_UNKNOWN"
    ENTRY_NOT_FOUND = "ENTRY_NOT_FOUND"
    DECISION_NOT_FOUND = "DECISION_NOT_FOUND"
    EMBEDDER_MISMATCH = "EMBEDDER_MISMATCH"
    EMBEDDER_UNAVAILABLE = "EMBEDDER_UNAVAILABLE"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    STORE_MISMATCH = "STORE_MISMATCH"
    CACHE_UNAVAILABLE = "CACHE_UNAVAILABLE"
    ROUTER_UNAVAILABLE = "ROUTER_UNAVAILABLE"
    UPSTREAM_UNAVAILABLE = "UPSTREAM_UNAVAILABLE"
    UPSTREAM_REJECTED = "UPSTREAM_REJECTED"
    UPSTREAM_RATE_LIMITED = "UPSTREAM_RATE_LIMITED"
    UPSTREAM_UNAUTHENTICATED = "UPSTREAM_UNAUTHENTICATED"
    UPSTREAM_TRUNCATED = "UPSTREAM_TRUNCATED"
    UPSTREAM_MALFORMED = "UPSTREAM_MALFORMED"
    CONTENT_FILTERED = "CONTENT_FILTERED"
    NOT_CACHED = "NOT_CACHED"
    OVERLOADED = "OVERLOADED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"
    MISSING_CREDENTIAL = "MISSING_CREDENTIAL"
    INVALID_CREDENTIAL = "INVALID_CREDENTIAL"
    EXPIRED_CREDENTIAL = "EXPIRED_CREDENTIAL"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    TENANT_NOT_ALLOWED = "TENANT_NOT_ALLOWED"
    RATE_LIMITED = "RATE_LIMITED"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    RESPONSE_FULL = "RESPONSE_FULL"
    COMPLETION_NOT_FOUND = "COMPLETION_NOT_FOUND"
    SOURCE_NOT_ALLOWED = "SOURCE_NOT_ALLOWED"
    READER_TOO_SLOW = "READER_TOO_SLOW"
    STREAM_NOT_FOUND = "STREAM_NOT_FOUND"
    REEMBEDDING_PHASE = "REEMBEDDING_PHASE"
    EMBEDDER_UNAUTHENTICATED = "EMBEDDER_UNAUTHENTICATED"
    EMBEDDER_DIMENSION = "EMBEDDER_DIMENSION"


class AntiphonError(Exception):
    """Base of every error that may reach a caller.

    `message` is one sentence for a person; `field` is the request's field path (`messages[0].parts`) when one is at
    fault; `retry_after` is in seconds and becomes `google.rpc.RetryInfo`; `metadata` becomes `ErrorInfo.metadata`.
    """

    default_reason: Reason = Reason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        field: str | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.retry_after = retry_after
        self.metadata: Mapping[str, str] = dict(metadata or {})


class InvalidRequest(AntiphonError):
    """A field of the request is wrong."""

    default_reason = Reason.INVALID_FIELD


class NotFound(AntiphonError):
    """The named object does not exist, or not for this caller."""

    default_reason = Reason.ENTRY_NOT_FOUND


class FailedPrecondition(AntiphonError):
    """The system is not in a state that allows the call; retrying does not help."""


class PermissionDenied(AntiphonError):
    """The caller may not do this."""

    default_reason = Reason.METHOD_NOT_ALLOWED


class Unauthenticated(AntiphonError):
    """The caller did not prove who it is."""

    default_reason = Reason.INVALID_CREDENTIAL


class Exhausted(AntiphonError):
    """A limit was reached; the call may succeed later."""

    default_reason = Reason.OVERLOADED


class Unavailable(AntiphonError):
    """A part that the call needs is down or slow; the call may succeed later."""


class DeadlineExceeded(AntiphonError):
    """The caller's deadline, or the default of the method, has passed."""

    default_reason = Reason.DEADLINE_EXCEEDED


class Aborted(AntiphonError):
    """The caller lost a race for a lease or a version."""

    default_reason = Reason.LEASE_LOST


class Internal(AntiphonError):
    """A defect of ours. The message is logged, never sent: the caller gets a reference id."""
