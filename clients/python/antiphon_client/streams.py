"""Streamed answers: their events, only their text or its sentences, or only their end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc

from antiphon.completion.v1 import completion_pb2
from antiphon_client._call import closed_here, raise_unless_task_cancelled
from antiphon_client._repeat import Repeats
from antiphon_client._resume import Delivered, DivergedError
from antiphon_client.errors import (
    AntiphonError,
    DeadlineExceededError,
    InternalError,
    UnavailableError,
    from_rpc_error,
)
from antiphon_client.sentences import SentenceSegmenter

if TYPE_CHECKING:
    import grpc.aio

    AsyncCall = (
        grpc.aio.UnaryStreamCall[completion_pb2.StreamCompleteRequest, completion_pb2.StreamCompleteResponse]
        | grpc.aio.UnaryStreamCall[completion_pb2.ResumeStreamRequest, completion_pb2.ResumeStreamResponse]
    )

Event = completion_pb2.StreamCompleteResponse
Resumed = completion_pb2.ResumeStreamResponse
Finished = completion_pb2.Finished
T = TypeVar("T")

_GONE = "STREAM_NOT_FOUND"


class Call(Protocol):
    """A streaming call of gRPC's synchronous API."""

    def __next__(self) -> Event | Resumed: ...

    def __iter__(self) -> Iterator[Event | Resumed]: ...

    def cancel(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Place:
    """How far a stream that can be resumed was read: to the event with this number."""

    stream_id: str
    sequence: int


Open = Callable[[float, Place | None], T]
"""Makes the call that takes so many seconds at most: from the beginning, or from a place on."""


class _Progress:
    """What both kinds of stream know: what was delivered, whether it is finished, and what a failure leads to."""

    def __init__(self, timeout: float, *, repeatable: bool, place: Place | None) -> None:
        self.repeats = Repeats(timeout)
        self.finished: Finished | None = None
        self.closed = False
        self.place = place
        self._delivered = Delivered() if repeatable else None
        self._broken: AntiphonError | None = None

    def pass_on(self, event: Event) -> Event | None:
        """Return what of the event is new to the caller."""
        if event.HasField("started") and event.started.stream_id:
            self.place = Place(event.started.stream_id, event.sequence)
        elif self.place is not None:
            self.place = Place(self.place.stream_id, event.sequence)
        if self._delivered is not None:
            try:
                new = self._delivered.pass_on(event)
            except DivergedError:
                # Another answer was made: what the caller has is the beginning of one that was never finished.
                raise (self._broken or _unfinished()) from None
        else:
            new = event
        if event.HasField("finished"):
            self.finished = event.finished
        return new

    def pause(self, error: AntiphonError) -> float:
        """Return the seconds after which to call again; raise the error if that is not allowed or there is no time."""
        if self.closed:
            raise error
        if isinstance(error, DeadlineExceededError):
            raise self.repeats.late(error)
        # What the service itself says of the stream it would say again.
        cut_off = isinstance(error, UnavailableError) and not error.reason
        if not (self.place is not None and cut_off):
            self._begin_again(error)
        pause = self.repeats.pause(error if isinstance(error, UnavailableError) else UnavailableError(str(error)))
        if pause is None:
            raise error
        self._broken = error
        return pause

    def _begin_again(self, error: AntiphonError) -> None:
        """Go back to the beginning of the answer, or raise: the error, or what the stream was cut off with."""
        gone = self.place is not None and error.reason == _GONE
        if self._delivered is None or not (gone or isinstance(error, UnavailableError)):
            raise (self._broken or error) if gone else error
        self.place = None
        self._delivered.begin_again()

    def end(self) -> None:
        """Raise if the stream ended well without saying that the answer is complete."""
        if self.finished is None:
            raise closed_here() if self.closed else _unfinished()


def _unfinished() -> AntiphonError:
    return InternalError("the stream ended without `finished`: what had arrived may be incomplete")


class AsyncCompletionStream:
    """The events of one answer, to be iterated over once; made by `AsyncCompletionClient.stream`.

    Iterating raises `AntiphonError`, also in the middle: then what had arrived is incomplete.
    """

    def __init__(
        self, call: Open[AsyncCall], timeout: float, *, repeatable: bool = False, place: Place | None = None
    ) -> None:
        self._open = call
        self._progress = _Progress(timeout, repeatable=repeatable, place=place)
        self._call = call(timeout, place)

    @property
    def finished(self) -> Finished | None:
        """The whole answer and everything about it, as soon as the stream has ended well."""
        return self._progress.finished

    @property
    async def text_stream(self) -> AsyncIterator[str]:
        """Only the pieces of the answer's text; sentences, if the events have no deltas."""
        deltas = False
        async for event in self:
            if event.HasField("delta"):
                deltas = True
                yield event.delta.text
            elif event.HasField("sentence") and not deltas:
                yield event.sentence.text

    @property
    async def sentence_stream(self) -> AsyncIterator[str]:
        """The answer's text as sentences; see `SentenceSegmenter`. An error comes in place of the one it broke off."""
        segmenter = SentenceSegmenter()
        async for text in self.text_stream:
            for sentence in segmenter.feed(text):
                yield sentence
        for sentence in segmenter.flush():
            yield sentence

    async def final(self) -> Finished:
        """Read what is left, and return the whole answer and everything about it."""
        async for _ in self:
            pass
        return _final(self._progress)

    def cancel(self) -> None:
        """End the call, so that the model stops writing; leaving the `async with` block does it."""
        self._progress.closed = True
        self._call.cancel()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while (event := await self._next()) is not None:
            if (new := self._progress.pass_on(event)) is not None:
                return new
        self._progress.end()
        raise StopAsyncIteration

    async def _next(self) -> Event | None:
        while not self._progress.closed:
            try:
                event = await self._call.read()
            except grpc.RpcError as error:
                await asyncio.sleep(self._progress.pause(from_rpc_error(error)))
            except asyncio.CancelledError:
                raise_unless_task_cancelled()
                raise
            else:
                return _event(event)
            if not self._progress.closed:
                self._call = self._open(self._progress.repeats.remaining(), self._progress.place)
        return None


class CompletionStream:
    """The events of one answer, to be iterated over once; made by `CompletionClient.stream`.

    Iterating raises `AntiphonError`, also in the middle: then what had arrived is incomplete.
    """

    def __init__(
        self, call: Open[Call], timeout: float, *, repeatable: bool = False, place: Place | None = None
    ) -> None:
        self._open = call
        self._progress = _Progress(timeout, repeatable=repeatable, place=place)
        self._call = call(timeout, place)

    @property
    def finished(self) -> Finished | None:
        """The whole answer and everything about it, as soon as the stream has ended well."""
        return self._progress.finished

    @property
    def text_stream(self) -> Iterator[str]:
        """Only the pieces of the answer's text; sentences, if the events have no deltas."""
        deltas = False
        for event in self:
            if event.HasField("delta"):
                deltas = True
                yield event.delta.text
            elif event.HasField("sentence") and not deltas:
                yield event.sentence.text

    @property
    def sentence_stream(self) -> Iterator[str]:
        """The answer's text as sentences; see `SentenceSegmenter`. An error comes in place of the one it broke off."""
        segmenter = SentenceSegmenter()
        for text in self.text_stream:
            yield from segmenter.feed(text)
        yield from segmenter.flush()

    def final(self) -> Finished:
        """Read what is left, and return the whole answer and everything about it."""
        for _ in self:
            pass
        return _final(self._progress)

    def cancel(self) -> None:
        """End the call, so that the model stops writing; leaving the `with` block does it. From any thread."""
        self._progress.closed = True
        self._call.cancel()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while (event := self._next()) is not None:
            if (new := self._progress.pass_on(event)) is not None:
                return new
        self._progress.end()
        raise StopIteration

    def _next(self) -> Event | None:
        while not self._progress.closed:
            try:
                return _event(next(self._call, None))
            except grpc.RpcError as error:
                time.sleep(self._progress.pause(from_rpc_error(error)))
            if not self._progress.closed:
                self._call = self._open(self._progress.repeats.remaining(), self._progress.place)
        return None


def _event(message: object) -> Event | None:
    """Return the event of a message; of what tells that there is none any more, nothing."""
    if isinstance(message, Resumed):
        return message.event
    return message if isinstance(message, Event) else None


def _final(progress: _Progress) -> Finished:
    if progress.finished is None:
        raise _unfinished()
    return progress.finished
