"""Channels that follow their certificate files: what every such channel shares, and the one for event loops.

gRPC cannot give other certificates to a channel, so a new channel takes its place: new calls go over it, calls under
way finish on the old one, which is closed with the last of them. Stubs see one channel all the while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio

from antiphon_client.pem_files import PemWatch, TlsFileError
from antiphon_client.tls import Tls, credentials

if TYPE_CHECKING:
    from types import TracebackType

    from antiphon_client.pem_files import Pems

_log = logging.getLogger("antiphon_client")


def watch(tls: Tls) -> PemWatch:
    """Watch the files of `tls`; those that cannot be used are logged and not taken over. `TlsFileError`."""
    return PemWatch(tls.files, refused=_warn)


def _warn(error: TlsFileError) -> None:
    _log.warning("new certificates are not used, the old ones stay: %s", error)


class _Generation:
    """One channel of gRPC's, and how many calls are under way on it."""

    __slots__ = ("calls", "channel", "finished", "retired")

    def __init__(self, channel: grpc.aio.Channel, finished: Callable[[_Generation], None]) -> None:
        self.channel = channel
        self.calls = 0
        self.retired = False
        self.finished = finished

    def left(self, _call: object) -> None:
        self.calls -= 1
        if self.retired and not self.calls:
            self.finished(self)


class _Method:
    """A method of a stub: each call goes over the channel that is current then."""

    def __init__(self, owner: WatchedChannel, kind: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._owner = owner
        self._kind = kind
        self._arguments = arguments
        self._named = named
        self._generation: _Generation | None = None
        self._call: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        generation = self._owner.current()
        if self._call is None or generation is not self._generation:
            self._call = getattr(generation.channel, self._kind)(*self._arguments, **self._named)
            self._generation = generation
        call = self._call(*arguments, **named)
        generation.calls += 1
        call.add_done_callback(generation.left)
        return call


class WatchedChannel(grpc.aio.Channel):
    """For one event loop. `TlsFileError` if the files cannot be used at the start."""

    def __init__(self, target: str, tls: Tls, options: Sequence[tuple[str, int | str]]) -> None:
        self._target = target
        self._options = options
        self._watch = watch(tls)
        self._pems = self._watch.pems
        self._current = self._open(self._pems)
        self._retired: set[_Generation] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def current(self) -> _Generation:
        """The channel for a call that begins now."""
        pems = self._watch.pems
        if pems is not self._pems:
            self._replace(pems)
        return self._current

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self, "unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self, "unary_stream", arguments, named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self, "stream_unary", arguments, named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self, "stream_stream", arguments, named)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.current().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.current().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current().channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Close all channels; calls under way get `grace` seconds."""
        self._watch.close()
        generations = [self._current, *self._retired]
        self._retired.clear()
        await asyncio.gather(*(generation.channel.close(grace) for generation in generations), *self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self, pems: Pems) -> _Generation:
        channel = grpc.aio.secure_channel(self._target, credentials(pems), options=self._options)
        return _Generation(channel, self._close)

    def _replace(self, pems: Pems) -> None:
        old, self._current, self._pems = self._current, self._open(pems), pems
        old.retired = True
        self._retired.add(old)
        if not old.calls:
            self._close(old)

    def _close(self, generation: _Generation) -> None:
        if generation not in self._retired:  # closed with everything else
            return
        self._retired.discard(generation)
        task = asyncio.get_running_loop().create_task(generation.channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
