"""A call that sends a stream and ends with the status the server gave it.

Where the server ends such a call while a request is being written, grpc.aio may put "INTERNAL: Internal error from
Core" in the place of the status that has arrived (https://github.com/grpc/grpc/issues/36066). A refusal loses its
reason then, and a server that went away looks like a defect. The status that was known first is the right one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

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


async def sent(call: grpc.aio.StreamUnaryCall[Q, R]) -> R:
    """Await a call that sends a stream; raise as `unary`."""
    first: list[AntiphonError] = []
    call.add_done_callback(lambda done: first.append(_status(done)))
    try:
        return await call
    except grpc.RpcError as error:
        lost = (error.code(), error.details()) == _FAILED_WRITE
        raise (first[0] if lost and first else from_rpc_error(error)) from None
    except asyncio.CancelledError:
        raise_unless_task_cancelled()
        raise


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
