"""The file of `antiphon replay`: checked as a whole before the first call, then read again."""

from __future__ import annotations

import gzip
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from antiphon_client.cli.replay.lines import Line, LineError, Lines, read

if TYPE_CHECKING:
    import io
    from types import TracebackType

STDIN = "-"

SHOWN_ERRORS = 10
"""Bad lines that are told one by one."""

IN_MEMORY_BYTES = 16 * 1024 * 1024
"""Of a pipe; more goes to a temporary file."""

_GZIP = b"\x1f\x8b"
"""How every gzip file begins (RFC 1952); no line of JSON does."""


class InputError(Exception):
    """The file cannot be replayed: each of `problems` names a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file holds: how many requests, of how many namespaces."""

    requests: int
    namespaces: int


class Source:
    """JSON lines, gzipped or not, that are read twice; a pipe is copied aside for that."""

    def __init__(self, path: str, *, limit: int | None = None) -> None:
        """`path`: `-` is stdin. `limit`: only the first lines, so many, are looked at; blank ones do not count."""
        self._path = path
        self._limit = limit
        self._stack = ExitStack()
        self._again: BinaryIO

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def check(self) -> Checked:
        """Read everything once. Raises `InputError` if a line is wrong, `OSError` if the file cannot be opened."""
        problems: list[str] = []
        requests = wrong = 0
        namespaces: set[str] = set()
        for found in self._first(self._open()):
            if isinstance(found, Line):
                requests += 1
                namespaces.add(found.namespace)
                continue
            wrong += 1
            if wrong <= SHOWN_ERRORS:
                problems.append(str(found))
        if wrong > SHOWN_ERRORS:
            problems.append(f"and {wrong - SHOWN_ERRORS:,} more")
        if problems:
            raise InputError(problems)
        return Checked(requests, len(namespaces))

    def lines(self) -> Iterator[Line]:
        """Yield the requests, after `check`. Raises `InputError` for a file that has changed since."""
        self._again.seek(0)
        for found in self._first(_unpacked(self._again)):
            if isinstance(found, LineError):
                raise InputError([str(found)])
            yield found

    def _first(self, lines: Lines) -> Iterator[Line | LineError]:
        return islice(read(lines), self._limit)

    def _open(self) -> Lines:
        if self._path == STDIN:
            return self._copied(sys.stdin.buffer)
        file = Path(self._path).open("rb")  # noqa: SIM115 -- it is closed with this object
        self._stack.callback(file.close)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return self._copied(file)
        self._again = file
        return _unpacked(file)

    def _copied(self, pipe: BinaryIO) -> Lines:
        self._again = cast("BinaryIO", self._stack.enter_context(_copy()))
        return _Copying(_unpacked(pipe), self._again)


class _Copying:
    """Lines of a pipe, each also written to a file."""

    def __init__(self, lines: Lines, copy: BinaryIO) -> None:
        self._lines = lines
        self._copy = copy

    def readline(self, size: int, /) -> bytes:
        """Return the next line."""
        line = self._lines.readline(size)
        self._copy.write(line)
        return line


def _copy() -> tempfile.SpooledTemporaryFile[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)


def _unpacked(file: BinaryIO) -> Lines:
    """Return the lines of a file whose position is at its start."""
    if isinstance(file, tempfile.SpooledTemporaryFile):  # a copy, unpacked already
        return file
    begin = cast("io.BufferedReader", file).peek(len(_GZIP))
    return gzip.GzipFile(fileobj=file) if begin.startswith(_GZIP) else file
