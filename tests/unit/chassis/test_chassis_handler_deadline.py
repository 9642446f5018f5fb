"""A call that comes too late is refused before any work is done for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from services.chassis.handler import bind, server_stream, unary
from services.chassis.limits import Limits
from services.chassis.telemetry import Telemetry

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]


class Recorder:
    """Implements a service of two methods, and remembers whether it was ever asked."""

    def __init__(self) -> None:
        self.asked = 0

    @unary(deadline=5.0)
    async def Check(self, _request: Any, _call: Any) -> Any:  # noqa: N802
        self.asked += 1
        return health_pb2.HealthCheckResponse()

    @server_stream(deadline=5.0)
    async def Watch(self, _request: Any, _call: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.asked += 1
        yield health_pb2.HealthCheckResponse()


class AbortedError(Exception):
    """What gRPC's context raises when it has sent a status."""


class Context:
    """gRPC's context of a call with this much time left."""

    def __init__(self, remaining: float | None) -> None:
        self._remaining = remaining
        self.code: grpc.StatusCode | None = None
        self.sent: list[bytes] = []

    def time_remaining(self) -> float | None:
        return self._remaining

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def peer(self) -> str:
        return "test"

    async def write(self, message: bytes) -> None:
        self.sent.append(message)

    async def abort(self, code: grpc.StatusCode, _details: str, _trailing: Any) -> None:
        self.code = code
        raise AbortedError


@pytest.fixture
def handlers() -> Any:
    registered: list[Any] = []
    telemetry = Telemetry("probe", log_sample=0.0)
    recorder = Recorder()
    server: Any = SimpleNamespace(add_generic_rpc_handlers=registered.extend)
    bind(server, recorder, HEALTH, telemetry=telemetry, limits=Limits(10))

    def handler(name: str) -> Any:
        found = registered[0].service(SimpleNamespace(method=f"/grpc.health.v1.Health/{name}", invocation_metadata=()))
        return found.unary_stream or found.unary_unary

    yield SimpleNamespace(of=handler, recorder=recorder)
    telemetry.close()


@pytest.mark.fault(7)
@pytest.mark.parametrize("name", ["Check", "Watch"])
async def test_a_call_whose_deadline_has_passed_never_reaches_its_method(handlers: Any, name: str) -> None:
    context = Context(0.0)
    with pytest.raises(AbortedError):
        await handlers.of(name)(b"", context)
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert handlers.recorder.asked == 0
    assert context.sent == []


@pytest.mark.parametrize("remaining", [None, 5.0])
@pytest.mark.parametrize("name", ["Check", "Watch"])
async def test_a_call_with_time_left_reaches_its_method(handlers: Any, name: str, remaining: float | None) -> None:
    async with asyncio.timeout(10):
        await handlers.of(name)(b"", Context(remaining))
    assert handlers.recorder.asked == 1
