"""Clients of the completion service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import NoneType
from typing import TYPE_CHECKING

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2, completion_pb2_grpc
from antiphon_client._call import AsyncChannelOwner, SyncChannelOwner, raised, unary
from antiphon_client._credential import ApiKey, Metadata
from antiphon_client._repeat import Repeats
from antiphon_client.errors import DeadlineExceededError, InvalidArgumentError, UnavailableError
from antiphon_client.streams import AsyncCompletionStream, CompletionStream, Place

if TYPE_CHECKING:
    import grpc
    import grpc.aio

    from antiphon_client.streams import AsyncCall, Call
    from antiphon_client.tls import Tls

    AsyncStub = completion_pb2_grpc.CompletionServiceAsyncStub

Prompt = str | completion_pb2.CompleteRequest
"""One user message, or a request with everything that it can say."""

Completion = str | completion_pb2.SubmitFeedbackRequest
"""An answer's `completion_id`, or a request with everything that can be said about it."""


class AsyncCompletionClient(AsyncChannelOwner):
    """Asks for answers. Safe for concurrent use within one event loop.

    `model`, `namespace` and `idempotency_key` are those fields of the request. A call with an idempotency key is made
    again when the service or the connection fails, as long as its `timeout` lasts: the answer is bought at most once.
    Without one only what failed before a model was called is made again.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.aio.Channel | None = None,
        api_key: ApiKey | None = None,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(target, channel=channel, api_key=api_key, tls=tls)
        self._stub: AsyncStub = completion_pb2_grpc.CompletionServiceStub(self._channel)

    async def complete(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        namespace: str | None = None,
        idempotency_key: str | None = None,
        timeout: float = 60.0,
        metadata: Metadata = (),
    ) -> completion_pb2.CompleteResponse:
        """Answer in one message. `timeout` in seconds. Raises `AntiphonError`."""
        request = _request(prompt, model, namespace, idempotency_key)
        repeats = Repeats(timeout)
        limit = timeout
        while True:
            try:
                return await unary(
                    self._stub.Complete(request, timeout=limit, metadata=self._credential.metadata(metadata))
                )
            except UnavailableError as error:
                pause = repeats.pause(error) if request.idempotency_key else None
                if pause is None:
                    raise
            except DeadlineExceededError as error:
                raise repeats.late(error) from None
            await asyncio.sleep(pause)
            limit = repeats.remaining()

    @asynccontextmanager
    async def stream(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        namespace: str | None = None,
        idempotency_key: str | None = None,
        heartbeat_interval: float | None = None,
        text_events: completion_pb2.TextEvents.ValueType | None = None,
        resumable: bool = False,
        replay_tokens_per_second: int | None = None,
        timeout: float = 600.0,
        metadata: Metadata = (),
    ) -> AsyncIterator[AsyncCompletionStream]:
        """Stream an answer; leaving the block cancels what is left, so that the model stops writing.

        `heartbeat_interval` and `timeout` in seconds. `text_events` says whether the events have the text as deltas, as
        sentences, or both. With an idempotency key a stream that is broken off goes on where it was, unless another
        answer was made meanwhile. A `resumable` one goes on where it was when the connection is lost, as long as the
        process that has it lives and is reached; `resume_stream` takes it up from elsewhere. Then leaving the block
        stops the model only after a while. `replay_tokens_per_second` is the pace of an answer that is all there, the
        cache's for instance; 0: at once.
        """
        request = _stream_request(_request(prompt, model, namespace, idempotency_key), heartbeat_interval, text_events)
        _set_pace(request, replay_tokens_per_second)
        request.resumable = resumable

        def call(seconds: float, place: Place | None) -> AsyncCall:
            if place is not None:
                return self._resumed(place, heartbeat_interval, seconds, metadata)
            return self._stub.StreamComplete(request, timeout=seconds, metadata=self._credential.metadata(metadata))

        stream = AsyncCompletionStream(call, timeout, repeatable=bool(request.request.idempotency_key))
        try:
            yield stream
        finally:
            stream.cancel()

    @asynccontextmanager
    async def resume_stream(
        self,
        stream_id: str,
        *,
        after_sequence: int = 0,
        heartbeat_interval: float | None = None,
        timeout: float = 600.0,
        metadata: Metadata = (),
    ) -> AsyncIterator[AsyncCompletionStream]:
        """Go on with a stream that was asked to be `resumable`, behind the event with that `sequence`.

        `stream_id` is that of its `started`. Raises `NotFoundError` (STREAM_NOT_FOUND) while it is read if the process
        that is reached does not have it.
        """

        def call(seconds: float, place: Place | None) -> AsyncCall:
            return self._resumed(place or first, heartbeat_interval, seconds, metadata)

        first = Place(stream_id, after_sequence)
        stream = AsyncCompletionStream(call, timeout, place=first)
        try:
            yield stream
        finally:
            stream.cancel()

    def _resumed(self, place: Place, heartbeat_interval: float | None, seconds: float, metadata: Metadata) -> AsyncCall:
        request = _resume_request(place, heartbeat_interval)
        return self._stub.ResumeStream(request, timeout=seconds, metadata=self._credential.metadata(metadata))

    async def submit_feedback(
        self,
        completion: Completion,
        *,
        right: bool | None = None,
        user: str | None = None,
        source: cache_pb2.FeedbackSource.ValueType | None = None,
        timeout: float = 5.0,
        metadata: Metadata = (),
    ) -> completion_pb2.SubmitFeedbackResponse:
        """Say whether an answer was right; `user` tells people apart who share a key. Raises `AntiphonError`."""
        request = _feedback(completion, right, user, source)
        return await unary(
            self._stub.SubmitFeedback(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )


class CompletionClient(SyncChannelOwner):
    """Asks for answers, for callers without an event loop. Safe for use by any number of threads.

    `model`, `namespace` and `idempotency_key` are those fields of the request. A call with an idempotency key is made
    again when the service or the connection fails, as long as its `timeout` lasts: the answer is bought at most once.
    Without one only what failed before a model was called is made again.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.Channel | None = None,
        api_key: ApiKey | None = None,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(target, channel=channel, api_key=api_key, tls=tls)
        self._stub: completion_pb2_grpc.CompletionServiceStub = completion_pb2_grpc.CompletionServiceStub(self._channel)

    def complete(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        namespace: str | None = None,
        idempotency_key: str | None = None,
        timeout: float = 60.0,
        metadata: Metadata = (),
    ) -> completion_pb2.CompleteResponse:
        """Answer in one message. `timeout` in seconds. Raises `AntiphonError`."""
        request = _request(prompt, model, namespace, idempotency_key)
        repeats = Repeats(timeout)
        limit = timeout
        while True:
            try:
                with raised():
                    return self._stub.Complete(request, timeout=limit, metadata=self._credential.metadata(metadata))
            except UnavailableError as error:
                pause = repeats.pause(error) if request.idempotency_key else None
                if pause is None:
                    raise
            except DeadlineExceededError as error:
                raise repeats.late(error) from None
            time.sleep(pause)
            limit = repeats.remaining()

    @contextmanager
    def stream(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        namespace: str | None = None,
        idempotency_key: str | None = None,
        heartbeat_interval: float | None = None,
        text_events: completion_pb2.TextEvents.ValueType | None = None,
        resumable: bool = False,
        replay_tokens_per_second: int | None = None,
        timeout: float = 600.0,
        metadata: Metadata = (),
    ) -> Iterator[CompletionStream]:
        """Stream an answer; leaving the block cancels what is left, so that the model stops writing.

        `heartbeat_interval` and `timeout` in seconds. `text_events` says whether the events have the text as deltas, as
        sentences, or both. With an idempotency key a stream that is broken off goes on where it was, unless another
        answer was made meanwhile. A `resumable` one goes on where it was when the connection is lost, as long as the
        process that has it lives and is reached; `resume_stream` takes it up from elsewhere. Then leaving the block
        stops the model only after a while. `replay_tokens_per_second` is the pace of an answer that is all there, the
        cache's for instance; 0: at once.
        """
        request = _stream_request(_request(prompt, model, namespace, idempotency_key), heartbeat_interval, text_events)
        _set_pace(request, replay_tokens_per_second)
        request.resumable = resumable

        def call(seconds: float, place: Place | None) -> Call:
            if place is not None:
                return self._resumed(place, heartbeat_interval, seconds, metadata)
            return self._stub.StreamComplete(request, timeout=seconds, metadata=self._credential.metadata(metadata))

        stream = CompletionStream(call, timeout, repeatable=bool(request.request.idempotency_key))
        try:
            yield stream
        finally:
            stream.cancel()

    @contextmanager
    def resume_stream(
        self,
        stream_id: str,
        *,
        after_sequence: int = 0,
        heartbeat_interval: float | None = None,
        timeout: float = 600.0,
        metadata: Metadata = (),
    ) -> Iterator[CompletionStream]:
        """Go on with a stream that was asked to be `resumable`, behind the event with that `sequence`.

        `stream_id` is that of its `started`. Raises `NotFoundError` (STREAM_NOT_FOUND) while it is read if the process
        that is reached does not have it.
        """

        def call(seconds: float, place: Place | None) -> Call:
            return self._resumed(place or first, heartbeat_interval, seconds, metadata)

        first = Place(stream_id, after_sequence)
        stream = CompletionStream(call, timeout, place=first)
        try:
            yield stream
        finally:
            stream.cancel()

    def _resumed(self, place: Place, heartbeat_interval: float | None, seconds: float, metadata: Metadata) -> Call:
        request = _resume_request(place, heartbeat_interval)
        return self._stub.ResumeStream(request, timeout=seconds, metadata=self._credential.metadata(metadata))

    def submit_feedback(
        self,
        completion: Completion,
        *,
        right: bool | None = None,
        user: str | None = None,
        source: cache_pb2.FeedbackSource.ValueType | None = None,
        timeout: float = 5.0,
        metadata: Metadata = (),
    ) -> completion_pb2.SubmitFeedbackResponse:
        """Say whether an answer was right; `user` tells people apart who share a key. Raises `AntiphonError`."""
        request = _feedback(completion, right, user, source)
        with raised():
            return self._stub.SubmitFeedback(request, timeout=timeout, metadata=self._credential.metadata(metadata))


def _require(name: str, value: object, *kinds: type) -> None:
    """Raise `TypeError` that names the argument; protobuf's own names a field, if anything."""
    if not isinstance(value, kinds):
        wanted = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def _request(
    prompt: Prompt, model: str | None, namespace: str | None, idempotency_key: str | None
) -> completion_pb2.CompleteRequest:
    """A request of its own, so that what the caller does with theirs afterwards changes no repeated call."""
    _require("prompt", prompt, str, completion_pb2.CompleteRequest)
    for name, text in (("model", model), ("namespace", namespace), ("idempotency_key", idempotency_key)):
        _require(name, text, str, NoneType)
    request = completion_pb2.CompleteRequest()
    if isinstance(prompt, str):
        request.prompt = prompt
    else:
        request.CopyFrom(prompt)
    if model is not None:
        request.model = model
    if namespace is not None:
        request.namespace = namespace
    if idempotency_key is not None:
        request.idempotency_key = idempotency_key
    return request


def _feedback(
    completion: Completion, right: bool | None, user: str | None, source: cache_pb2.FeedbackSource.ValueType | None
) -> completion_pb2.SubmitFeedbackRequest:
    _require("completion", completion, str, completion_pb2.SubmitFeedbackRequest)
    _require("user", user, str, NoneType)
    _require("source", source, int, NoneType)
    request = completion_pb2.SubmitFeedbackRequest()
    if isinstance(completion, str):
        request.completion_id = completion
    else:
        request.CopyFrom(completion)
    if right is not None:
        if right is not True and right is not False:  # "no" would say yes
            raise InvalidArgumentError("right must be True or False", fields={"right": "must be True or False"})
        request.verdict = cache_pb2.VERDICT_RIGHT if right else cache_pb2.VERDICT_WRONG
    if user is not None:
        request.user = user
    if source is not None:
        request.source = source
    return request


def _stream_request(
    request: completion_pb2.CompleteRequest,
    heartbeat_interval: float | None,
    text_events: completion_pb2.TextEvents.ValueType | None,
) -> completion_pb2.StreamCompleteRequest:
    streamed = completion_pb2.StreamCompleteRequest(
        request=request, text_events=text_events or completion_pb2.TEXT_EVENTS_UNSPECIFIED
    )
    _set_heartbeat(streamed, heartbeat_interval)
    return streamed


def _set_pace(request: completion_pb2.StreamCompleteRequest, tokens_per_second: int | None) -> None:
    _require("replay_tokens_per_second", tokens_per_second, int, NoneType)
    if tokens_per_second is not None:
        request.replay_tokens_per_second = tokens_per_second


def _resume_request(place: Place, heartbeat_interval: float | None) -> completion_pb2.ResumeStreamRequest:
    resumed = completion_pb2.ResumeStreamRequest(stream_id=place.stream_id, after_sequence=place.sequence)
    _set_heartbeat(resumed, heartbeat_interval)
    return resumed


def _set_heartbeat(
    request: completion_pb2.StreamCompleteRequest | completion_pb2.ResumeStreamRequest, seconds: float | None
) -> None:
    if seconds is not None:
        _require("heartbeat_interval", seconds, int, float)
        request.heartbeat_interval.FromMicroseconds(round(seconds * 1e6))
