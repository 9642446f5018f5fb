"""A service that exists only for tests of the chassis, and a server to serve it from."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_status.rpc_status import GRPC_DETAILS_METADATA_KEY

from services.chassis.auth.values import Role
from services.chassis.call import Call
from services.chassis.handler import client_stream, server_stream, unary
from services.chassis.lifetime import Shutdown
from services.chassis.memory import Memory
from services.chassis.process import Process
from services.chassis.server import Server
from services.chassis.settings import SuiteSettings
from services.chassis.telemetry import Telemetry

_FILE = "antiphon_test/probe.proto"
_Field = descriptor_pb2.FieldDescriptorProto


def _build() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package="antiphon_test", syntax="proto3")
    mood = file.enum_type.add(name="Mood")
    mood.value.add(name="MOOD_UNSPECIFIED", number=0)
    mood.value.add(name="MOOD_GOOD", number=1)
    ping = file.message_type.add(name="Ping")

    def add(name: str, number: int, kind: Any, type_name: str | None = None, *, many: bool = False) -> None:
        label = _Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL
        ping.field.add(name=name, number=number, type=kind, type_name=type_name, label=label)

    add("text", 1, _Field.TYPE_STRING)
    add("mood", 2, _Field.TYPE_ENUM, ".antiphon_test.Mood")
    add("moods", 3, _Field.TYPE_ENUM, ".antiphon_test.Mood", many=True)
    add("inner", 4, _Field.TYPE_MESSAGE, ".antiphon_test.Ping")
    add("inners", 5, _Field.TYPE_MESSAGE, ".antiphon_test.Ping", many=True)
    for number, name, kind, type_name in (
        (6, "mood_by_name", _Field.TYPE_ENUM, ".antiphon_test.Mood"),
        (7, "inner_by_name", _Field.TYPE_MESSAGE, ".antiphon_test.Ping"),
    ):
        entry = ping.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
        entry.field.add(name="value", number=2, type=kind, type_name=type_name, label=_Field.LABEL_OPTIONAL)
        add(name, number, _Field.TYPE_MESSAGE, f".antiphon_test.Ping.{entry.name}", many=True)

    service = file.service.add(name="Probe")
    service.method.add(name="Echo", input_type=".antiphon_test.Ping", output_type=".antiphon_test.Ping")
    service.method.add(name="Wait", input_type=".antiphon_test.Ping", output_type=".antiphon_test.Ping")
    service.method.add(
        name="Count", input_type=".antiphon_test.Ping", output_type=".antiphon_test.Ping", server_streaming=True
    )
    service.method.add(
        name="Collect", input_type=".antiphon_test.Ping", output_type=".antiphon_test.Ping", client_streaming=True
    )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(_FILE)


_DESCRIPTOR = _build()
PROBE = _DESCRIPTOR.services_by_name["Probe"]
Ping: Any = GetMessageClass(_DESCRIPTOR.message_types_by_name["Ping"])

TABLE = {f"antiphon_test.Probe/{name}": frozenset({Role.CLIENT}) for name in ("Echo", "Wait", "Count", "Collect")}

ECHO, WAIT, COUNT, COLLECT = (f"/antiphon_test.Probe/{name}" for name in ("Echo", "Wait", "Count", "Collect"))

GUARD_SECONDS = 10.0

WAIT_SECONDS = 0.1
"""The default deadline of Wait and Count: short, since tests wait for it."""

READER_SECONDS = 2.0
"""That a reader of Count may take for a message."""

Body = Callable[[Any, Call], Awaitable[Any]]


async def _same(request: Any, _call: Call) -> Any:
    return request


async def _last(requests: AsyncIterator[Any], _call: Call) -> Any:
    return [request async for request in requests][-1]


class Probe:
    """Does what the test says; Echo answers with its request otherwise."""

    def __init__(self) -> None:
        self.echo: Body = _same
        self.wait: Body = _same
        self.collect: Callable[[AsyncIterator[Any], Call], Awaitable[Any]] = _last
        self.count: Callable[[Any, Call], AsyncIterator[Any]] | None = None
        self.calls: list[Call] = []

    @unary(deadline=5.0)
    async def Echo(self, request: Any, call: Call) -> Any:  # noqa: N802
        self.calls.append(call)
        return await self.echo(request, call)

    @unary(deadline=WAIT_SECONDS, limit="waiters")
    async def Wait(self, request: Any, call: Call) -> Any:  # noqa: N802
        self.calls.append(call)
        return await self.wait(request, call)

    @client_stream(deadline=5.0)
    async def Collect(self, requests: AsyncIterator[Any], call: Call) -> Any:  # noqa: N802
        self.calls.append(call)
        return await self.collect(requests, call)

    @server_stream(deadline=WAIT_SECONDS, patience=READER_SECONDS)
    async def Count(self, request: Any, call: Call) -> AsyncIterator[Any]:  # noqa: N802
        self.calls.append(call)
        assert self.count is not None
        async for message in self.count(request, call):
            yield message


class Bench:
    """A running server with its probe, its log and a channel to it."""

    def __init__(self, server: Server, probe: Probe, process: Process, log: io.BytesIO) -> None:
        self.server = server
        self.probe = probe
        self.process = process
        self._log = log

    def log(self) -> str:
        """Everything logged so far."""
        assert self.process.telemetry.sink.flush(5)
        return self._log.getvalue().decode()

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value now, 0 if it was never touched."""
        return self.process.telemetry.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def serving(
    state_dir: Path,
    *,
    limits: Mapping[str, int] | None = None,
    log_sample: float = 0.0,
    listen: str = "127.0.0.1:0",
    memory: Callable[[Telemetry], Memory] | None = None,
    **settings: Any,
) -> AsyncIterator[Bench]:
    """A ready server on a free port of loopback."""
    log = io.BytesIO()
    values = {"state_dir": state_dir, "metrics_listen": "off", "drain_grace": 1.0, **settings}
    telemetry = Telemetry("probe", log_sample=log_sample, stream=log)
    process = Process("probe", telemetry, Shutdown())
    server = Server(
        "probe",
        SuiteSettings(**values),
        process,
        listen=listen,
        variable="ANTIPHON_PROBE_LISTEN",
        limits={"waiters": 4, **(limits or {})},
        spared={"waiters"},
        table=TABLE,
        memory=None if memory is None else memory(telemetry),
    )
    probe = Probe()
    server.add(probe, PROBE)
    try:
        await server.start()
        server.set_ready(True)
        yield Bench(server, probe, process, log)
    finally:
        await server.stop()
        telemetry.close()


@asynccontextmanager
async def connected(target: str, options: Sequence[tuple[str, Any]] = ()) -> AsyncIterator[Any]:
    """A channel whose methods take and give bytes."""
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield channel


async def until(state: Callable[[], bool]) -> None:
    """Wait for what a server tells nobody: it has seen a change of a file, the kernel has closed a descriptor."""
    async with asyncio.timeout(GUARD_SECONDS):
        while not state():  # noqa: ASYNC110 -- as said
            await asyncio.sleep(0.01)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The error that a call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call succeeded")


class Details:
    """The `google.rpc` details of an error; each is None when absent."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        raw = dict(error.trailing_metadata() or ()).get(GRPC_DETAILS_METADATA_KEY)
        self.status = status_pb2.Status.FromString(raw) if isinstance(raw, bytes) else None
        self.info = self._find(error_details_pb2.ErrorInfo)
        self.retry = self._find(error_details_pb2.RetryInfo)
        self.bad = self._find(error_details_pb2.BadRequest)

    def _find(self, kind: Any) -> Any:
        for detail in self.status.details if self.status else ():
            if detail.Is(kind.DESCRIPTOR):
                found = kind()
                detail.Unpack(found)
                return found
        return None


class PanicException(BaseException):
    """Has the base and the name of what a Rust panic becomes (`pyo3_runtime.PanicException`)."""


def raising(error: BaseException) -> Any:
    async def body(_request: Any, _call: Any) -> Any:
        raise error

    return body


async def drained(stream: Any) -> list[bytes]:
    return [message async for message in stream]


async def still_serves(channel: Any) -> bool:
    answer = await channel.unary_unary(ECHO)(Ping(text="still here").SerializeToString(), timeout=GUARD_SECONDS)
    return bool(Ping.FromString(answer).text == "still here")
