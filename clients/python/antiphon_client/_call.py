"""What the clients have in common: owning a channel, and raising typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

import grpc

from antiphon_client._credential import ApiKey, Credential
from antiphon_client.channel import open_channel, open_sync_channel, wrong_target
from antiphon_client.errors import AntiphonError, CancelledError, from_rpc_error

if TYPE_CHECKING:
    from types import TracebackType

    import grpc.aio

    from antiphon_client.tls import Tls

Q = TypeVar("Q")
R = TypeVar("R")


class AsyncChannelOwner:
    """Opens a channel to a target, or uses one that is given and then does not close it."""

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.aio.Channel | None = None,
        api_key: ApiKey | None = None,
        tls: Tls | None = None,
    ) -> None:
        """`target`: `host:port`, `dns:///host:port` or another target of gRPC. `ValueError` for what is wrong."""
        _check(target, channel, tls)
        self._credential = Credential(api_key)
        self._owned = channel is None
        self._channel: grpc.aio.Channel = channel if channel is not None else open_channel(target or "", tls=tls)

    async def close(self) -> None:
        """Close the channel if it was opened here; calls in flight are cancelled."""
        if self._owned:
            self._credential.close()
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class SyncChannelOwner:
    """Opens a channel to a target, or uses one that is given and then does not close it. For any number of threads."""

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.Channel | None = None,
        api_key: ApiKey | None = None,
        tls: Tls | None = None,
    ) -> None:
        """`target`: `host:port`, `dns:///host:port` or another target of gRPC. `ValueError` for what is wrong."""
        _check(target, channel, tls)
        self._credential = Credential(api_key)
        self._owned = channel is None
        self._channel: grpc.Channel = channel if channel is not None else open_sync_channel(target or "", tls=tls)

    def close(self) -> None:
        """Close the channel if it was opened here; calls in flight are cancelled."""
        if self._owned:
            self._credential.close()
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _check(target: str | None, channel: object | None, tls: Tls | None) -> None:
    if (target is None) == (channel is None):
        raise ValueError("give either a target or a channel")
    if channel is not None and tls is not None:
        raise ValueError("tls goes with a target; a channel that is given has its own")
    if target is not None and (wrong := wrong_target(target)):
        raise ValueError(f"target: {wrong}")


async def unary(call: Awaitable[R]) -> R:
    """Await a unary call; raise `AntiphonError` for a status that is not OK."""
    try:
        return await call
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    except asyncio.CancelledError:
        raise_unless_task_cancelled()
        raise


async def streamed(call: grpc.aio.UnaryStreamCall[Q, R]) -> AsyncIterator[R]:
    """Yield the responses of a streaming call, which ends with the iterator; raise as `unary`."""
    try:
        async for response in call:
            yield response
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    except asyncio.CancelledError:
        raise_unless_task_cancelled()
        raise
    finally:
        call.cancel()


@contextmanager
def raised() -> Iterator[None]:
    """Raise `AntiphonError` for a status that is not OK of a call made in this block."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


def raise_unless_task_cancelled(cause: Exception | None = None) -> None:
    """Raise `cause`, or `CancelledError`, for the `asyncio.CancelledError` of a call that was cancelled by itself.

    gRPC raises the latter for a closed channel too, and it would look as if the task that calls had been cancelled.
    """
    task = asyncio.current_task()
    if task is not None and not task.cancelling():
        raise (cause or closed_here()) from None


def closed_here() -> AntiphonError:
    """The error of a call whose stream or client was closed."""
    return CancelledError("the call was cancelled on this side: its stream or its client was closed")
