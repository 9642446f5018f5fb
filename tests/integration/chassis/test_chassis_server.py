"""The server around the methods: health, reflection, metrics, run file, addresses."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis import runfile
from services.chassis.handler import bind, server_stream, unary
from services.chassis.limits import Limits
from services.chassis.server import Server
from services.chassis.settings import SettingsError, SuiteSettings
from services.chassis.telemetry import Telemetry
from tests.integration.chassis.probe import ECHO, PROBE, Bench, Probe, connected, refused, serving

GUARD_SECONDS = 10.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def check(channel: Any, name: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=GUARD_SECONDS)
    return int(response.status)


async def test_health_follows_readiness_except_for_liveness(bench: Bench, channel: Any) -> None:
    dependent = ["", "readiness", "antiphon_test.Probe"]
    assert [await check(channel, name) for name in dependent] == [SERVING] * 3
    bench.server.set_ready(False)
    assert [await check(channel, name) for name in dependent] == [NOT_SERVING] * 3
    assert await check(channel, "liveness") == SERVING
    bench.server.set_ready(True)
    assert await check(channel, "readiness") == SERVING


async def test_health_of_a_service_that_is_not_here_is_not_found(channel: Any) -> None:
    error = await refused(check(channel, "antiphon_test.Other"))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_health_is_answered_while_all_places_are_taken(tmp_path: Path) -> None:
    entered = asyncio.Event()

    async def stuck(_request: Any, _call: Any) -> Any:
        entered.set()
        await asyncio.Event().wait()

    async with (
        serving(tmp_path, max_concurrent_rpcs=1, drain_grace=0.0) as bench,
        connected(bench.server.address) as channel,
    ):
        bench.probe.echo = stuck
        call = channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS)
        async with asyncio.timeout(GUARD_SECONDS):
            await entered.wait()
        assert await check(channel, "readiness") == SERVING
        call.cancel()


async def test_watchers_see_every_change_also_after_another_watcher_left(bench: Bench, channel: Any) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="readiness")
    leaver, stayer = stub.Watch(request), stub.Watch(request)
    unknown = stub.Watch(health_pb2.HealthCheckRequest(service="antiphon_test.Other"))
    async with asyncio.timeout(GUARD_SECONDS):
        assert [(await watch.read()).status for watch in (leaver, stayer, unknown)] == [
            SERVING,
            SERVING,
            SERVICE_UNKNOWN,
        ]
        leaver.cancel()
        bench.server.set_ready(False)
        assert (await stayer.read()).status == NOT_SERVING
        bench.server.set_ready(True)
        assert (await stayer.read()).status == SERVING


async def test_a_watcher_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, drain_grace=3600.0) as bench,
        connected(bench.server.address) as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        async with asyncio.timeout(GUARD_SECONDS):
            assert (await watch.read()).status == SERVING
            await bench.server.stop()
            assert (await watch.read()).status == NOT_SERVING
            assert (await refused(watch.read())).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("reflection", [True, False])
async def test_reflection_is_a_setting(tmp_path: Path, reflection: bool) -> None:
    async with (
        serving(tmp_path, reflection=reflection) as bench,
        connected(bench.server.address) as channel,
    ):
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=GUARD_SECONDS
        )
        if not reflection:
            assert (await refused(call.read())).code() is grpc.StatusCode.UNIMPLEMENTED
            return
        services = {service.name for service in (await call.read()).list_services_response.service}
        assert {"antiphon_test.Probe", "grpc.health.v1.Health"} <= services


async def test_metrics_are_scraped_over_http_and_the_run_file_says_where(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, metrics_listen="127.0.0.1:0") as bench,
        connected(bench.server.address) as channel,
    ):
        await channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS)
        found = runfile.read(tmp_path, "probe")
        assert found is not None
        assert (found.pid, found.address) == (os.getpid(), bench.server.address)
        url = f"http://{found.metrics}/metrics"
        page = (await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=GUARD_SECONDS).read())).decode()
        assert 'antiphon_rpcs_total{code="OK",method="antiphon_test.Probe/Echo"} 1.0' in page
        assert "process_resident_memory_bytes" in page
    assert runfile.read(tmp_path, "probe") is None


@pytest.mark.parametrize("taken", ["cache_listen", "metrics_listen"])
async def test_an_address_in_use_names_its_setting(bench: Bench, tmp_path: Path, taken: str) -> None:
    values: dict[str, Any] = {"state_dir": tmp_path, "metrics_listen": "127.0.0.1:0", taken: bench.server.address}
    settings = SuiteSettings(**values)
    listen = bench.server.address if taken == "cache_listen" else "127.0.0.1:0"
    server = Server("second", settings, bench.process, listen=listen, variable="ANTIPHON_CACHE_LISTEN")
    with pytest.raises(SettingsError) as error:
        await server.start()
    assert error.value.key == f"ANTIPHON_{taken.upper()}"
    assert bench.server.address not in str(error.value)
    await server.stop()


async def test_a_state_folder_that_cannot_be_written_names_its_setting(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = SuiteSettings(state_dir=tmp_path / "file", metrics_listen="off", drain_grace=0.0)
    server = Server("second", settings, bench.process, listen="127.0.0.1:0", variable="ANTIPHON_CACHE_LISTEN")
    with pytest.raises(SettingsError) as error:
        await server.start()
    assert error.value.key == "ANTIPHON_STATE_DIR"
    await server.stop()


class _Partial:
    @unary(deadline=1.0)
    async def Echo(self, request: Any, _call: Any) -> Any:  # noqa: N802
        return request


class _Extra(Probe):
    @unary(deadline=1.0)
    async def Ecko(self, request: Any, _call: Any) -> Any:  # noqa: N802
        return request


class _WrongKind(Probe):
    @server_stream(deadline=1.0)
    async def Echo(self, request: Any, _call: Any) -> AsyncIterator[Any]:  # type: ignore[override]  # noqa: N802
        yield request


@pytest.mark.parametrize(
    ("servicer", "groups", "named"),
    [
        (_Partial(), {"waiters": 1}, "Count, Wait"),
        (_Extra(), {"waiters": 1}, "Ecko"),
        (_WrongKind(), {"waiters": 1}, "Echo"),
        (Probe(), {}, "waiters"),
    ],
)
async def test_a_servicer_that_does_not_match_is_a_type_error(
    servicer: object, groups: dict[str, int], named: str
) -> None:
    telemetry = Telemetry("probe")
    with pytest.raises(TypeError, match=named):
        bind(grpc.aio.server(), servicer, PROBE, telemetry=telemetry, limits=Limits(1, groups))
    telemetry.close()
