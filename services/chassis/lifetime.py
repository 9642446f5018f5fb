"""When a process ends: on SIGTERM or SIGINT, and when the process that started it dies."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping

from services.chassis.settings import PARENT_PIPE_VARIABLE, SettingsError

_PR_SET_PDEATHSIG = 1  # prctl(2)

ORPHAN_SECONDS = 30.0
"""An orphan that has not ended by itself this long after its parent's death is killed."""


class Shutdown:
    """The request to stop, shared by the signal handlers and whoever drains.

    The first signal sets `requested`; one more sets `forced`: stop without waiting for running calls.
    """

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()
        self.awaited = False
        """Whether somebody drains on request; before that a signal can only break off the start."""

    def request(self) -> None:
        """Ask to stop; asking again forces it."""
        if self.requested.is_set():
            self.forced.set()
        self.requested.set()

    async def wait(self) -> None:
        """Until the process is asked to stop; the caller takes on the draining."""
        self.awaited = True
        await self.requested.wait()


def watch_parent(environ: Mapping[str, str], *, orphan_seconds: float = ORPHAN_SECONDS) -> threading.Thread | None:
    """End this process when its parent dies; does nothing unless the parent has passed down a pipe's read end.

    `ANTIPHON_PARENT_PIPE_FD` names it. Only the parent holds the write end, so its death, however sudden, is an end of
    file here, and becomes a SIGTERM to this process. A thread waits for it, so a blocked event loop does not matter.
    On Linux the kernel is asked for the same signal. `SettingsError` if the variable names no open file.
    """
    given = environ.get(PARENT_PIPE_VARIABLE)
    if not given:
        return None
    try:
        pipe = int(given)
        os.set_inheritable(pipe, False)
    except (ValueError, OSError, OverflowError):
        raise SettingsError(PARENT_PIPE_VARIABLE, "is not an open file descriptor") from None
    _ask_kernel()
    thread = threading.Thread(target=_await_end, args=(pipe, orphan_seconds), name="parent", daemon=True)
    thread.start()
    return thread


def _await_end(pipe: int, orphan_seconds: float) -> None:
    try:
        while os.read(pipe, 64):
            pass
    except OSError:  # closed under us: nobody can tell any more whether the parent lives
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(orphan_seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def _ask_kernel() -> None:
    if not sys.platform.startswith("linux"):
        return
    # If it fails the pipe does the work alone.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
