"""One child process of `antiphon up`: started, watched until it serves, restarted with back-off, stopped.

A child is a direct child in a session of its own, so that Ctrl-C in the terminal reaches `up` alone and the children
are stopped in order. It holds the read end of a pipe whose write end only `up` has: when `up` dies, however suddenly,
the child sees the end of the file and stops by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.chassis import runfile
from services.chassis.settings import EX_CONFIG, PARENT_PIPE_VARIABLE

Report = Callable[[str, str], None]
"""Called with a child's name and its new state, for a person to read."""

FIRST_BACKOFF = 0.2
LAST_BACKOFF = 10.0
"""Seconds before a restart: doubled from the first to the last."""

STEADY_SECONDS = 30.0
"""A child that has run this long starts again with the first back-off."""

POLL_SECONDS = 0.05
"""How often a starting child is asked whether it serves."""

WATCH_SECONDS = 1.0
"""How often a serving child is asked whether it still does."""


class ConfigurationError(Exception):
    """A child ended because a setting is wrong; it has said which on stderr."""


@dataclass
class Child:
    """One process. `probe` says whether the process behind an address is ready for work."""

    name: str
    module: str
    environ: Mapping[str, str]
    state_dir: Path
    pipe: int
    report: Report
    probe: Callable[[str], Awaitable[bool]]
    address: str = ""
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    _process: asyncio.subprocess.Process | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _killed: bool = False

    async def run(self) -> None:
        """Keep the process running until `stop`; raises `ConfigurationError` if it cannot."""
        backoff = FIRST_BACKOFF
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            began = loop.time()
            code = await self._run_once()
            self.serving.clear()
            if self._stop.is_set():
                return
            if code == EX_CONFIG:
                raise ConfigurationError(self.name)
            if loop.time() - began >= STEADY_SECONDS:
                backoff = FIRST_BACKOFF
            self.report(self.name, f"{_ending(code)}; starting again in {backoff:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff):
                    await self._stop.wait()
            backoff = min(backoff * 2, LAST_BACKOFF)

    async def stop(self, grace: float) -> bool:
        """End the process: SIGTERM, after `grace` seconds SIGKILL. True if it ended by itself."""
        self._stop.set()
        process = self._process
        if process is None or (process.returncode is not None and not self._killed):
            return True
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(grace):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            self.report(self.name, f"did not end within {grace:g} s and was killed")
            return False
        self.report(self.name, "killed" if self._killed else "stopped")
        return process.returncode == 0

    def kill(self) -> None:
        """End the process at once."""
        self._stop.set()
        if self._process is not None and self._process.returncode is None:
            self._killed = True
            self._process.kill()

    async def _run_once(self) -> int:
        environ = {**self.environ, PARENT_PIPE_VARIABLE: str(self.pipe)}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # what lies in the current folder is not code of ours
            "-m",
            self.module,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(self.pipe,),
            start_new_session=True,
        )
        if self._stop.is_set():  # asked to stop while the process was being made
            self._process.terminate()
        self.report(self.name, f"started, pid {self._process.pid}")
        watching = asyncio.create_task(self._watch(self._process.pid))
        try:
            return await self._process.wait()
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def _watch(self, pid: int) -> None:
        """Report when the process begins and ceases to serve."""
        while True:
            ready = False
            found = runfile.read(self.state_dir, self.name)
            if found is not None and found.pid == pid and found.address:
                self.address = found.address
                ready = await self.probe(found.probe or found.address)
            if ready and not self.serving.is_set():
                self.serving.set()
                self.report(self.name, f"serving at {self.address}")
            elif not ready and self.serving.is_set():
                self.serving.clear()
                if not self._stop.is_set():
                    self.report(self.name, "not serving")
            await asyncio.sleep(WATCH_SECONDS if ready else POLL_SECONDS)


def _ending(code: int) -> str:
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"ended with status {code}"


def parent_pipe() -> tuple[int, int]:
    """Return the read end for the children and the write end that only this process may have."""
    return os.pipe()
