"""Work that outlives the call that began it, and ends with the process at the latest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from services.chassis.errors import AntiphonError

T = TypeVar("T")


class Background:
    """Owns tasks: none is lost, none survives `aclose`, and a defect in one is reported."""

    def __init__(self, report: Callable[[str, BaseException], None]) -> None:
        """`report` gets a task's name and what it raised."""
        self._report = report
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Tasks that run."""
        return len(self._tasks)

    def start(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` on its own; whoever awaits the task has to shield it."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def finish(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which goes on to its end even if the caller of this is cancelled."""
        return await asyncio.shield(self.start(name, work))

    async def aclose(self) -> None:
        """Cancel what runs and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # A domain error is an answer, to whoever awaits the task; anything else is a defect.
        if error is not None and not isinstance(error, AntiphonError):
            self._report(task.get_name(), error)
