"""What `antiphon up` says of a process that it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.children import Child

GRACE = 30.0


@pytest.fixture
def pipe() -> Iterator[int]:
    read_end, write_end = os.pipe()
    yield read_end
    os.close(read_end)
    os.close(write_end)


def waiting_child(folder: Path, pipe: int, reports: list[str], started: asyncio.Event) -> Child:
    """A child that does nothing until a signal ends it."""
    (folder / "waits_for_a_signal.py").write_text("import signal\nsignal.pause()\n")

    def report(_name: str, what: str) -> None:
        reports.append(what)
        started.set()

    async def probe(_address: str) -> bool:
        return False

    environ = {**os.environ, "PYTHONPATH": str(folder)}
    return Child("child", "waits_for_a_signal", environ, folder, pipe, report, probe)


@pytest.mark.parametrize("reaped", [False, True])
async def test_a_process_that_was_killed_is_not_called_stopped(tmp_path: Path, pipe: int, reaped: bool) -> None:
    reports: list[str] = []
    started = asyncio.Event()
    child = waiting_child(tmp_path, pipe, reports, started)
    async with asyncio.timeout(GRACE), asyncio.TaskGroup() as group:
        running = group.create_task(child.run())
        await started.wait()
        child.kill()
        if reaped:
            await running
        assert not await child.stop(GRACE)
    assert reports[-1] == "killed"


async def test_a_process_that_ends_when_it_is_asked_to_is_called_stopped(tmp_path: Path, pipe: int) -> None:
    reports: list[str] = []
    started = asyncio.Event()
    child = waiting_child(tmp_path, pipe, reports, started)
    async with asyncio.timeout(GRACE), asyncio.TaskGroup() as group:
        group.create_task(child.run())
        await started.wait()
        await child.stop(GRACE)
    assert reports[-1] == "stopped"
