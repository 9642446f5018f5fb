"""Where log lines go: a bounded queue and one thread that writes, so that a stuck reader never blocks a server."""

from __future__ import annotations

import threading
from collections import deque
from typing import BinaryIO

QUEUE_LINES = 10_000
"""Lines kept while the reader is stuck (a few MB); later ones are dropped and counted."""


class LogSink:
    """Writes lines in order; `write` returns at once. `dropped` counts the lines that found the queue full."""

    def __init__(self, stream: BinaryIO, *, capacity: int = QUEUE_LINES) -> None:
        self.dropped = 0
        self._stream = stream
        self._capacity = capacity
        self._lines: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._writing = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line (without its newline), or drop it when the queue is full."""
        with self._changed:
            if len(self._lines) >= self._capacity:
                self.dropped += 1
                return
            self._lines.append(line)
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything queued is written, at most `timeout` seconds; false if that was not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._writing, timeout)

    def close(self, timeout: float = 1.0) -> None:
        """Write what is queued, at most for `timeout` seconds, and end the thread."""
        self.flush(timeout)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                batch = b"\n".join(self._lines) + b"\n"
                lines = len(self._lines)
                self._lines.clear()
                self._writing = True
            try:
                self._stream.write(batch)
                self._stream.flush()
            except (OSError, ValueError):  # the reader went away, or the stream was closed at exit
                with self._changed:
                    self.dropped += lines
            with self._changed:
                self._writing = False
                self._changed.notify_all()
