"""Server-sent events as model servers write them: bytes in, payloads out, bounded.

The format is WHATWG HTML §9.2; lines end with LF or CRLF (no model server ends lines with a lone CR, so that is not
understood). Only `data` counts: event names, ids, retry times and comments are skipped. Bytes are never decoded here,
so characters that are split between two packets cannot break.
"""

from __future__ import annotations

MAX_LINE_BYTES = 1024 * 1024
"""Of one line, and of one event's data. A chunk of an answer is below 1 KiB; a whole tool call in one chunk, or a
picture as data URL, is larger."""

_BOM = b"\xef\xbb\xbf"


class LineTooLongError(Exception):
    """A line or an event is larger than the limit; nothing more can be read from this stream."""

    def __init__(self, before: list[bytes]) -> None:
        """`before`: the payloads that were whole."""
        super().__init__(before)
        self.before = before


class SseDecoder:
    """Decodes one stream. Holds at most one event and one line."""

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max = max_line_bytes
        self._pending = bytearray()  # an unfinished line
        self._searched = 0  # bytes of it known to hold no line end
        self._data: list[bytes] = []  # lines of an unfinished event
        self._data_bytes = 0
        self._first = True

    def feed(self, received: bytes) -> list[bytes]:
        """Return the payloads of the events that `received` completes; raises `LineTooLongError`."""
        if not self._pending and not self._data and (usual := self._usual(received)):
            self._first = False
            return usual
        pending = self._pending
        pending += received
        payloads: list[bytes] = []
        start = 0
        while (end := pending.find(b"\n", max(start, self._searched))) >= 0:
            if end - start > self._max:
                raise LineTooLongError(payloads)
            self._line(bytes(pending[start:end]), payloads)
            start = end + 1
        if start:
            del pending[:start]
        self._searched = len(pending)
        if len(pending) > self._max:
            raise LineTooLongError(payloads)
        return payloads

    def _usual(self, received: bytes) -> list[bytes]:
        """Return the payloads of bytes that are whole events of one `data: ` line each; of all else nothing.

        So most servers write, and it costs a quarter of looking at every line.
        """
        if not received.endswith(b"\n\n") or b"\r" in received:
            return []
        events = received[:-2].split(b"\n\n")
        if received.count(b"\n") != 2 * len(events):
            return []
        for event in events:
            if not event.startswith(b"data: ") or len(event) > self._max:
                return []
        return [event[6:] for event in events]

    def flush(self) -> list[bytes]:
        """Return what the stream ended in: an event that no empty line closed, whole or not."""
        payloads: list[bytes] = []
        if self._pending:
            line, self._pending = bytes(self._pending), bytearray()
            self._searched = 0
            self._line(line, payloads)
        self._line(b"", payloads)
        return payloads

    def _line(self, line: bytes, payloads: list[bytes]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if line.endswith(b"\r"):
            line = line[:-1]
        if not line:
            if self._data:
                payloads.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
                self._data_bytes = 0
        elif line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._max + 1:
                raise LineTooLongError(payloads)
            self._data.append(value)
