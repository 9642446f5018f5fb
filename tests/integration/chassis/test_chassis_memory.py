"""Near the end of its memory a server refuses new calls, and takes them again when there is more."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from services.chassis.memory import Memory
from services.chassis.telemetry import Telemetry
from tests.integration.chassis.probe import ECHO, WAIT, connected, refused, serving, until

LIMIT = 1_000_000


class Cgroup:
    """Files of one of the two versions, in a folder of the test's."""

    def __init__(self, folder: Path, *, version: int, path: str = "/") -> None:
        self.root, self.own = folder, folder / "own"
        first = version == 1
        self._folder = folder / ("memory" if first else "") / path.lstrip("/")
        self._folder.mkdir(parents=True, exist_ok=True)
        self.own.write_text(f"5:cpu:{path}\n4:memory:{path}\n" if first else f"0::{path}\n")
        self._usage = "memory.usage_in_bytes" if first else "memory.current"
        self._limit = "memory.limit_in_bytes" if first else "memory.max"
        self._inactive = "total_inactive_file" if first else "inactive_file"
        self.none = str((1 << 63) - 4096) if first else "max"
        self.use(0)
        self.limit(str(LIMIT))

    def use(self, share: float, *, cache: float = 0.0) -> None:
        """Use this share of the limit for good, and another one for files that can be dropped."""
        (self._folder / "memory.stat").write_text(f"anon 5\n{self._inactive} {round(cache * LIMIT)}\n")
        (self._folder / self._usage).write_text(f"{round((share + cache) * LIMIT)}\n")

    def limit(self, text: str) -> None:
        (self._folder / self._limit).write_text(f"{text}\n")

    def memory(self, telemetry: Telemetry) -> Memory:
        return Memory(telemetry, root=self.root, own=self.own)


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry("test", stream=io.BytesIO())
    yield made
    made.close()


@pytest.mark.fault(52)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("path", ["/", "/kubepods/pod1"])
async def test_it_is_short_from_85_percent_on_until_80(
    tmp_path: Path, telemetry: Telemetry, version: int, path: str
) -> None:
    cgroup = Cgroup(tmp_path, version=version, path=path)
    memory = cgroup.memory(telemetry)
    for share, short in [(0.5, False), (0.84, False), (0.85, True), (0.81, True), (0.79, False), (0.84, False)]:
        cgroup.use(share, cache=0.5)
        assert await memory.look()
        assert memory.short is short, share


@pytest.mark.parametrize("version", [1, 2])
async def test_without_a_limit_or_its_files_nothing_is_refused(
    tmp_path: Path, telemetry: Telemetry, version: int
) -> None:
    cgroup = Cgroup(tmp_path, version=version)
    memory = cgroup.memory(telemetry)
    cgroup.use(2.0)
    for limit in (cgroup.none, "nonsense"):
        cgroup.limit(limit)
        assert not await memory.look()
        assert not memory.short
    for missing in (tmp_path / "nowhere", tmp_path):
        nothing = Memory(telemetry, root=missing / "no", own=missing / "own")
        assert not await nothing.look()


async def test_this_machine_can_be_read(telemetry: Telemetry) -> None:
    memory = Memory(telemetry)
    await memory.look()
    assert not memory.short


@pytest.mark.fault(52)
async def test_new_calls_are_refused_and_those_that_end_something_are_not(tmp_path: Path) -> None:
    cgroup = Cgroup(tmp_path / "cgroup", version=2)
    async with (
        serving(tmp_path, memory=cgroup.memory) as bench,
        connected(bench.server.address) as channel,
    ):
        assert await channel.unary_unary(ECHO)(b"", timeout=10) == b""
        cgroup.use(0.9)
        await until(lambda: bench.server._memory.short)
        error = await refused(channel.unary_unary(ECHO)(b"", timeout=10))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "memory" in (error.details() or "")
        assert await channel.unary_unary(WAIT)(b"", timeout=10) == b"", "its group is spared"
        assert bench.metric("antiphon_memory_used_share") == pytest.approx(0.9)
        cgroup.use(0.5)
        await until(lambda: not bench.server._memory.short)
        assert await channel.unary_unary(ECHO)(b"", timeout=10) == b""
