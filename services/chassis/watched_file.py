"""A small file that somebody replaces while the process runs: a secret, a list of keys."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

POLL_SECONDS = 0.4
"""How often a file is looked at, so that a change is in use well within a second."""

MAX_BYTES = 16 * 1024 * 1024

SETTLED_NS = 2_000_000_000
"""Time stamps are coarse (up to 2 s): a file younger than this when it was read may have changed since unseen."""


class WatchedFile:
    """Tells the contents of a file one after the other. It is followed by name, through links, however it is replaced.

    Reading blocks for as long as the disk does, so call it in a thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._signature: tuple[int, ...] | None = None
        self._last: bytes | OSError | None = None

    def poll(self) -> bytes | OSError | None:
        """The content, or why it cannot be read; None if that is what was returned the last time."""
        try:
            news: bytes | OSError | None = self._read()
        except OSError as error:
            self._signature = None
            news = error
        if news is None or _same(news, self._last):
            return None
        self._last = news
        return news

    def _read(self) -> bytes | None:
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for its other end
            raise OSError(errno.EINVAL, "not a regular file")
        if self._signature is not None and _signature(found) == self._signature:
            return None
        began = time.time_ns()
        with self.path.open("rb") as file:
            opened = os.fstat(file.fileno())
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise OSError(errno.EFBIG, "too large")
        settled = began - opened.st_mtime_ns > SETTLED_NS and began - opened.st_ctime_ns > SETTLED_NS
        self._signature = _signature(opened) if settled else None
        return content


def _signature(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _same(one: bytes | OSError, other: bytes | OSError | None) -> bool:
    if isinstance(one, OSError):
        return isinstance(other, OSError) and one.errno == other.errno
    return one == other
