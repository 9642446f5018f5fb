"""Streams that outlive their readers: who was cut off comes back and reads on.

A task of its own reads the answer and records what is sent; readers follow the recording. A stream that nobody has read
for `keep` seconds is given up, and with it the answer if it is still being made.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from services.chassis.errors import NotFound, Reason, Unavailable
from services.completion.background import Background
from services.completion.streaming.recording import Recording
from services.completion.streaming.signs import Beat, Called

OVERHEAD = 512
"""Bytes that a message takes beside its own, roughly."""

STREAM_BYTES = 16 * 1024
"""Of a stream beside its messages: tasks, and the request."""

UNREAD = 32
"""Streams of one tenant whose answer is still being made though nobody reads: each holds a call of a model. When there
are more, the one that was left first is given up."""


class Measured(Protocol):
    """A message."""

    def ByteSize(self) -> int:  # noqa: N802 -- protobuf's name
        """Bytes of it."""
        ...


T = TypeVar("T", bound=Measured)

Messages = Callable[[str], AsyncGenerator[T | Called, None]]
"""The messages of a new stream with this id, and `Called` when a model is called for it."""


@dataclass(eq=False, slots=True)
class Stream(Generic[T]):
    """One that can be resumed, by those of its tenant."""

    id: str
    tenant: str
    recording: Recording[T] = field(default_factory=Recording)
    task: asyncio.Task[None] | None = None
    end: asyncio.TimerHandle | None = None

    def give_up(self) -> None:
        """Stop making it."""
        if self.task is not None:
            self.task.cancel()


class Resuming(Generic[T]):
    """The streams of this process that can be resumed. For one event loop."""

    def __init__(self, background: Background, *, keep: float, room: int) -> None:
        """`keep`: seconds without a reader; `room`: bytes of all together."""
        self._background = background
        self.keep = keep
        self._room = room
        self._process = secrets.token_hex(6)
        self._streams: OrderedDict[str, Stream[T]] = OrderedDict()
        """By id; those that were left last stand last."""
        self._used: Counter[str] = Counter()
        """Bytes by tenant."""

    def __len__(self) -> int:
        return len(self._streams)

    def begin(self, tenant: str, messages: Messages[T]) -> Stream[T]:
        """Start a stream."""
        stream: Stream[T] = Stream(f"{self._process}.{secrets.token_hex(16)}", tenant)
        self._streams[stream.id] = stream
        stream.recording.size = STREAM_BYTES
        self._used[tenant] += STREAM_BYTES
        self._make_room()
        stream.task = self._background.spawn(self._record(stream, messages(stream.id)), "resumable stream")
        self._wait(stream)
        return stream

    def find(self, stream_id: str, tenant: str) -> Stream[T]:
        """The stream of a tenant. Raises NotFound(STREAM_NOT_FOUND)."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.tenant != tenant:
            what = "the stream is not known to this process, or not any more"
            raise NotFound(what, reason=Reason.STREAM_NOT_FOUND, field="stream_id")
        return stream

    async def read(self, stream: Stream[T], after: int, heartbeat: float) -> AsyncGenerator[T | Called | Beat, None]:
        """Yield what follows message `after`; a `Beat` whenever `heartbeat` seconds were silent.

        `Called` once, as soon as a model was called. Raises what the stream ended with.
        """
        recording, told = stream.recording, False
        with self._reading(stream):
            while True:
                try:
                    async with asyncio.timeout(heartbeat):
                        await recording.change(after, told=told)
                except TimeoutError:
                    yield Beat()
                    continue
                if recording.called and not told:
                    told = True
                    yield Called()
                for message in recording.after(after):
                    yield message
                    after += 1
                if recording.ended and after == len(recording):
                    recording.check()
                    return

    def close(self) -> None:
        """Give all streams up."""
        for stream in list(self._streams.values()):
            self._forget(stream)
            stream.give_up()

    async def _record(self, stream: Stream[T], messages: AsyncGenerator[T | Called, None]) -> None:
        recording = stream.recording
        try:
            async with aclosing(messages) as source:
                async for message in source:
                    if isinstance(message, Called):
                        recording.calls()
                    else:
                        self._add(stream, message)
        except asyncio.CancelledError:
            recording.fail(Unavailable("the server stops", reason=Reason.SHUTTING_DOWN))
            raise
        except Exception as error:  # noqa: BLE001 -- handed to every reader, which raises it
            recording.fail(error)
        else:
            recording.finish()

    def _add(self, stream: Stream[T], message: T) -> None:
        size = message.ByteSize() + OVERHEAD
        stream.recording.append(message, size)
        if stream.id in self._streams:
            self._used[stream.tenant] += size
            self._make_room()

    @contextmanager
    def _reading(self, stream: Stream[T]) -> Iterator[None]:
        stream.recording.readers += 1
        if stream.end is not None:
            stream.end.cancel()
            stream.end = None
        try:
            yield
        finally:
            stream.recording.readers -= 1
            if not stream.recording.readers:
                self._wait(stream)

    def _wait(self, stream: Stream[T]) -> None:
        """Give it up if nobody comes."""
        if stream.id not in self._streams:  # there was no room for it, and nobody can come
            stream.give_up()
            return
        self._streams.move_to_end(stream.id)
        stream.end = asyncio.get_running_loop().call_later(self.keep, self._drop, stream)
        if not stream.recording.ended:
            unread = [one for one in self._of(stream.tenant) if not (one.recording.ended or one.recording.readers)]
            for one in unread[:-UNREAD]:
                self._drop(one)

    def _make_room(self) -> None:
        """Who has most makes room, first what nobody reads. Who reads what has to go reads on, and cannot come back."""
        while self._used.total() > self._room:
            tenant, _ = self._used.most_common(1)[0]
            theirs = self._of(tenant)
            self._drop(next((one for one in theirs if not one.recording.readers), theirs[0]))

    def _of(self, tenant: str) -> list[Stream[T]]:
        """The streams of a tenant, those that were left first first."""
        return [one for one in self._streams.values() if one.tenant == tenant]

    def _drop(self, stream: Stream[T]) -> None:
        self._forget(stream)
        if not stream.recording.readers:
            stream.give_up()

    def _forget(self, stream: Stream[T]) -> None:
        if self._streams.pop(stream.id, None) is not None:
            self._used[stream.tenant] -= stream.recording.size
            if not self._used[stream.tenant]:
                del self._used[stream.tenant]
        if stream.end is not None:
            stream.end.cancel()
            stream.end = None
