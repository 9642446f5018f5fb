"""A completion service on a loopback port whose answers a test writes down, and its clients of both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from antiphon.completion.v1 import completion_pb2, completion_pb2_grpc
from antiphon_client import AsyncCompletionClient, CompletionClient
from antiphon_client.streams import Event

GUARD = 20.0
"""Seconds that nothing here may take."""

Context = Any
Step = Callable[["Scripted", Context], Awaitable[None]]
"""What a call does; the answer comes afterwards, if the step returns."""


@dataclass
class Scripted(completion_pb2_grpc.CompletionServiceServicer):
    """Takes the next step of the script for every call; when the script has ended, answers."""

    steps: list[Step] = field(default_factory=list)
    requests: list[completion_pb2.StreamCompleteRequest] = field(default_factory=list)
    feedback: list[completion_pb2.SubmitFeedbackRequest] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    answering: bool = True
    """Whether the answer follows the steps."""

    async def Complete(self, request: completion_pb2.CompleteRequest, context: Context) -> Any:  # noqa: N802
        await self._step(completion_pb2.StreamCompleteRequest(request=request), context)
        response = completion_pb2.CompleteResponse()
        response.answer.text = f"{request.prompt}!"
        return response

    async def StreamComplete(self, request: completion_pb2.StreamCompleteRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        try:
            await self._step(request, context)
            for event in answer(request.request.prompt) if self.answering else ():
                await context.write(event)
        finally:
            self.closed.set()

    async def ResumeStream(self, request: completion_pb2.ResumeStreamRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        for event in answer(request.stream_id)[request.after_sequence :]:
            await context.write(completion_pb2.ResumeStreamResponse(event=event))

    async def SubmitFeedback(  # noqa: N802
        self, request: completion_pb2.SubmitFeedbackRequest, context: Context
    ) -> completion_pb2.SubmitFeedbackResponse:
        self.feedback.append(request)
        if self.steps:
            await self.steps.pop(0)(self, context)
        return completion_pb2.SubmitFeedbackResponse(recorded=len(self.feedback) == 1)

    async def _step(self, request: completion_pb2.StreamCompleteRequest, context: Context) -> None:
        self.requests.append(request)
        step = self.steps.pop(0) if self.steps else None
        if step is not None:
            await step(self, context)

    @property
    def calls(self) -> int:
        """How many calls have arrived."""
        return len(self.requests)


def answer(prompt: str) -> list[Event]:
    """The events of the answer to a prompt: its words."""
    words = [Event(delta=completion_pb2.Delta(text=f"{word} ")) for word in prompt.split()]
    finished = completion_pb2.Finished()
    finished.answer.text = "".join(event.delta.text for event in words)
    events = [Event(started=completion_pb2.Started(model="m")), *words, Event(finished=finished)]
    for number, event in enumerate(events, 1):
        event.sequence = number
    return [events[0], Event(heartbeat=completion_pb2.Heartbeat(), sequence=1), *events[1:]]


def fails(
    code: grpc.StatusCode,
    *,
    reason: str = "SOME_REASON",
    retry_after: float | None = None,
    pushback: bool = False,
    after: Sequence[Event] = (),
    headers: bool = False,
) -> Step:
    """Fail with a status, after these events or after initial metadata alone."""

    async def step(_service: Scripted, context: Context) -> None:
        if headers:
            await context.send_initial_metadata(())
        for event in after:
            await context.write(event)
        trailing: tuple[tuple[str, str | bytes], ...] = (("grpc-retry-pushback-ms", "-1"),) if pushback else ()
        await fail(context, code, reason=reason, retry_after=retry_after, trailing=trailing)

    return step


def breaks(cut: Callable[[], None], *, after: Sequence[Event] = (), until: Callable[[], bool] = lambda: True) -> Step:
    """The connection is cut under the call, after these events, as soon as `until` says that they have arrived."""

    async def step(_service: Scripted, context: Context) -> None:
        for event in after:
            await context.write(event)
        while not until():  # noqa: ASYNC110 -- the caller's state, which may be another thread's
            await asyncio.sleep(0.005)
        cut()
        await asyncio.Event().wait()

    return step


async def stays(_service: Scripted, _context: Context) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def fail(
    context: Context,
    code: grpc.StatusCode,
    *,
    reason: str = "SOME_REASON",
    retry_after: float | None = 1.5,
    trailing: tuple[tuple[str, str | bytes], ...] = (),
) -> None:
    """End a call as the services end it: with the details of `google.rpc`."""
    status = status_pb2.Status(code=code.value[0], message="what went wrong")
    details: list[Any] = [
        error_details_pb2.ErrorInfo(reason=reason, domain="antiphon", metadata={"model": "m"}),
        error_details_pb2.BadRequest(
            field_violations=[error_details_pb2.BadRequest.FieldViolation(field="prompt", description="is empty")]
        ),
    ]
    if retry_after is not None:
        delay = Duration()
        delay.FromMicroseconds(round(retry_after * 1e6))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort(code, "what went wrong", (("grpc-status-details-bin", status.SerializeToString()), *trailing))


@asynccontextmanager
async def serving(
    service: completion_pb2_grpc.CompletionServiceServicer, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[str]:
    """Serve on a free port; yields where."""
    server = grpc.aio.server()
    completion_pb2_grpc.add_CompletionServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call, unused-ignore]
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


class Caller:
    """One kind of client behind one set of methods, so that one test shows what both do."""

    def __init__(self, address: str, *, of_a_thread: bool) -> None:
        self._address = address
        self._of_a_thread = of_a_thread

    async def complete(self, prompt: Any, **options: Any) -> str:
        """The text of an answer."""
        if self._of_a_thread:
            return await asyncio.to_thread(self._complete, prompt, **options)
        async with AsyncCompletionClient(self._address) as client:
            return (await client.complete(prompt, **options)).answer.text

    async def stream(self, prompt: Any, got: list[Event], **options: Any) -> None:
        """Add the events of a streamed answer to `got`."""
        if self._of_a_thread:
            await asyncio.to_thread(self._stream, prompt, got, **options)
            return
        async with AsyncCompletionClient(self._address) as client, client.stream(prompt, **options) as events:
            async for event in events:
                got.append(event)  # noqa: PERF401 -- what arrived before a failure counts

    async def feedback(self, completion_id: str, **options: Any) -> bool:
        """Whether feedback was recorded."""
        if self._of_a_thread:
            return await asyncio.to_thread(self._feedback, completion_id, **options)
        async with AsyncCompletionClient(self._address) as client:
            return (await client.submit_feedback(completion_id, **options)).recorded

    def _feedback(self, completion_id: str, **options: Any) -> bool:
        with CompletionClient(self._address) as client:
            return client.submit_feedback(completion_id, **options).recorded

    def _complete(self, prompt: Any, **options: Any) -> str:
        with CompletionClient(self._address) as client:
            return client.complete(prompt, **options).answer.text

    def _stream(self, prompt: Any, got: list[Event], **options: Any) -> None:
        with CompletionClient(self._address) as client, client.stream(prompt, **options) as events:
            for event in events:
                got.append(event)  # noqa: PERF402 -- as above
