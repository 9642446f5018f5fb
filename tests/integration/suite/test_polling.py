"""Services read what comes in on the thread that waits for it, and not on threads of gRPC's event engine."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.polling import VARIABLE, WITHOUT_LISTENER, poll_at_once
from tests.suite_process import SERVICES, SuiteProcess

ENGINE = "event_engine\n"

CALLS = 500
"""Each wakes threads of the engine four times where they read."""


def engine_switches(pid: int) -> int:
    """How often threads of the event engine ran."""
    threads = [thread for thread in Path(f"/proc/{pid}/task").iterdir() if (thread / "comm").read_text() == ENGINE]
    lines = [line for thread in threads for line in (thread / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def asked(address: str, count: int) -> None:
    with grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for _ in range(count):
            assert check(health_pb2.HealthCheckRequest(), timeout=20).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.skipif(sys.platform != "linux", reason="threads are looked at in /proc")
async def test_no_call_wakes_a_thread_of_the_event_engine(suite: SuiteProcess) -> None:
    for service in SERVICES:
        address, pid = suite.address(service), suite.pid(service)
        await asyncio.to_thread(asked, address, 10)
        before = engine_switches(pid)
        await asyncio.to_thread(asked, address, CALLS)
        assert engine_switches(pid) - before < CALLS, service
    assert "Unknown experiment" not in suite.errors, "gRPC has no such switch any more"


def test_who_has_set_the_variable_is_heeded() -> None:
    environ = {VARIABLE: "tcp_rcv_lowat"}
    poll_at_once(environ)
    assert environ == {VARIABLE: "tcp_rcv_lowat"}
    environ = {}
    poll_at_once(environ)
    assert environ == {VARIABLE: WITHOUT_LISTENER}
