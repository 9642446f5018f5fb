"""A process that has no file descriptor left: it goes on with the connections it has, at rest, and recovers."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import psutil
import pytest

from services.chassis import runfile
from tests.integration.chassis.probe import ECHO, WAIT, Ping, connected, refused, until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prlimit(2) and /proc")

GUARD_SECONDS = 30.0
ROOT = Path(__file__).parents[3]
PROBE_PROCESS = "tests.integration.chassis.probe_process"

SPARE = 20
"""Descriptors that the process may still open."""

CONNECTIONS = 60
"""More than that, and fewer than the kernel queues for a listener (128)."""

WATCHED_SECONDS = 1.0
SPINNING = 0.1
"""Share of a processor that a process at rest stays far below (0.01), and one that spins far above."""

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the probe, below a shell that sets a limit."""
    with ExitStack() as stack:

        def start_one(ulimit: str = "true") -> subprocess.Popen[bytes]:
            environ = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
            environ |= {
                "PYTHONPATH": str(ROOT),
                "ANTIPHON_STATE_DIR": str(tmp_path),
                "ANTIPHON_CACHE_LISTEN": "127.0.0.1:0",
            }
            process = stack.enter_context(
                subprocess.Popen(
                    ["sh", "-c", f'{ulimit} && exec "$@"', "sh", sys.executable, "-m", PROBE_PROCESS],
                    env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"SERVING\n"
            return process

        yield start_one


def addresses(tmp_path: Path) -> tuple[str, str]:
    """Of the probe and of its metrics."""
    found = runfile.read(tmp_path, "cache")
    assert found is not None
    assert found.address is not None
    assert found.metrics is not None
    return found.address, found.metrics


def opened(stack: ExitStack, address: str, count: int) -> None:
    """Open connections that say nothing; the kernel takes them for the process, which may never learn of some."""
    host, _, port = address.rpartition(":")
    for _ in range(count):
        stack.enter_context(socket.create_connection((host, int(port)), timeout=GUARD_SECONDS))


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def metrics_page(metrics: str) -> bytes:
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=GUARD_SECONDS) as page:
        content: bytes = page.read()
    return content


@pytest.mark.fault(53)
async def test_out_of_descriptors_it_serves_whom_it_has_at_rest_and_then_everyone(start: Start, tmp_path: Path) -> None:
    process = start()
    address, metrics = addresses(tmp_path)
    pid = process.pid
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with connected(address, options) as early, connected(address, options) as late:
        await early.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS)
        limit = psutil.Process(pid).num_fds() + SPARE
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
        with ExitStack() as connections:
            opened(connections, address, CONNECTIONS)
            await until(lambda: psutil.Process(pid).num_fds() == limit)
            opened(connections, metrics, 3)

            waiting = asyncio.ensure_future(late.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS, wait_for_ready=True))
            before = cpu_seconds(pid)
            error = await refused(early.unary_unary(WAIT)(b"", timeout=WATCHED_SECONDS))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert cpu_seconds(pid) - before < WATCHED_SECONDS * SPINNING

            for number in range(100):
                sent = Ping(text=str(number)).SerializeToString()
                assert await early.unary_unary(ECHO)(sent, timeout=GUARD_SECONDS) == sent
            assert process.poll() is None
            assert not waiting.done()
        await waiting
    assert b"antiphon_" in await asyncio.to_thread(metrics_page, metrics)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, GUARD_SECONDS) == 0


@pytest.mark.fault(53)
async def test_a_low_soft_limit_is_no_limit(start: Start, tmp_path: Path) -> None:
    process = start("ulimit -S -n 48 && ulimit -H -n 512")
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (512, 512)
    address, _ = addresses(tmp_path)
    with ExitStack() as connections:
        opened(connections, address, CONNECTIONS)
        await until(lambda: psutil.Process(process.pid).num_fds() > CONNECTIONS)
        async with connected(address) as channel:
            await channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS)
