"""What a call of another service raised, as our own errors."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TypeVar

import grpc

from antiphon_client.errors import AntiphonError as ClientError
from services.chassis import errors

T = TypeVar("T")

_KINDS: Mapping[grpc.StatusCode, type[errors.AntiphonError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.ABORTED: errors.Aborted,
}


async def translated(call: Awaitable[T], *, unavailable: errors.Reason, prefixes: Mapping[str, str]) -> T:
    """Await a client's call. `unavailable` is the reason if the service gave none; `prefixes` rename its fields."""
    try:
        return await call
    except ClientError as error:
        raise from_client(error, unavailable=unavailable, prefixes=prefixes) from None


def from_client(error: ClientError, *, unavailable: errors.Reason, prefixes: Mapping[str, str]) -> errors.AntiphonError:
    """Return our error for a client's; a status that the suite does not use means that the service is not well."""
    kind = _KINDS.get(error.code, errors.Unavailable)
    reason = errors.Reason(error.reason) if error.reason in errors.Reason.__members__ else None
    if reason is None and kind is errors.Unavailable:
        reason = unavailable
    field = next(iter(error.fields), None)
    return kind(
        error.message if reason is not unavailable else "the service does not answer",
        reason=reason,
        field=None if field is None else _renamed(field, prefixes),
        retry_after=error.retry_after,
        metadata=error.metadata,
    )


def _renamed(field: str, prefixes: Mapping[str, str]) -> str:
    for theirs, ours in prefixes.items():
        if field.startswith(theirs):
            return ours + field.removeprefix(theirs)
    return field
