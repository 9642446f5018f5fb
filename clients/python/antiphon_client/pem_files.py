"""Certificates in PEM files that are replaced while a process runs.

Whoever renews certificates writes new files, by rename, by swapping a symlink or in place, and often the certificate
before its key. A `PemWatch` looks at the files in a thread of its own and takes over what is new once it has stopped
changing and is usable as a whole; until then, and if it is not, the last usable files stay in force.
"""

from __future__ import annotations

import os
import ssl
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CHECK_SECONDS = 0.5
"""How often files are looked at. New ones are read when two looks in a row have found the same: within a second."""

READ_ATTEMPTS = 3
"""Files that change while they are read are read again so often."""


class TlsFileError(Exception):
    """A PEM file cannot be used. `field` is one of `PemFiles`; the text holds nothing of the file."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


@dataclass(frozen=True, slots=True, eq=False)
class Pems:
    """What the files held at one time; known to be usable."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None
    context: ssl.SSLContext = field(repr=False)
    """For servers that are not gRPC's: shows the certificate, asks for none."""


@dataclass(frozen=True, slots=True)
class PemFiles:
    """Where trusted authorities, a certificate chain and its unencrypted private key are; each may be absent."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        """`ValueError` if one of `cert_file` and `key_file` is given alone."""
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("give both cert_file and key_file, or neither")

    def read(self) -> Pems:
        """Read all files; `TlsFileError` if one cannot be read or used, or if the key is not the certificate's."""
        for _ in range(READ_ATTEMPTS):
            before = self._contents()
            context = self._usable(before[0])
            if before == self._contents():  # the context was made from the same files
                return Pems(*before, context)
        raise TlsFileError("ca_file" if self.cert_file is None else "cert_file", "the file keeps changing")

    def state(self) -> object:
        """Equal as long as no file has changed; reads none."""
        return tuple(_state(path) for path in (self.ca_file, self.cert_file, self.key_file))

    def _contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        return _read("ca_file", self.ca_file), _read("cert_file", self.cert_file), _read("key_file", self.key_file)

    def _usable(self, ca: bytes | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.cert_file is not None and self.key_file is not None:
            _check_key(self.key_file)
            try:
                # With a password, if only an empty one, nobody is asked for one on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except ssl.SSLError as error:
                if error.reason == "KEY_VALUES_MISMATCH":
                    raise TlsFileError("key_file", "the key does not belong to the certificate") from None
                raise TlsFileError("cert_file", "the file and its key are not a usable pair in PEM format") from None
            except OSError as error:
                raise TlsFileError("cert_file", f"the file cannot be read ({type(error).__name__})") from None
        if ca is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=ca.decode("ascii"))
            except (ssl.SSLError, ValueError):
                raise TlsFileError("ca_file", "the file holds no usable certificates in PEM format") from None
        return context


class PemWatch:
    """The newest usable contents of some files. Ends with `close` or when nobody refers to it any more."""

    def __init__(
        self,
        files: PemFiles,
        *,
        changed: Callable[[Pems], None] | None = None,
        refused: Callable[[TlsFileError], None] | None = None,
        interval: float = CHECK_SECONDS,
    ) -> None:
        """Read the files, or raise `TlsFileError`. The callbacks are called in the watching thread, once per change."""
        self._state = _Watched(files, changed, refused, interval)
        self._thread = threading.Thread(target=self._state.run, name="pem-files", daemon=True)
        weakref.finalize(self, self._state.ended.set)
        self._thread.start()

    @property
    def pems(self) -> Pems:
        """The contents in force; another object after a change, the same one otherwise."""
        return self._state.pems

    def close(self) -> None:
        """Stop watching; returns at once."""
        self._state.ended.set()


class _Watched:
    """What the thread works on. It must not refer to the `PemWatch`, whose end is the thread's."""

    def __init__(
        self,
        files: PemFiles,
        changed: Callable[[Pems], None] | None,
        refused: Callable[[TlsFileError], None] | None,
        interval: float,
    ) -> None:
        self._files = files
        self._changed = changed
        self._refused = refused
        self._interval = interval
        # The state before the contents: what changes in between is found to be new.
        self._last_read = self._last_seen = files.state()
        self.pems = files.read()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(self._interval):
            found = self._files.state()
            if found == self._last_seen and found != self._last_read:
                self._last_read = found
                self._take_over()
            self._last_seen = found

    def _take_over(self) -> None:
        try:
            pems = self._files.read()
        except TlsFileError as error:
            if self._refused is not None:
                self._refused(error)
            return
        self.pems = pems
        if self._changed is not None:
            self._changed(pems)


def _read(field: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        if not path.is_file() and path.exists():  # reading a pipe would wait for its other end
            raise TlsFileError(field, "it is not a file")
        return path.read_bytes()
    except OSError as error:
        raise TlsFileError(field, f"the file cannot be read ({type(error).__name__})") from None


def _check_key(path: Path) -> None:
    content = _read("key_file", path) or b""
    if b"PRIVATE KEY-----" not in content:
        raise TlsFileError("key_file", "the file holds no private key in PEM format")
    if b"ENCRYPTED" in content:
        raise TlsFileError("key_file", "the private key is encrypted; it must not be")


def _state(path: Path | None) -> tuple[int, ...] | None:
    if path is None:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 -- called often, for its speed
    except OSError as error:
        return (error.errno or 0,)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
