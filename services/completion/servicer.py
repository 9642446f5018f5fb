"""`antiphon.completion.v1.CompletionService`: translates and delegates."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

from antiphon.completion.v1 import completion_pb2
from services.chassis.call import Call
from services.chassis.errors import AntiphonError
from services.chassis.handler import server_stream, unary
from services.completion.fills import Fills, Listener
from services.completion.proto.durations import read_duration
from services.completion.proto.requests import Resolve, read_request
from services.completion.proto.responses import write_event, write_response
from services.llm.proto import invalid, missing

COMPLETE_DEADLINE = 60.0
STREAM_DEADLINE = 600.0
"""Seconds, if the caller sets no deadline."""

SLOW_SECONDS = 30.0
"""A model takes its time; only a call that took longer than this is remarkable."""

DEFAULT_HEARTBEAT = 15.0
LEAST_HEARTBEAT = 1.0
MOST_HEARTBEAT = 60.0


class CompletionServicer:
    """One instance per process."""

    def __init__(self, fills: Fills, resolve: Resolve) -> None:
        self._fills = fills
        self._resolve = resolve

    @unary(deadline=COMPLETE_DEADLINE, slow=SLOW_SECONDS, metered=True)
    async def Complete(  # noqa: N802 -- the name in the contract
        self, request: completion_pb2.CompleteRequest, call: Call
    ) -> completion_pb2.CompleteResponse:
        """Answer in one message."""
        asked = read_request(request, caller=call.caller, resolve=self._resolve)
        with self._fills.join(asked, call.deadline, streaming=False) as listener, _no_second_purchase(listener, call):
            delivered = await listener.result()
        return write_response(delivered, uuid.uuid4().hex, request.request_id or call.request_id)

    @server_stream(deadline=STREAM_DEADLINE, metered=True)
    async def StreamComplete(  # noqa: N802 -- the name in the contract
        self, request: completion_pb2.StreamCompleteRequest, call: Call
    ) -> AsyncIterator[completion_pb2.StreamCompleteResponse]:
        """Answer piece by piece."""
        if not request.HasField("request"):
            raise missing("request", "is required")
        heartbeat = _heartbeat(request)
        asked = read_request(request.request, caller=call.caller, resolve=self._resolve, path="request.")
        completion_id, request_id = uuid.uuid4().hex, request.request.request_id or call.request_id
        with self._fills.join(asked, call.deadline, streaming=True) as listener, _no_second_purchase(listener, call):
            async with aclosing(listener.events(heartbeat)) as events:
                async for event in events:
                    yield write_event(event, completion_id, request_id)


@contextmanager
def _no_second_purchase(listener: Listener, call: Call) -> Iterator[None]:
    """Keep gRPC's own retries away from a call that failed after a model was called (gRFC A6, server pushback)."""
    try:
        yield
    except AntiphonError:
        if listener.fill.called:
            call.add_trailing("grpc-retry-pushback-ms", "-1")
        raise


def _heartbeat(request: completion_pb2.StreamCompleteRequest) -> float:
    if not request.HasField("heartbeat_interval"):
        return DEFAULT_HEARTBEAT
    seconds = read_duration(request.heartbeat_interval)
    if not LEAST_HEARTBEAT <= seconds <= MOST_HEARTBEAT:
        raise invalid("heartbeat_interval", f"must be {LEAST_HEARTBEAT:g} s to {MOST_HEARTBEAT:g} s")
    return seconds
