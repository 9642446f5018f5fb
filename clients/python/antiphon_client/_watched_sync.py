"""The channel that follows its certificate files, for callers without an event loop; see `_watched`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from antiphon_client._watched import watch
from antiphon_client.tls import Tls, credentials

if TYPE_CHECKING:
    from antiphon_client.pem_files import Pems

Subscriber = Callable[[grpc.ChannelConnectivity], None]


class _Generation:
    """One channel of gRPC's, and how many calls are under way on it; changed under the owner's lock."""

    __slots__ = ("calls", "channel", "retired")

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.calls = 0
        self.retired = False


class _Method:
    """A method of a stub: each call goes over the channel that is current then."""

    def __init__(self, owner: WatchedSyncChannel, kind: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._owner = owner
        self._kind = kind
        self._arguments = arguments
        self._named = named
        self._bound: tuple[_Generation, Any] | None = None

    def with_call(self, *arguments: Any, **named: Any) -> Any:
        """Wait for the answer; return it with its call."""
        return self._waited("with_call", arguments, named)

    def future(self, *arguments: Any, **named: Any) -> Any:
        """Begin a call; its answer is a future."""
        return self._begun("future", arguments, named)

    def _waited(self, how: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        generation = self._owner.enter()
        try:
            return getattr(self._on(generation), how)(*arguments, **named)
        finally:
            self._owner.leave(generation)

    def _begun(self, how: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        generation = self._owner.enter()
        try:
            call = getattr(self._on(generation), how)(*arguments, **named)
        except BaseException:
            self._owner.leave(generation)
            raise
        if not call.add_callback(lambda: self._owner.leave(generation)):
            self._owner.leave(generation)  # it has ended already
        return call

    def _on(self, generation: _Generation) -> Any:
        bound = self._bound
        if bound is None or bound[0] is not generation:
            bound = generation, getattr(generation.channel, self._kind)(*self._arguments, **self._named)
            self._bound = bound
        return bound[1]


class _UnaryMethod(_Method):
    """One that answers with a message."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._waited("__call__", arguments, named)


class _StreamMethod(_Method):
    """One that answers with a stream."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._begun("__call__", arguments, named)


class WatchedSyncChannel(grpc.Channel):
    """For any number of threads. `TlsFileError` if the files cannot be used at the start."""

    def __init__(self, target: str, tls: Tls, options: Sequence[tuple[str, int | str]]) -> None:
        self._target = target
        self._options = options
        self._watch = watch(tls)
        self._lock = threading.Lock()
        self._pems = self._watch.pems
        self._current = self._open(self._pems)
        self._retired: set[_Generation] = set()
        self._subscribers: list[Subscriber] = []

    def enter(self) -> _Generation:
        """The channel for a call that begins now; each is followed by `leave`."""
        with self._lock:
            pems = self._watch.pems
            if pems is not self._pems:
                self._replace(pems)
            self._current.calls += 1
            return self._current

    def leave(self, generation: _Generation) -> None:
        """A call has ended."""
        with self._lock:
            generation.calls -= 1
            if generation.retired and not generation.calls:
                self._close(generation)

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return _UnaryMethod(self, "unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return _StreamMethod(self, "unary_stream", arguments, named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return _UnaryMethod(self, "stream_unary", arguments, named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return _StreamMethod(self, "stream_stream", arguments, named)

    def subscribe(self, callback: Subscriber, try_to_connect: bool = False) -> None:
        with self._lock:
            self._subscribers.append(callback)
            self._current.channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Subscriber) -> None:
        with self._lock:
            self._subscribers = [each for each in self._subscribers if each is not callback]
            self._current.channel.unsubscribe(callback)

    def close(self) -> None:
        """Close all channels; calls under way are cancelled."""
        self._watch.close()
        with self._lock:
            generations = [self._current, *self._retired]
            self._retired.clear()
        for generation in generations:
            generation.channel.close()

    def __enter__(self) -> WatchedSyncChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, pems: Pems) -> _Generation:
        return _Generation(grpc.secure_channel(self._target, credentials(pems), options=self._options))

    def _replace(self, pems: Pems) -> None:
        old, self._current, self._pems = self._current, self._open(pems), pems
        for callback in self._subscribers:
            old.channel.unsubscribe(callback)
            self._current.channel.subscribe(callback)
        old.retired = True
        self._retired.add(old)
        if not old.calls:
            self._close(old)

    def _close(self, generation: _Generation) -> None:
        if generation in self._retired:  # otherwise it is closed with everything else
            self._retired.discard(generation)
            # In a thread: the last call may end in gRPC's own, for which a closing channel waits.
            threading.Thread(target=generation.channel.close, name="close-channel", daemon=True).start()
