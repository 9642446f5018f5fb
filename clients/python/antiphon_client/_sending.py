"""A call that sends a stream and ends with the status the server gave it.

Where the server ends such a call while a request is being written, grpc.aio may put "INTERNAL: Internal error from
Core" in the place of the status that has arrived (https://github.com/grpc/grpc/issues/36066). A refusal loses its
reason then, and a server that went away looks like a defect. The status that was known first is the right one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import grpc
import grpc.aio

from antiphon_client._call import raise_unless_task_cancelled
from antiphon_client.errors import AntiphonError, from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Coroutine

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

_FAILED_WRITE = (grpc.StatusCode.INTERNAL, "Internal error from Core")


class _Requests(Generic[Q]):
    """A caller's requests on their way to gRPC, which keeps to itself what reading them raises."""

    def __init__(self, kind: type[Q]) -> None:
        self._kind = kind
        self.failed: Exception | None = None

    def all(self, requests: Iterable[Q]) -> Iterator[Q]:
        try:
            for request in requests:
                yield self._checked(request)
        except Exception as error:
            self.failed = error
            raise

    async def all_async(self, requests: AsyncIterable[Q]) -> AsyncIterator[Q]:
        try:
            async for request in requests:
                yield self._checked(request)
        except Exception as error:
            self.failed = error
            raise

    def _checked(self, request: Q) -> Q:
        # gRPC leaves out what it cannot write.
        if not isinstance(request, self._kind):
            raise TypeError(f"requests are {self._kind.__name__}, not {type(request).__name__}")
        return request


async def sent(
    requests: AsyncIterable[Q] | Iterable[Q],
    kind: type[Q],
    call: Callable[[AsyncIterator[Q] | Iterator[Q]], grpc.aio.StreamUnaryCall[Q, R]],
) -> R:
    """Make a call that sends a stream; raise as `unary`, and what reading the requests, each a `kind`, raises."""
    reading = _Requests(kind)
    called = call(reading.all_async(requests) if isinstance(requests, AsyncIterable) else reading.all(requests))
    first: list[AntiphonError] = []
    called.add_done_callback(lambda done: first.append(_status(done)))
    try:
        return await called
    except grpc.RpcError as error:
        if reading.failed is not None:
            raise reading.failed from None
        lost = (error.code(), error.details()) == _FAILED_WRITE
        raise (first[0] if lost and first else from_rpc_error(error)) from None
    except asyncio.CancelledError:
        raise_unless_task_cancelled(reading.failed)
        raise


def sent_sync(requests: Iterable[Q], kind: type[Q], call: Callable[[Iterator[Q]], R]) -> R:
    """As `sent`, for threads."""
    reading = _Requests(kind)
    try:
        return call(reading.all(requests))
    except grpc.RpcError as error:
        if reading.failed is not None:
            raise reading.failed from None
        raise from_rpc_error(error) from None


def _status(done: grpc.aio.StreamUnaryCall[Q, R]) -> AntiphonError:
    code, details, trailing = _known(done.code()), _known(done.details()), _known(done.trailing_metadata())
    return from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details))


def _known(value: Coroutine[None, None, T]) -> T:
    """What a call that is done says of itself, at once: a moment later the status may be another."""
    try:
        value.send(None)
    except StopIteration as stopped:
        result: T = stopped.value
        return result
    value.close()
    raise RuntimeError("a call that is done does not know its status")
