"""A process whose log nobody reads: it answers, counts what it had to drop, and ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis import runfile
from tests.integration.chassis.probe import ECHO, connected

GUARD_SECONDS = 30.0
ROOT = Path(__file__).parents[3]

CALLS = 1_000
"""Each is logged with some 200 bytes: three times of what a pipe of Linux holds."""


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    """Read end and write end; those still in the list are closed in the end."""
    ends = list(os.pipe())
    yield ends
    for end in ends:
        os.close(end)


async def answered(address: str, count: int) -> None:
    async with connected(address) as channel, asyncio.timeout(GUARD_SECONDS):
        echo = channel.unary_unary(ECHO)
        for _ in range(count):
            await echo(b"", timeout=GUARD_SECONDS)


def dropped(metrics: str) -> float:
    page = urllib.request.urlopen(f"http://{metrics}/metrics", timeout=GUARD_SECONDS).read().decode()
    (line,) = [text for text in page.splitlines() if text.startswith("antiphon_log_lines_dropped ")]
    return float(line.split()[1])


@pytest.mark.fault(57)
@pytest.mark.parametrize("gone", [False, True], ids=["nobody reads", "the reader has gone"])
async def test_a_log_that_nobody_takes_holds_up_nothing(tmp_path: Path, pipe: list[int], gone: bool) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    environ |= {
        "PYTHONPATH": str(ROOT),
        "ANTIPHON_STATE_DIR": str(tmp_path),
        "ANTIPHON_CACHE_LISTEN": "127.0.0.1:0",
        "ANTIPHON_LOG_SAMPLE": "1",
    }
    process = subprocess.Popen(  # noqa: ASYNC220 -- its pipe must stay unread, which asyncio would read
        [sys.executable, "-m", "tests.integration.chassis.probe_process"],
        env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=pipe[1],
    )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"SERVING\n"
            os.close(pipe.pop())
            if gone:
                os.close(pipe.pop())
            found: Any = runfile.read(tmp_path, "cache")
            await answered(found.address, CALLS)
            assert (await asyncio.to_thread(dropped, found.metrics) >= CALLS / 2) is gone
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, GUARD_SECONDS) == 0
        finally:
            process.kill()
