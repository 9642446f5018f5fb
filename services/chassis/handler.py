"""The one way from a gRPC call to a servicer's method and back.

    class CacheServicer:
        @unary(deadline=5.0)
        async def Lookup(self, request: cache_pb2.LookupRequest, call: Call) -> cache_pb2.LookupResponse: ...

        @server_stream(deadline=3600.0, limit="transfers")
        async def Export(self, request: transfer_pb2.ExportRequest, call: Call) -> AsyncIterator[…ExportResponse]: ...

        @client_stream(deadline=3600.0, limit="transfers")
        async def Import(self, requests: AsyncIterator[…ImportRequest], call: Call) -> transfer_pb2.ImportResponse: ...

    bind(server, CacheServicer(), cache_pb2.DESCRIPTOR.services_by_name["CacheService"], telemetry=…, limits=…)

gRPC hands over bytes and gets bytes back, because what its own layers do on an error is not fit to be seen: a message
that cannot be parsed becomes UNKNOWN, an exception's text reaches the caller, and a `BaseException` is never answered.
A servicer raises `services.chassis.errors`; everything else it raises is a defect and ends in INTERNAL.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import Any, Never, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.chassis.auth.access import Access, Admit
from services.chassis.call import Call, PeerGone
from services.chassis.deadline import Deadline
from services.chassis.door import Door
from services.chassis.errors import DeadlineExceeded, Exhausted, Reason
from services.chassis.limits import DEFAULT_GROUP, Limits
from services.chassis.parsing import parse
from services.chassis.status import Outcome, outcome
from services.chassis.telemetry import Telemetry
from services.chassis.unknown_enums import finder, refuse_unknown

NO_DEADLINE = math.inf
"""For streams that are meant to last until their caller leaves."""

SLOW_SECONDS = 1.0
"""A unary call that took longer is always logged."""

EARLY_SECONDS = 0.005
"""A timer may fire this much before the deadline it stands for; event loops round to milliseconds."""

_SPEC = "__antiphon_rpc__"

ServicerT = TypeVar("ServicerT")
RequestT = TypeVar("RequestT", bound=Message | bytes)
ResponseT = TypeVar("ResponseT", bound=Message | bytes)
"""Bytes are a message that is not read yet, or was written before or in parts."""

UnaryMethod = Callable[[ServicerT, RequestT, Call], Awaitable[ResponseT]]
StreamMethod = Callable[[ServicerT, RequestT, Call], AsyncIterator[ResponseT]]
CollectMethod = Callable[[ServicerT, AsyncIterator[RequestT], Call], Awaitable[ResponseT]]


class _Kind(Enum):
    """Which side of a method is a stream."""

    UNARY = "unary"
    ANSWERS = "answers"
    REQUESTS = "requests"

    @classmethod
    def of(cls, method: MethodDescriptor) -> _Kind | None:
        if method.client_streaming:
            return None if method.server_streaming else cls.REQUESTS
        return cls.ANSWERS if method.server_streaming else cls.UNARY


@dataclass(frozen=True, slots=True)
class _Spec:
    kind: _Kind
    deadline: float
    limit: str
    slow: float
    metered: bool = False
    parts: str = ""
    patience: float = math.inf
    raw: bool = False


def unary(
    *,
    deadline: float,
    limit: str = DEFAULT_GROUP,
    slow: float = SLOW_SECONDS,
    metered: bool = False,
    parts: str = "",
    raw: bool = False,
) -> Callable[[UnaryMethod[ServicerT, RequestT, ResponseT]], UnaryMethod[ServicerT, RequestT, ResponseT]]:
    """Mark a method that answers with one message.

    `deadline` (seconds) holds when the caller set none. `limit` names the group of `Limits` whose places it takes.
    `metered`: it buys tokens, which `Server.charge` is told of, and is refused while the caller's key has none left.
    `parts`: a field in which the method looks for unknown enum numbers by itself, as in the parts of a batch.
    `raw`: it gets the request's bytes, and reads them (`services.chassis.parsing`, `unknown_enums`).
    """

    def mark(method: UnaryMethod[ServicerT, RequestT, ResponseT]) -> UnaryMethod[ServicerT, RequestT, ResponseT]:
        setattr(method, _SPEC, _Spec(_Kind.UNARY, deadline, limit, slow, metered, parts, raw=raw))
        return method

    return mark


def server_stream(
    *,
    deadline: float,
    limit: str = DEFAULT_GROUP,
    slow: float = math.inf,
    metered: bool = False,
    patience: float = math.inf,
) -> Callable[[StreamMethod[ServicerT, RequestT, ResponseT]], StreamMethod[ServicerT, RequestT, ResponseT]]:
    """Mark an async generator that answers with a stream; it is closed as soon as its caller has gone.

    A caller that does not read for `patience` seconds gets RESOURCE_EXHAUSTED (READER_TOO_SLOW).
    """

    def mark(method: StreamMethod[ServicerT, RequestT, ResponseT]) -> StreamMethod[ServicerT, RequestT, ResponseT]:
        setattr(method, _SPEC, _Spec(_Kind.ANSWERS, deadline, limit, slow, metered, patience=patience))
        return method

    return mark


def client_stream(
    *, deadline: float, limit: str = DEFAULT_GROUP, slow: float = math.inf, parts: str = ""
) -> Callable[[CollectMethod[ServicerT, RequestT, ResponseT]], CollectMethod[ServicerT, RequestT, ResponseT]]:
    """Mark a method that reads a stream and answers with one message; `parts` as for `unary`, of each request."""

    def mark(method: CollectMethod[ServicerT, RequestT, ResponseT]) -> CollectMethod[ServicerT, RequestT, ResponseT]:
        setattr(method, _SPEC, _Spec(_Kind.REQUESTS, deadline, limit, slow, parts=parts))
        return method

    return mark


def bind(
    server: grpc.aio.Server,
    servicer: object,
    descriptor: ServiceDescriptor,
    *,
    telemetry: Telemetry,
    limits: Limits,
    door: Door | None = None,
    access: Access | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Register every method of the service; without `access` anyone may call them.

    `TypeError` if the servicer and the descriptor do not match, or a method is not in the table of `access`.
    """
    declared = {method.name for method in descriptor.methods}
    marked = {name for name in dir(type(servicer)) if hasattr(getattr(type(servicer), name), _SPEC)}
    if declared != marked:
        odd = ", ".join(sorted(declared ^ marked))
        raise TypeError(f"{type(servicer).__name__} and {descriptor.full_name} do not have the same methods: {odd}")
    handlers: dict[str, Any] = {}
    for method in descriptor.methods:
        body = getattr(servicer, method.name)
        spec: _Spec = getattr(body, _SPEC)
        if spec.kind is not _Kind.of(method):
            raise TypeError(f"{descriptor.full_name}.{method.name} is marked as another kind of method than it is")
        rpc = _Rpc(
            method,
            spec=spec,
            body=body,
            telemetry=telemetry,
            limits=limits,
            door=door or Door(),
            admit=access.method(f"{descriptor.full_name}/{method.name}", metered=spec.metered) if access else None,
            monotonic=monotonic,
        )
        match spec.kind:
            case _Kind.ANSWERS:
                handlers[method.name] = grpc.unary_stream_rpc_method_handler(rpc.stream)
            case _Kind.REQUESTS:
                handlers[method.name] = grpc.stream_unary_rpc_method_handler(rpc.collect)
            case _Kind.UNARY:
                handlers[method.name] = grpc.unary_unary_rpc_method_handler(rpc.unary)
    # Not `add_registered_method_handlers`: with it the server waits on one future per method and call.
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(descriptor.full_name, handlers),))


class _Rpc:
    """One method: everything about it that does not change from call to call."""

    def __init__(
        self,
        method: MethodDescriptor,
        *,
        spec: _Spec,
        body: Callable[[Any, Call], Any],
        telemetry: Telemetry,
        limits: Limits,
        door: Door,
        admit: Admit | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._name = f"{method.containing_service.full_name}/{method.name}"
        self._spec = spec
        self._body = body
        self._request = GetMessageClass(method.input_type)
        self._response = GetMessageClass(method.output_type)
        self._unknown_enum = finder(method.input_type, besides=spec.parts)
        self._telemetry = telemetry
        self._metrics = telemetry.method(self._name)
        try:
            self._places = limits.group(spec.limit)
        except KeyError:
            raise TypeError(f"{self._name} takes places of {spec.limit!r}, for which no limit is set") from None
        self._door = door
        self._admit = admit
        self._monotonic = monotonic

    async def unary(self, raw: bytes, context: Any) -> bytes:
        return await self._answered(self._unread if self._spec.raw else self._parse, raw, context)

    async def collect(self, raws: AsyncIterator[bytes], context: Any) -> bytes:
        return await self._answered(self._parsed, raws, context)

    async def _answered(self, read: Callable[[Any, Call], Any], sent: Any, context: Any) -> bytes:
        started = self._monotonic()
        self._metrics.started()
        limited, call = self._open(context, started)
        try:
            if self._door.closed:
                await self._door.hold()
            if self._admit is not None:
                call.caller = self._admit(call.sent)
            with self._places:
                request = read(sent, call)
                if limited:
                    response = await self._body(request, call)
                else:
                    response = await self._within(call, self._body(request, call))
                answer = self._serialise(response)
        except BaseException as error:  # noqa: BLE001 -- a BaseException that passes is a call never answered
            await self._fail(error, call, context, started)
        if call.trailing:
            context.set_trailing_metadata(tuple(call.trailing))
        self._finish("OK", call, started)
        return answer

    async def stream(self, raw: bytes, context: Any) -> None:
        # A coroutine that writes, not a generator: gRPC leaves a generator suspended when its caller goes.
        started = self._monotonic()
        self._metrics.started()
        limited, call = self._open(context, started)
        try:
            if self._door.closed:
                await self._door.hold()
            if self._admit is not None:
                call.caller = self._admit(call.sent)
            with self._places:
                request = self._parse(raw, call)
                if limited:
                    await self._send(request, call, context)
                else:
                    await self._within(call, self._send(request, call, context))
        except BaseException as error:  # noqa: BLE001 -- as above
            await self._fail(error, call, context, started)
        if call.trailing:
            context.set_trailing_metadata(tuple(call.trailing))
        self._finish("OK", call, started)

    async def _send(self, request: Message, call: Call, context: Any) -> None:
        async with aclosing(self._body(request, call)) as messages:
            async for message in messages:
                payload = self._serialise(message)
                try:
                    await self._write(payload, context)
                except TimeoutError:
                    slow = "the caller did not read what was sent to it"
                    raise Exhausted(slow, reason=Reason.READER_TOO_SLOW) from None
                except Exception as error:
                    raise PeerGone from error

    async def _write(self, payload: bytes, context: Any) -> None:
        if self._spec.patience == math.inf:
            await context.write(payload)
            return
        async with asyncio.timeout(self._spec.patience):
            await context.write(payload)

    def _open(self, context: Any, started: float) -> tuple[bool, Call]:
        """The call, and whether its caller has set a deadline; gRPC itself cancels the handler at that one."""
        remaining = context.time_remaining()
        limited = remaining is not None
        return limited, Call(
            context, Deadline(started + (remaining if limited else self._spec.deadline), self._monotonic)
        )

    def _parse(self, raw: bytes, call: Call) -> Message:
        _refuse_late(call)
        request = parse(self._request, raw)
        refuse_unknown(self._unknown_enum, request)
        return request

    def _unread(self, raw: bytes, call: Call) -> bytes:
        _refuse_late(call)
        return raw

    async def _parsed(self, raws: AsyncIterator[bytes], call: Call) -> AsyncIterator[Message]:
        async for raw in raws:
            yield self._parse(raw, call)

    def _serialise(self, response: object) -> bytes:
        if isinstance(response, bytes):
            return response
        if not isinstance(response, self._response):
            raise TypeError(f"{self._name} answered with a {type(response).__name__}")
        return response.SerializeToString()

    async def _within(self, call: Call, body: Awaitable[Any]) -> Any:
        if call.deadline.at == math.inf:
            return await body
        limit = asyncio.timeout(call.deadline.remaining())
        try:
            async with limit:
                return await body
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineExceeded("the call took longer than this method allows by default") from error
            raise

    async def _fail(self, error: BaseException, call: Call, context: Any, started: float) -> Never:
        """End the call that raised: answer it, or let through what gRPC or the process has to see."""
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            self._finish("ABANDONED", call, started)
            raise error
        if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
            call.cancelled = True
            self._finish("DEADLINE_EXCEEDED" if call.deadline.passed else "CANCELLED", call, started)
            raise error
        if isinstance(error, PeerGone) and error.__cause__ is not None:
            call.cancelled = True
            self._finish("CANCELLED", call, started)
            raise error.__cause__
        if isinstance(error, TimeoutError) and call.deadline.remaining() <= EARLY_SECONDS:
            error = DeadlineExceeded("the deadline of the call has passed")
        end = outcome(error)
        self._finish(end.code.name, call, started, end, error)
        trailing = (*call.trailing, *(end.status.trailing_metadata or ()))
        await context.abort(end.code, end.status.details, trailing)
        raise AssertionError("abort returned")  # it always raises

    def _finish(
        self, code: str, call: Call, started: float, end: Outcome | None = None, error: BaseException | None = None
    ) -> None:
        seconds = self._monotonic() - started
        self._metrics.finished(code, seconds)
        self._log(code, call, seconds, end, error)
        call.ended = True

    def _log(self, code: str, call: Call, seconds: float, end: Outcome | None, error: BaseException | None) -> None:
        unremarkable = code in {"OK", "CANCELLED"} and seconds < self._spec.slow
        if unremarkable and not self._telemetry.sampled():
            return
        event: dict[str, Any] = {
            "method": self._name,
            "code": code,
            "ms": round(seconds * 1000, 3),
            "request_id": call.request_id,
            "peer": call.peer,
        }
        if call.caller.key_id:
            event |= {"tenant": call.caller.tenant, "key": call.caller.key_id}
        log = self._telemetry.log
        if end is None:
            log.info("rpc", **event)
        elif end.code is grpc.StatusCode.INTERNAL:
            log.error("rpc", **event, reason=end.reason, reference=end.reference, exc_info=error)
        elif end.code is grpc.StatusCode.UNAVAILABLE:
            log.warning("rpc", **event, reason=end.reason, exc_info=error)
        else:
            log.info("rpc", **event, reason=end.reason)


def _refuse_late(call: Call) -> None:
    if call.deadline.passed:
        raise DeadlineExceeded("the deadline had passed before the call was begun")


def _is_being_cancelled() -> bool:
    """Whether the running task itself is cancelled, not just something that it awaited and nobody else will answer."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
