"""A process from its start to its exit status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis import runfile
from tests.integration.chassis.probe import ECHO, WAIT, Ping, connected

GUARD_SECONDS = 30.0
ROOT = Path(__file__).parents[3]

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[Process] = []

    async def start_one(*, line: str | None = "SERVING", pass_fds: tuple[int, ...] = (), **variables: str) -> Process:
        number = len(running)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
        environ |= {
            "PYTHONPATH": str(ROOT),
            "ANTIPHON_STATE_DIR": str(tmp_path / str(number)),
            "ANTIPHON_CACHE_LISTEN": "127.0.0.1:0",
            **variables,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.chassis.probe_process",
            env=environ, cwd=tmp_path, stdout=PIPE, stderr=PIPE, pass_fds=pass_fds,
        )  # fmt: skip
        running.append(process)
        if line is not None:
            await said(process, line)
        return process

    yield start_one
    for process in running:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: Process, line: str) -> None:
    """Wait until the process has written this line."""
    assert process.stdout is not None
    async with asyncio.timeout(GUARD_SECONDS):
        assert (await process.stdout.readline()).decode() == line + "\n"


async def ended(process: Process) -> tuple[int, str]:
    """Exit status and stderr."""
    async with asyncio.timeout(GUARD_SECONDS):
        _, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stderr.decode()


def address(tmp_path: Path, number: int = 0) -> str:
    found = runfile.read(tmp_path / str(number), "cache")
    assert found is not None
    assert found.address is not None
    return found.address


@asynccontextmanager
async def channel_to(target: str) -> AsyncIterator[Any]:
    # round_robin keeps a connection to every address, and goes on with the rest when one says goodbye.
    options = [("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}')]
    async with connected(target, options=options) as channel:
        yield channel


@pytest.mark.fault(67)
async def test_a_running_call_outlives_the_signal_and_the_exit_is_clean(start: Start, tmp_path: Path) -> None:
    process = await start(ANTIPHON_CACHE_HOLD="0.5")
    async with channel_to(address(tmp_path)) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="readiness"))
        async with asyncio.timeout(GUARD_SECONDS):
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            call = channel.unary_unary(WAIT)(Ping(text="held").SerializeToString(), timeout=GUARD_SECONDS)
            await said(process, "held")
            process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert Ping.FromString(await call).text == "held"
    status, log = await ended(process)
    assert status == 0
    assert '"event":"stopped"' in log
    assert runfile.read(tmp_path / "0", "cache") is None


@pytest.mark.fault(67)
async def test_no_call_fails_when_one_of_two_servers_is_stopped(start: Start, tmp_path: Path) -> None:
    stopped, remaining = await start(), await start()
    target = f"ipv4:{address(tmp_path, 0)},{address(tmp_path, 1)}"
    answered, done = asyncio.Semaphore(0), asyncio.Event()

    async def caller(channel: Any) -> None:
        echo = channel.unary_unary(ECHO)
        while not done.is_set():
            await echo(b"", timeout=GUARD_SECONDS)
            answered.release()

    async with channel_to(target) as channel, asyncio.timeout(GUARD_SECONDS), asyncio.TaskGroup() as callers:
        for _ in range(16):
            callers.create_task(caller(channel))
        for _ in range(200):
            await answered.acquire()
        stopped.send_signal(signal.SIGTERM)
        await stopped.wait()
        while not answered.locked():
            await answered.acquire()
        for _ in range(200):
            await answered.acquire()
        done.set()
    assert (await ended(stopped))[0] == 0
    remaining.send_signal(signal.SIGTERM)
    assert (await ended(remaining))[0] == 0


async def test_a_call_that_does_not_end_is_ended_after_the_grace(start: Start, tmp_path: Path) -> None:
    process = await start(ANTIPHON_CACHE_HOLD="3600", ANTIPHON_DRAIN_GRACE="0.2")
    async with channel_to(address(tmp_path)) as channel:
        call = channel.unary_unary(WAIT)(b"", timeout=GUARD_SECONDS)
        await said(process, "held")
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert (await ended(process))[0] == 0


async def test_a_second_signal_does_not_wait(start: Start, tmp_path: Path) -> None:
    process = await start(ANTIPHON_CACHE_HOLD="3600", ANTIPHON_DRAIN_GRACE="3600", ANTIPHON_DRAIN_DELAY="300")
    async with channel_to(address(tmp_path)) as channel:
        call = channel.unary_unary(WAIT)(b"", timeout=GUARD_SECONDS)
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""))
        async with asyncio.timeout(GUARD_SECONDS):
            await watch.read()
            await said(process, "held")
            process.send_signal(signal.SIGINT)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            # In the delay it still takes calls from those who have not heard yet.
            await channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS)
            process.send_signal(signal.SIGINT)
            assert (await ended(process))[0] == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def test_a_signal_during_the_start_breaks_it_off(start: Start) -> None:
    process = await start(line="starting", ANTIPHON_CACHE_START="hang")
    process.send_signal(signal.SIGTERM)
    assert (await ended(process))[0] == 128 + signal.SIGTERM


async def test_a_defect_at_the_start_is_logged_without_its_text(start: Start) -> None:
    status, log = await ended(await start(line=None, ANTIPHON_CACHE_START="crash"))
    assert status == 70
    assert '"type":"builtins.ValueError"' in log
    assert "nobody may see" not in log


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"ANTIPHON_CACHE_HOLD": "s3cret"}, "ANTIPHON_CACHE_HOLD"),
        ({"ANTIPHON_CACHE_HODL": "s3cret"}, "ANTIPHON_CACHE_HODL"),
        ({"ANTIPHON_STATEDIR": "s3cret"}, "ANTIPHON_STATEDIR"),
        ({"ANTIPHON_CONFIG": "/nowhere/s3cret"}, "ANTIPHON_CONFIG"),
        ({"ANTIPHON_PARENT_PIPE_FD": "s3cret"}, "ANTIPHON_PARENT_PIPE_FD"),
        ({"ANTIPHON_CACHE_LISTEN": "192.0.2.1:7101"}, "ANTIPHON_CACHE_LISTEN"),
        ({"ANTIPHON_TLS_CERT_FILE": "/nowhere/s3cret"}, "ANTIPHON_TLS_KEY_FILE"),
        ({"ANTIPHON_TLS_CLIENT_CA_FILE": "/nowhere/s3cret"}, "ANTIPHON_TLS_CLIENT_CA_FILE"),
        (
            {"ANTIPHON_TLS_CERT_FILE": "/nowhere/s3cret", "ANTIPHON_TLS_KEY_FILE": "/nowhere/s3cret"},
            "ANTIPHON_TLS_CERT_FILE",
        ),
    ],
)
async def test_a_wrong_setting_is_exit_78_and_one_line(start: Start, variables: dict[str, str], key: str) -> None:
    status, stderr = await ended(await start(line=None, **variables))
    assert status == 78
    (line,) = [text for text in stderr.splitlines() if not text.startswith(("{", "E0000", "E1", "WARNING"))]
    assert line.startswith(f"antiphon cache: {key}: ")
    assert "s3cret" not in stderr
    assert "Traceback" not in stderr


async def test_a_process_ends_when_its_parent_dies(start: Start) -> None:
    read_end, write_end = os.pipe()
    try:
        process = await start(pass_fds=(read_end,), ANTIPHON_PARENT_PIPE_FD=str(read_end))
    finally:
        os.close(read_end)
    assert process.returncode is None
    os.close(write_end)  # what the kernel does for a parent that was killed
    assert (await ended(process))[0] == 0


async def test_an_orphan_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    script = f"""
import signal, time
from services.chassis.lifetime import watch_parent
signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM", flush=True))
watch_parent({{"ANTIPHON_PARENT_PIPE_FD": "{read_end}"}}, orphan_seconds=0.2)
while True:
    time.sleep(3600)
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=ROOT, stdout=PIPE, stderr=PIPE, pass_fds=(read_end,)
    )
    os.close(read_end)
    os.close(write_end)
    async with asyncio.timeout(GUARD_SECONDS):
        stdout, _ = await process.communicate()
    assert stdout == b"SIGTERM\n"
    assert process.returncode == -signal.SIGKILL
