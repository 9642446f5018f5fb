"""One rpc to the store: under our own timeout, its failures told as domain errors.

There is no retry here: every write is idempotent by design, so a caller who still has time may repeat it, and only the
caller knows whether it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from services.chassis.errors import AntiphonError, FailedPrecondition, Reason, Unavailable

Request = TypeVar("Request")
Response = TypeVar("Response")

RETRY_AFTER_S = 1.0
"""What callers are told to wait; the channel itself tries to reconnect at least this often (`store._CHANNEL`)."""

_REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_WRONG = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.ALREADY_EXISTS,
}


class Calls:
    """Runs rpcs, each within `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    async def __call__(self, rpc: Callable[..., Awaitable[Response]], request: Request) -> Response:
        """The rpc's answer.

        Raises Unavailable(STORE_UNAVAILABLE) when the store is down, slow, full or overloaded, and
        FailedPrecondition(STORE_MISMATCH) when it answers but refuses: a collection is missing or different, the
        credential is wrong, or the server is too old.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await rpc(request, timeout=self._timeout)
        except TimeoutError as error:
            raise unavailable("the store did not answer in time") from error
        except ResourceExhaustedResponse as error:
            raise unavailable("the store is overloaded", retry_after=float(error.retry_after_s)) from error
        except grpc.aio.AioRpcError as error:
            raise _told(error) from error


def unavailable(message: str, *, retry_after: float = RETRY_AFTER_S) -> Unavailable:
    return Unavailable(message, reason=Reason.STORE_UNAVAILABLE, retry_after=retry_after)


def mismatch(message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason=Reason.STORE_MISMATCH)


def status_of(error: AntiphonError) -> grpc.StatusCode | None:
    """The status with which the store refused, where `error` came from one of its answers."""
    cause = error.__cause__
    return cause.code() if isinstance(cause, grpc.aio.AioRpcError) else None


def _told(error: grpc.aio.AioRpcError) -> AntiphonError:
    # The store's own text stays in the cause: it may quote filters and payloads, which name tenants.
    code = error.code()
    if code is grpc.StatusCode.NOT_FOUND:
        return mismatch("the store does not have the collection")
    if code in _REFUSED:
        return mismatch("the store refuses our credential")
    if code in _WRONG:
        return mismatch(f"the store refuses the request ({code.name})")
    return unavailable(f"the store cannot serve the request ({code.name})")
