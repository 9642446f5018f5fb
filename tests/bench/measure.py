"""CPU time of server processes per call: interleaved rounds, the minimum of each."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import psutil

_CPUCLOCK_SCHED = 2
"""linux/posix-timers.h"""

Body = Callable[[int], Awaitable[None]]
"""One call; the number is unique in the whole run."""


@dataclass
class Line:
    """One figure: `calls` calls per round by `concurrency` callers, charged to the processes `pids`.

    A call that does the work of several counts as `worth` calls in the figures.
    """

    name: str
    pids: Sequence[int]
    body: Body
    calls: int
    concurrency: int = 16
    worth: int = 1
    rounds: list[float] = field(default_factory=list)
    """CPU microseconds of the server processes per call, by round."""
    wall: list[float] = field(default_factory=list)
    """Wall-clock microseconds per call, by round."""
    number: int = 0

    @property
    def best(self) -> float:
        """The minimum over rounds, in microseconds of CPU time."""
        return min(self.rounds)


def _cpu(pids: Sequence[int]) -> float:
    return sum(map(cpu_of, pids))


def cpu_of(pid: int) -> float:
    """CPU seconds of a process."""
    if sys.platform == "linux":
        # A process's CPU clock (clock_getcpuclockid(3)): its times elsewhere are in ticks, 12 µs a call in 800 calls.
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def _round(line: Line) -> None:
    async def caller(count: int) -> None:
        for _ in range(count):
            line.number += 1
            await line.body(line.number)

    before, began = _cpu(line.pids), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(line.concurrency):
            group.create_task(caller(line.calls // line.concurrency))
    done = line.calls // line.concurrency * line.concurrency * line.worth
    line.wall.append((time.perf_counter() - began) / done * 1e6)
    line.rounds.append((_cpu(line.pids) - before) / done * 1e6)


async def measure(lines: Sequence[Line], rounds: int) -> None:
    """Run every line once per round, in turn, so that a noisy minute hits all alike."""
    for line in lines:
        for _ in range(line.concurrency):
            line.number += 1
            await line.body(line.number)
    for _ in range(rounds):
        for line in lines:
            await _round(line)
