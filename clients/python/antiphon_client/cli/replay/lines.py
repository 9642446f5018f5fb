"""What `antiphon replay` reads: one JSON object per line, `{"text": …}`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from antiphon_client.channel import MAX_MESSAGE_BYTES

DEFAULT_NAMESPACE = "default"
"""The services' name for an absent namespace: lines without one are in order with lines that name it."""

MAX_LINE_BYTES = MAX_MESSAGE_BYTES
"""A longer line cannot become a request: no server takes a larger message."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines(Protocol):
    """What can be read line by line."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, at most `size` bytes of it; nothing at the end."""


class LineError(Exception):
    """A line that is no request."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"line {number}: {what}")


@dataclass(frozen=True, slots=True)
class Line:
    """One request: its place among the requests, from 0, and what the line says."""

    index: int
    text: str
    namespace: str = DEFAULT_NAMESPACE
    system: str = ""
    model: str = ""

    @property
    def size(self) -> int:
        """About as many bytes as it takes in memory."""
        return 200 + len(self.text) + len(self.system)


class _WrongError(Exception):
    """What is wrong with a line."""


def read(file: Lines) -> Iterator[Line | LineError]:
    """Yield each line as a request or as what is wrong with it. Blank lines are left out, unknown keys ignored."""
    index = number = 0
    while True:
        number += 1
        try:
            raw = file.readline(MAX_LINE_BYTES + 1)
        except EOFError:
            yield LineError(number, "the gzip file ends too early: it was cut")
            return
        except (OSError, zlib.error) as error:
            yield LineError(number, f"cannot be read: {error}")
            return
        if not raw:
            return
        if len(raw) > MAX_LINE_BYTES:
            yield LineError(number, f"is longer than {MAX_LINE_BYTES >> 20} MiB")
            return
        if number == 1:
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
        if not raw.strip():
            continue
        try:
            yield _line(index, raw)
        except _WrongError as error:
            yield LineError(number, str(error))
        index += 1


def _line(index: int, raw: bytes) -> Line:
    try:
        found = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise _WrongError("is not UTF-8") from None
    except (ValueError, RecursionError):
        raise _WrongError("is not JSON") from None
    if not isinstance(found, dict):
        raise _WrongError('is not an object like {"text": "…"}')
    text = _text(found, "text")
    if not text.strip():
        raise _WrongError('has no "text"')
    return Line(
        index,
        text,
        namespace=_text(found, "namespace") or DEFAULT_NAMESPACE,
        system=_text(found, "system"),
        model=_text(found, "model"),
    )


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _WrongError(f'"{key}" is not a string')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _WrongError(f'"{key}" has half a surrogate pair, which is no character') from None
    return value
