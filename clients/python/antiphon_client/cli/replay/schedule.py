"""Which line may be sent next: those of one namespace strictly one after the other, those of different ones at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator

from antiphon_client.cli.replay.lines import Line

AHEAD_LINES = 10_000
"""Lines that are read and not sent yet: namespaces that lie further apart in the file are not replayed at once."""

AHEAD_BYTES = 64 * 1024 * 1024
"""Bytes of such lines, about."""

_CHUNK_LINES = 256
_CHUNK_BYTES = 1024 * 1024
"""What is read in one go at most, and a line more."""


async def in_order(lines: Iterator[Line], send: Callable[[Line], Awaitable[None]], *, concurrency: int) -> None:
    """Send every line, at most `concurrency` at once; of one namespace the next only when `send` of the last is done.

    What `lines` or `send` raise ends all that runs and comes out in an exception group.
    """
    schedule = _Schedule(lines)
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(_work(schedule, send))


async def _work(schedule: _Schedule, send: Callable[[Line], Awaitable[None]]) -> None:
    while (line := await schedule.take()) is not None:
        await send(line)
        await schedule.done(line)


class _Schedule:
    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._read_all = False
        self._waiting: defaultdict[str, deque[Line]] = defaultdict(deque)
        self._busy: set[str] = set()
        self._ready: deque[str] = deque()
        self._count = self._bytes = 0
        self._changed = asyncio.Condition()

    async def take(self) -> Line | None:
        """Return a line that may be sent now, waiting for one if need be; None when there are no more."""
        async with self._changed:
            while not self._ready:
                if not self._read_all and self._count < AHEAD_LINES and self._bytes < AHEAD_BYTES:
                    await self._read()
                elif not self._count:
                    return None
                else:
                    await self._changed.wait()
            namespace = self._ready.popleft()
            self._busy.add(namespace)
            line = self._waiting[namespace].popleft()
            self._count -= 1
            self._bytes -= line.size
            if not self._read_all:
                self._changed.notify()  # there is room to read more
            elif not self._count:
                self._changed.notify_all()  # nothing will come for those who wait
            return line

    async def done(self, line: Line) -> None:
        """The line was sent: the next of its namespace may go."""
        async with self._changed:
            self._busy.discard(line.namespace)
            if self._waiting[line.namespace]:
                self._ready.append(line.namespace)
                self._changed.notify()
            else:
                del self._waiting[line.namespace]

    async def _read(self) -> None:
        chunk, self._read_all = await asyncio.to_thread(_chunk, self._lines)
        for line in chunk:
            if line.namespace not in self._busy and not self._waiting[line.namespace]:
                self._ready.append(line.namespace)
            self._waiting[line.namespace].append(line)
            self._count += 1
            self._bytes += line.size
        self._changed.notify_all()


def _chunk(lines: Iterator[Line]) -> tuple[list[Line], bool]:
    """Return the next lines, and whether they are the last."""
    chunk: list[Line] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += line.size
        if len(chunk) == _CHUNK_LINES or size >= _CHUNK_BYTES:
            return chunk, False
    return chunk, True
