"""`antiphon.completion.v1.CompletionService`: translates and delegates."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol

from antiphon.completion.v1 import completion_pb2
from services.chassis.call import Call
from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError
from services.chassis.handler import server_stream, unary
from services.chassis.random_ids import RandomIds
from services.chassis.value import value
from services.completion.feedback import Feedback
from services.completion.fills import Fills
from services.completion.idempotency.keys import Asked, Kept, Keys
from services.completion.idempotency.records import Scope
from services.completion.proto.durations import read_duration
from services.completion.proto.feedback import read_submitted
from services.completion.proto.requests import Resolve, body_digest, read_key, read_request
from services.completion.proto.responses import write_kept, write_response
from services.completion.proto.stream import StreamWriter, content_of, heartbeat_after
from services.completion.proto.words import TEXT_EVENTS
from services.completion.request import Request
from services.completion.result import Delivered
from services.completion.resuming import Resuming, Stream
from services.completion.settings import LEAST_HEARTBEAT, MOST_HEARTBEAT, MOST_PACE
from services.completion.streaming.replaying import Replaying
from services.completion.streaming.signs import Beat, Called
from services.completion.streaming.view import TextEvents, View
from services.llm.fields import invalid, missing

COMPLETE_DEADLINE = 60.0
STREAM_DEADLINE = 600.0
"""Seconds, if the caller sets no deadline."""

FEEDBACK_DEADLINE = 5.0
"""The same, for a call that waits for no model."""

ID_BYTES = 16
"""Of a completion's id."""

SLOW_SECONDS = 30.0
"""A model takes its time; only a call that took longer than this is remarkable."""


@value
class _Wishes:
    """How a stream is to be sent; `heartbeat` in seconds, `pace` in tokens per second of a replay, 0: at once."""

    heartbeat: float
    shown: TextEvents
    pace: int


@value
class _Ids:
    """Of a completion and of the request for it."""

    completion: str
    request: str


class _Stream(Protocol):
    def __call__(
        self, wishes: _Wishes, deadline: Deadline, stream_id: str = ""
    ) -> AsyncGenerator[completion_pb2.StreamCompleteResponse | Called, None]: ...


class CompletionServicer:
    """One instance per process."""

    def __init__(
        self,
        fills: Fills,
        keys: Keys,
        feedback: Feedback,
        resuming: Resuming[completion_pb2.StreamCompleteResponse],
        resolve: Resolve,
        *,
        replaying: Replaying,
        heartbeat: float,
        pace: int,
    ) -> None:
        """Unless the caller of a stream says otherwise:

        `heartbeat`: seconds of silence between those of a stream; `pace`: tokens per second of a replay, 0: at once.
        """
        self._ids = RandomIds(ID_BYTES)
        self._replaying = replaying
        self._heartbeat = heartbeat
        self._pace = pace
        self._fills = fills
        self._keys = keys
        self._feedback = feedback
        self._resuming = resuming
        self._resolve = resolve

    @unary(deadline=COMPLETE_DEADLINE, slow=SLOW_SECONDS, metered=True)
    async def Complete(  # noqa: N802 -- the name in the contract
        self, request: completion_pb2.CompleteRequest, call: Call
    ) -> completion_pb2.CompleteResponse:
        """Answer in one message."""
        asked = read_request(request, caller=call.caller, resolve=self._resolve)
        if key := read_key(request):
            with self._keys.join(self._with_key(key, request, asked, call), call.deadline, streaming=False) as keyed:
                kept = await keyed.result()
            return write_kept(kept.response, replayed=kept.replayed)
        with (
            self._fills.join(asked, call.deadline, streaming=False) as listener,
            _no_second_purchase(lambda: listener.fill.called, call),
        ):
            delivered = await listener.result(call.commit)
        completion_id = self._ids.next()
        self._feedback.remember(completion_id, asked, delivered.completed)
        return write_response(delivered, completion_id, request.request_id or call.request_id)

    @server_stream(deadline=STREAM_DEADLINE, metered=True)
    async def StreamComplete(  # noqa: N802 -- the name in the contract
        self, request: completion_pb2.StreamCompleteRequest, call: Call
    ) -> AsyncIterator[completion_pb2.StreamCompleteResponse]:
        """Answer piece by piece."""
        if not request.HasField("request"):
            raise missing("request", "is required")
        wishes = self._wishes(request)
        asked = read_request(request.request, caller=call.caller, resolve=self._resolve, path="request.")
        if request.resumable:
            messages = self._messages(request.request, asked, call)
            # What is read by nobody for a while goes on meanwhile.
            until = call.deadline.later(self._resuming.keep)
            lasting = replace(wishes, heartbeat=math.inf)
            stream = self._resuming.begin(call.caller.tenant, partial(messages, lasting, until))
            with _no_second_purchase(lambda: stream.recording.called, call):
                async with aclosing(self._read(stream, 0, wishes.heartbeat, call)) as sent:
                    async for message in sent:
                        yield message
            return
        called = False
        async with aclosing(self._messages(request.request, asked, call)(wishes, call.deadline)) as made:
            with _no_second_purchase(lambda: called, call):
                async for one in made:
                    if isinstance(one, Called):
                        called = True
                        await call.commit()
                    else:
                        yield one

    @server_stream(deadline=STREAM_DEADLINE)
    async def ResumeStream(  # noqa: N802
        self, request: completion_pb2.ResumeStreamRequest, call: Call
    ) -> AsyncIterator[completion_pb2.ResumeStreamResponse]:
        """Go on with a stream."""
        if not request.stream_id:
            raise missing("stream_id", "is required")
        heartbeat = self._heartbeat_of(request)
        stream = self._resuming.find(request.stream_id, call.caller.tenant)
        if not 0 <= request.after_sequence <= len(stream.recording):
            raise invalid("after_sequence", "the stream has not come so far")
        async with aclosing(self._read(stream, request.after_sequence, heartbeat, call)) as sent:
            async for message in sent:
                yield completion_pb2.ResumeStreamResponse(event=message)

    @unary(deadline=FEEDBACK_DEADLINE)
    async def SubmitFeedback(  # noqa: N802
        self, request: completion_pb2.SubmitFeedbackRequest, call: Call
    ) -> completion_pb2.SubmitFeedbackResponse:
        """Take what is said about an answer."""
        recorded = await self._feedback.submit(call.caller, read_submitted(request), within=call.deadline.remaining())
        return completion_pb2.SubmitFeedbackResponse(recorded=recorded)

    def _with_key(self, key: str, request: completion_pb2.CompleteRequest, asked: Request, call: Call) -> Asked:
        completion_id, request_id = self._ids.next(), request.request_id or call.request_id

        def write(delivered: Delivered, degraded: tuple[str, ...]) -> bytes:
            # Here, as whoever repeats the key gets the same completion, also if all who wait now have left.
            self._feedback.remember(completion_id, asked, delivered.completed)
            return write_response(delivered, completion_id, request_id, degraded=degraded).SerializeToString()

        return Asked(Scope(call.caller.tenant, key), body_digest(request), asked, completion_id, write)

    def _messages(self, request: completion_pb2.CompleteRequest, asked: Request, call: Call) -> _Stream:
        """What makes the messages of a stream; it needs the call no more."""
        if key := read_key(request, "request."):
            return partial(self._stream_keyed, self._with_key(key, request, asked, call))
        return partial(self._stream, asked, _Ids(self._ids.next(), request.request_id or call.request_id))

    async def _stream(
        self, asked: Request, ids: _Ids, wishes: _Wishes, deadline: Deadline, stream_id: str = ""
    ) -> AsyncGenerator[completion_pb2.StreamCompleteResponse | Called, None]:
        writer = StreamWriter(ids.completion, ids.request, stream_id=stream_id)
        with self._fills.join(asked, deadline, streaming=True) as listener:
            told = listener.events(wishes.heartbeat, wishes.shown, tokens_per_second=wishes.pace)
            async with aclosing(told) as events:
                async for event in events:
                    if isinstance(event, Called):
                        yield event
                        continue
                    if isinstance(event, Delivered):
                        self._feedback.remember(ids.completion, asked, event.completed)
                    yield writer.write(event)

    async def _stream_keyed(
        self, asked: Asked, wishes: _Wishes, deadline: Deadline, stream_id: str = ""
    ) -> AsyncGenerator[completion_pb2.StreamCompleteResponse | Called, None]:
        with self._keys.join(asked, deadline, streaming=True) as keyed:
            writer = StreamWriter(keyed.completion_id, stream_id=stream_id)
            told = keyed.events(wishes.heartbeat, wishes.shown, tokens_per_second=wishes.pace)
            async with aclosing(told) as events:
                async for event in events:
                    if isinstance(event, Kept):
                        response = write_kept(event.response, replayed=event.replayed)
                        if not event.live:
                            async with aclosing(self._replayed(response, writer, wishes, deadline)) as messages:
                                async for message in messages:
                                    yield message
                        yield writer.end(response)
                    elif not isinstance(event, Called):  # with a key nothing is bought twice
                        yield writer.write(event)

    async def _replayed(
        self, response: completion_pb2.CompleteResponse, writer: StreamWriter, wishes: _Wishes, deadline: Deadline
    ) -> AsyncGenerator[completion_pb2.StreamCompleteResponse, None]:
        """The messages of an answer that was made before, but for the last."""
        yield writer.begin(response)
        told = self._replaying.tell(
            content_of(response.answer),
            View(wishes.shown),
            tokens_per_second=wishes.pace,
            heartbeat=wishes.heartbeat,
            deadline=deadline,
        )
        async with aclosing(told):
            async for seen in told:
                yield writer.write(seen)

    async def _read(
        self, stream: Stream[completion_pb2.StreamCompleteResponse], after: int, heartbeat: float, call: Call
    ) -> AsyncGenerator[completion_pb2.StreamCompleteResponse, None]:
        """One reader's way through a stream that can be resumed."""
        async with aclosing(self._resuming.read(stream, after, heartbeat)) as messages:
            async for message in messages:
                if isinstance(message, Called):
                    await call.commit()
                elif isinstance(message, Beat):
                    yield heartbeat_after(after)
                else:
                    after = message.sequence
                    yield message

    def _wishes(self, request: completion_pb2.StreamCompleteRequest) -> _Wishes:
        pace = self._pace
        if request.HasField("replay_tokens_per_second"):
            pace = request.replay_tokens_per_second
            if not 0 <= pace <= MOST_PACE:
                raise invalid("replay_tokens_per_second", f"must be 0 to {MOST_PACE:,}")
        return _Wishes(self._heartbeat_of(request), TEXT_EVENTS[request.text_events], pace)

    def _heartbeat_of(
        self, request: completion_pb2.StreamCompleteRequest | completion_pb2.ResumeStreamRequest
    ) -> float:
        if not request.HasField("heartbeat_interval"):
            return self._heartbeat
        seconds = read_duration(request.heartbeat_interval)
        if not LEAST_HEARTBEAT <= seconds <= MOST_HEARTBEAT:
            raise invalid("heartbeat_interval", f"must be {LEAST_HEARTBEAT:g} s to {MOST_HEARTBEAT:g} s")
        return seconds


@contextmanager
def _no_second_purchase(called: Callable[[], bool], call: Call) -> Iterator[None]:
    """Keep gRPC's own retries away from a call that failed after a model was called (gRFC A6, server pushback)."""
    try:
        yield
    except AntiphonError:
        if called():
            call.add_trailing("grpc-retry-pushback-ms", "-1")
        raise
