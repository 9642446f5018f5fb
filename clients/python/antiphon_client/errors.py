"""What a call of Antiphon can raise.

    AntiphonError
    ├── InvalidArgumentError      a field is wrong: see `fields`
    ├── NotFoundError             the object does not exist for this caller
    ├── FailedPreconditionError   the system is not in a state that allows it; retrying does not help
    ├── PermissionDeniedError
    ├── UnauthenticatedError
    ├── ResourceExhaustedError    a limit was reached: see `retry_after`
    ├── UnavailableError          a part is down or slow: see `retry_after`
    ├── DeadlineExceededError
    ├── AbortedError              lost a race for a lease or a version
    ├── CancelledError            the call was cancelled on this side of the connection
    └── InternalError             a defect, or a status that Antiphon does not use

Every class has `code`, `reason` (a name of `antiphon.errors.v1.ErrorReason` without its prefix, or empty if gRPC itself
raised the status), `message`, `fields`, `retry_after` (seconds, or None), `metadata`, and `hint`: what to do next. The
text of an error has reason, message, fields and hint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from antiphon_client._hints import hint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from antiphon.errors.v1 import errors_pb2

DOMAIN = "antiphon"
_DETAILS_KEY = "grpc-status-details-bin"


class AntiphonError(Exception):
    """Base of every error of a call."""

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        fields: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        code: grpc.StatusCode | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.fields: Mapping[str, str] = dict(fields or {})
        self.retry_after = retry_after
        self.metadata: Mapping[str, str] = dict(metadata or {})
        if code is not None:
            self.code = code

    @property
    def hint(self) -> str:
        """What to do next, in one line; empty if nothing can be said."""
        return hint(self.code, self.reason, self.retry_after, self.message)

    def __str__(self) -> str:
        what = f"{self.reason or self.code.name}: {self.message}"
        where = "; ".join(f"{field}: {problem}" for field, problem in self.fields.items() if problem != self.message)
        at = f" [{where or ', '.join(self.fields)}]" if self.fields else ""
        return f"{what}{at} ({self.hint})" if self.hint else f"{what}{at}"


class InvalidArgumentError(AntiphonError):
    """A field of the request is wrong; `fields` maps its path to what is wrong with it."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFoundError(AntiphonError):
    """The object does not exist for this caller."""

    code = grpc.StatusCode.NOT_FOUND


class FailedPreconditionError(AntiphonError):
    """The system is not in a state that allows the call; retrying does not help."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class PermissionDeniedError(AntiphonError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED


class UnauthenticatedError(AntiphonError):
    """The caller did not prove who it is."""

    code = grpc.StatusCode.UNAUTHENTICATED


class ResourceExhaustedError(AntiphonError):
    """A limit was reached; retry after `retry_after` seconds."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class UnavailableError(AntiphonError):
    """A part is down or slow; retry after `retry_after` seconds."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceededError(AntiphonError):
    """The deadline has passed."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class AbortedError(AntiphonError):
    """Lost a race for a lease or a version."""

    code = grpc.StatusCode.ABORTED


class CancelledError(AntiphonError):
    """The call was cancelled on this side of the connection."""

    code = grpc.StatusCode.CANCELLED


class InternalError(AntiphonError):
    """A defect on the server, or a status that Antiphon does not use; `code` has the status."""

    code = grpc.StatusCode.INTERNAL


_BY_CODE: Mapping[grpc.StatusCode, type[AntiphonError]] = {
    kind.code: kind
    for kind in (
        InvalidArgumentError,
        NotFoundError,
        FailedPreconditionError,
        PermissionDeniedError,
        UnauthenticatedError,
        ResourceExhaustedError,
        UnavailableError,
        DeadlineExceededError,
        AbortedError,
        CancelledError,
        InternalError,
    )
}


_BY_NUMBER: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def _details(trailing: Iterable[Any]) -> status_pb2.Status:
    status = status_pb2.Status()
    for key, value in trailing:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status.ParseFromString(value)
    return status


def from_rpc_error(error: grpc.RpcError) -> AntiphonError:
    """Return the typed error for what gRPC raised, from its status and its `google.rpc` details."""
    return _typed(error.code(), error.details() or "", _details(error.trailing_metadata() or ()).details)


def from_status(status: errors_pb2.Status) -> AntiphonError:
    """Return the typed error of one part of a call (`BatchLookupResult.error`), to be raised or looked at."""
    code = _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    return _typed(code, status.message, status.details)


def _typed(code: grpc.StatusCode, message: str, details: Iterable[Any]) -> AntiphonError:
    reason, fields, metadata = "", {}, {}
    retry_after: float | None = None
    for packed in details:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if packed.Unpack(info) and info.domain == DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
        elif packed.Unpack(bad):
            fields = {v.field: v.description for v in bad.field_violations}
        elif packed.Unpack(retry):
            retry_after = retry.retry_delay.ToMilliseconds() / 1e3
    kind = _BY_CODE.get(code, InternalError)
    return kind(
        message or code.name,
        reason=reason,
        fields=fields,
        retry_after=retry_after,
        metadata=metadata,
        code=code,
    )
