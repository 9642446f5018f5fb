"""`antiphon.completion.v1.CompletionService`: translates and delegates."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from antiphon.completion.v1 import completion_pb2
from services.chassis.call import Call
from services.chassis.errors import AntiphonError
from services.chassis.handler import server_stream, unary
from services.completion.feedback import Feedback
from services.completion.fills import Called, Fills, Listener
from services.completion.idempotency.keys import Asked, Kept, Keys
from services.completion.idempotency.records import Scope
from services.completion.proto.durations import read_duration
from services.completion.proto.feedback import read_submitted
from services.completion.proto.requests import Resolve, body_digest, read_key, read_request
from services.completion.proto.responses import write_kept, write_response
from services.completion.proto.stream import StreamWriter
from services.completion.proto.words import TEXT_EVENTS
from services.completion.request import Request
from services.completion.result import Delivered
from services.completion.settings import LEAST_HEARTBEAT, MOST_HEARTBEAT
from services.completion.streaming.view import TextEvents
from services.llm.proto import invalid, missing

COMPLETE_DEADLINE = 60.0
STREAM_DEADLINE = 600.0
"""Seconds, if the caller sets no deadline."""

FEEDBACK_DEADLINE = 5.0
"""The same, for a call that waits for no model."""

SLOW_SECONDS = 30.0
"""A model takes its time; only a call that took longer than this is remarkable."""


@dataclass(frozen=True, slots=True)
class _Wishes:
    """How a stream is to be sent; `heartbeat` in seconds."""

    heartbeat: float
    shown: TextEvents


class CompletionServicer:
    """One instance per process."""

    def __init__(self, fills: Fills, keys: Keys, feedback: Feedback, resolve: Resolve, *, heartbeat: float) -> None:
        """`heartbeat`: seconds between those of a silent stream, unless its caller says otherwise."""
        self._heartbeat = heartbeat
        self._fills = fills
        self._keys = keys
        self._feedback = feedback
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
        with self._fills.join(asked, call.deadline, streaming=False) as listener, _no_second_purchase(listener, call):
            delivered = await listener.result(call.commit)
        completion_id = uuid.uuid4().hex
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
        if key := read_key(request.request, "request."):
            keyed_asked = self._with_key(key, request.request, asked, call)
            async with aclosing(self._stream_keyed(keyed_asked, wishes, call)) as messages:
                async for message in messages:
                    yield message
            return
        completion_id, request_id = uuid.uuid4().hex, request.request.request_id or call.request_id
        writer = StreamWriter(completion_id, request_id)
        with self._fills.join(asked, call.deadline, streaming=True) as listener, _no_second_purchase(listener, call):
            async with aclosing(listener.events(wishes.heartbeat, wishes.shown)) as events:
                async for event in events:
                    if isinstance(event, Called):
                        await call.commit()
                        continue
                    if isinstance(event, Delivered):
                        self._feedback.remember(completion_id, asked, event.completed)
                    yield writer.write(event)

    @unary(deadline=FEEDBACK_DEADLINE)
    async def SubmitFeedback(  # noqa: N802
        self, request: completion_pb2.SubmitFeedbackRequest, call: Call
    ) -> completion_pb2.SubmitFeedbackResponse:
        """Take what is said about an answer."""
        recorded = await self._feedback.submit(call.caller, read_submitted(request), within=call.deadline.remaining())
        return completion_pb2.SubmitFeedbackResponse(recorded=recorded)

    def _with_key(self, key: str, request: completion_pb2.CompleteRequest, asked: Request, call: Call) -> Asked:
        completion_id, request_id = uuid.uuid4().hex, request.request_id or call.request_id

        def write(delivered: Delivered, degraded: tuple[str, ...]) -> bytes:
            # Here, as whoever repeats the key gets the same completion, also if all who wait now have left.
            self._feedback.remember(completion_id, asked, delivered.completed)
            return write_response(delivered, completion_id, request_id, degraded=degraded).SerializeToString()

        return Asked(Scope(call.caller.tenant, key), body_digest(request), asked, completion_id, write)

    async def _stream_keyed(
        self, asked: Asked, wishes: _Wishes, call: Call
    ) -> AsyncGenerator[completion_pb2.StreamCompleteResponse, None]:
        with self._keys.join(asked, call.deadline, streaming=True) as keyed:
            writer = StreamWriter(keyed.completion_id)
            async with aclosing(keyed.events(wishes.heartbeat, wishes.shown)) as events:
                async for event in events:
                    if isinstance(event, Kept):
                        response = write_kept(event.response, replayed=event.replayed)
                        for message in (writer.end(response),) if event.live else writer.replay(response, wishes.shown):
                            yield message
                    elif not isinstance(event, Called):
                        yield writer.write(event)

    def _wishes(self, request: completion_pb2.StreamCompleteRequest) -> _Wishes:
        seconds = self._heartbeat
        if request.HasField("heartbeat_interval"):
            seconds = read_duration(request.heartbeat_interval)
            if not LEAST_HEARTBEAT <= seconds <= MOST_HEARTBEAT:
                raise invalid("heartbeat_interval", f"must be {LEAST_HEARTBEAT:g} s to {MOST_HEARTBEAT:g} s")
        return _Wishes(seconds, TEXT_EVENTS[request.text_events])


@contextmanager
def _no_second_purchase(listener: Listener, call: Call) -> Iterator[None]:
    """Keep gRPC's own retries away from a call that failed after a model was called (gRFC A6, server pushback)."""
    try:
        yield
    except AntiphonError:
        if listener.fill.called:
            call.add_trailing("grpc-retry-pushback-ms", "-1")
        raise
