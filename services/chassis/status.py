"""The one table from what went wrong to the gRPC status a caller sees.

Every status carries `google.rpc.ErrorInfo` (reason, domain `antiphon`); retryable ones carry `RetryInfo`, wrong fields
`BadRequest`. Whatever is not a domain error is a defect: the caller sees INTERNAL and a reference to the log, no text.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from antiphon.errors.v1 import errors_pb2
from services.chassis import errors

DOMAIN = "antiphon"
MESSAGE_BYTES = 512
"""Of a status message. It travels in a header, percent-encoded, and clients refuse more than 8 KiB of headers."""

CODES: dict[type[errors.AntiphonError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}

DEFAULT_RETRY_SECONDS: dict[grpc.StatusCode, float] = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: 0.5,
    grpc.StatusCode.UNAVAILABLE: 0.5,
}
"""What `RetryInfo` says when the raiser knew nothing better; clients add their own jitter and back-off."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a failed call ends: what the caller sees, and the reference under which a defect is in the log."""

    code: grpc.StatusCode
    reason: str
    status: grpc.Status
    reference: str | None = None


def outcome(error: BaseException) -> Outcome:
    """The end of a call whose body raised `error`."""
    if isinstance(error, errors.AntiphonError) and not isinstance(error, errors.Internal):
        for kind, code in CODES.items():
            if isinstance(error, kind):
                return Outcome(code, error.reason.value, _status(code, error.message, error))
    reference = secrets.token_hex(8)
    defect = errors.Internal("", metadata={"reference": reference})
    message = f"internal error, reference {reference}"
    code = grpc.StatusCode.INTERNAL
    return Outcome(code, defect.reason.value, _status(code, message, defect), reference)


def part_status(error: errors.AntiphonError) -> errors_pb2.Status:
    """The error of one part of a call, as a call of its own would have ended."""
    code = next(code for kind, code in CODES.items() if isinstance(error, kind))
    return errors_pb2.Status.FromString(_message(code, error.message, error).SerializeToString())


def _status(code: grpc.StatusCode, message: str, error: errors.AntiphonError) -> grpc.Status:
    status: grpc.Status = rpc_status.to_status(_message(code, message, error))
    return status


def _message(code: grpc.StatusCode, message: str, error: errors.AntiphonError) -> status_pb2.Status:
    details = [
        _packed(error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=dict(error.metadata)))
    ]
    retry_after = error.retry_after if error.retry_after is not None else DEFAULT_RETRY_SECONDS.get(code)
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(max(round(retry_after * 1000), 0))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    short = _shortened(message)
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_shortened(error.field), description=short, reason=error.reason.value
        )
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    number: int = code.value[0]
    return status_pb2.Status(code=number, message=short, details=details)


def _packed(
    message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo | error_details_pb2.BadRequest,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _shortened(text: str) -> str:
    encoded = text.encode("utf-8", errors="replace")
    return (
        text if len(encoded) <= MESSAGE_BYTES else encoded[: MESSAGE_BYTES - 3].decode("utf-8", errors="ignore") + "…"
    )
