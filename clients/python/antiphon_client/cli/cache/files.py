"""Files of JSON lines: read from a path or stdin, gzipped or not; written whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from antiphon_client.channel import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    import io

STDIO = "-"

MAX_LINE_BYTES = 2 * MAX_MESSAGE_BYTES
"""A longer line cannot become a message: JSON takes at most twice the bytes of what is sent."""

_GZIP = b"\x1f\x8b"
"""How every gzip file begins (RFC 1952); no line of JSON does."""


class UnreadableError(Exception):
    """What follows cannot be read."""


class Input:
    """Lines of a file that can be read more than once; a pipe is copied aside for that."""

    def __init__(self, path: str, *, again: bool) -> None:
        """`path`: `-` is stdin; `again`: it is read twice. Raises OSError."""
        self._stack = ExitStack()
        file = sys.stdin.buffer if path == STDIO else self._stack.enter_context(Path(path).open("rb"))  # noqa: SIM115 -- it is closed with this object
        about = os.fstat(file.fileno())
        self._regular = path != STDIO and stat.S_ISREG(about.st_mode)
        self.size: int | None = about.st_size if self._regular else None
        """Bytes; None where nobody knows."""
        self._raw = file if self._regular or not again else self._copied(file)

    def __enter__(self) -> Input:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def place(self) -> int:
        """Bytes that were read of the file."""
        return self._raw.tell() if self.size is not None else 0

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield each line that is not blank, with its number from 1. Raises UnreadableError."""
        number = 0
        try:
            if self._raw.seekable():
                self._raw.seek(0)
            begin = cast("io.BufferedReader", self._raw).peek(len(_GZIP))
            file = gzip.GzipFile(fileobj=self._raw) if begin.startswith(_GZIP) else self._raw
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise UnreadableError(f"line {number} is longer than {MAX_LINE_BYTES >> 20} MiB")
                if line.strip():
                    yield number, line
        except EOFError:
            raise UnreadableError(f"the gzip file ends too early, after line {number}: it was cut") from None
        except (OSError, zlib.error) as error:
            raise UnreadableError(f"after line {number}: {error}") from error

    def _copied(self, pipe: BinaryIO) -> BinaryIO:
        copy = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 -- as above
        while block := pipe.read(1 << 20):
            copy.write(block)
        return cast("BinaryIO", copy)


@contextmanager
def whole(path: str) -> Iterator[BinaryIO]:
    """A file that takes its place when the block ends well, and else leaves what was there; `-` is stdout.

    What is no regular file, a pipe or a device, is written to as it is. A link stays one. Raises OSError.
    """
    if path == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        with target.open("wb") as special:
            yield special
        return
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
