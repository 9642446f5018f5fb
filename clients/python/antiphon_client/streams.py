"""Streamed answers: their events, only their text or its sentences, or only their end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import grpc

from antiphon.completion.v1 import completion_pb2
from antiphon_client._call import closed_here, raise_unless_task_cancelled
from antiphon_client._repeat import Repeats
from antiphon_client._resume import Delivered, DivergedError
from antiphon_client.errors import AntiphonError, InternalError, UnavailableError, from_rpc_error
from antiphon_client.sentences import SentenceSegmenter

if TYPE_CHECKING:
    import grpc.aio

    AsyncCall = grpc.aio.UnaryStreamCall[completion_pb2.StreamCompleteRequest, completion_pb2.StreamCompleteResponse]

Event = completion_pb2.StreamCompleteResponse
Finished = completion_pb2.Finished


class Call(Protocol):
    """A streaming call of gRPC's synchronous API."""

    def __next__(self) -> Event: ...

    def __iter__(self) -> Iterator[Event]: ...

    def cancel(self) -> bool: ...


class _Progress:
    """What both kinds of stream know: what was delivered, whether it is finished, and what a failure leads to."""

    def __init__(self, timeout: float, *, repeatable: bool) -> None:
        self.repeats = Repeats(timeout)
        self.finished: Finished | None = None
        self.closed = False
        self._delivered = Delivered() if repeatable else None
        self._broken: AntiphonError | None = None

    def pass_on(self, event: Event) -> Event | None:
        """Return what of the event is new to the caller."""
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
        if self.closed or self._delivered is None or not isinstance(error, UnavailableError):
            raise error
        pause = self.repeats.pause(error)
        if pause is None:
            raise error
        self._broken = error
        self._delivered.begin_again()
        return pause

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

    def __init__(self, call: Callable[[float], AsyncCall], timeout: float, *, repeatable: bool) -> None:
        self._open = call
        self._progress = _Progress(timeout, repeatable=repeatable)
        self._call = call(timeout)

    @property
    def finished(self) -> Finished | None:
        """The whole answer and everything about it, as soon as the stream has ended well."""
        return self._progress.finished

    @property
    async def text_stream(self) -> AsyncIterator[str]:
        """Only the pieces of the answer's text."""
        async for event in self:
            if event.HasField("delta"):
                yield event.delta.text

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
                return event if isinstance(event, Event) else None
            if not self._progress.closed:
                self._call = self._open(self._progress.repeats.remaining())
        return None


class CompletionStream:
    """The events of one answer, to be iterated over once; made by `CompletionClient.stream`.

    Iterating raises `AntiphonError`, also in the middle: then what had arrived is incomplete.
    """

    def __init__(self, call: Callable[[float], Call], timeout: float, *, repeatable: bool) -> None:
        self._open = call
        self._progress = _Progress(timeout, repeatable=repeatable)
        self._call = call(timeout)

    @property
    def finished(self) -> Finished | None:
        """The whole answer and everything about it, as soon as the stream has ended well."""
        return self._progress.finished

    @property
    def text_stream(self) -> Iterator[str]:
        """Only the pieces of the answer's text."""
        for event in self:
            if event.HasField("delta"):
                yield event.delta.text

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
                return next(self._call, None)
            except grpc.RpcError as error:
                time.sleep(self._progress.pause(from_rpc_error(error)))
            if not self._progress.closed:
                self._call = self._open(self._progress.repeats.remaining())
        return None


def _final(progress: _Progress) -> Finished:
    if progress.finished is None:
        raise _unfinished()
    return progress.finished
