"""What the three clients have in common: owning a channel, and raising typed errors."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

import grpc

from antiphon_client._credential import ApiKey, Credential
from antiphon_client.channel import open_channel
from antiphon_client.errors import from_rpc_error

if TYPE_CHECKING:
    from types import TracebackType

    import grpc.aio

R = TypeVar("R")
Self_ = TypeVar("Self_", bound="ChannelOwner")


class ChannelOwner:
    """Opens a channel to a target, or uses one that is given and then does not close it."""

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.aio.Channel | None = None,
        api_key: ApiKey | None = None,
    ) -> None:
        if (target is None) == (channel is None):
            raise ValueError("give either a target or a channel")
        self._credential = Credential(api_key)
        self._owned = channel is None
        self._channel: grpc.aio.Channel = channel if channel is not None else open_channel(target or "")

    async def close(self) -> None:
        """Close the channel if it was opened here; calls in flight are cancelled."""
        if self._owned:
            await self._channel.close()

    async def __aenter__(self: Self_) -> Self_:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


async def unary(call: Awaitable[R]) -> R:
    """Await a unary call; raise `AntiphonError` for a status that is not OK."""
    try:
        return await call
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
