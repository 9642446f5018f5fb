"""What waits for the store, in one file of checksummed frames.

    frame   magic (4 bytes) | length of the body (u32 LE) | BLAKE2b-128 of the body | body
    body    length of the JSON (u32 LE) | JSON | vector (f32 LE) if there is one

A frame that was torn, by a kill or by a full disk, is left out and counted: what follows is found by the magic.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import orjson

from services.cache.adapters.records import Unreadable, from_record, to_payload
from services.cache.entry import VECTOR_ELEMENT_BYTES, text_bytes
from services.cache.ports import Epoch, Tombstone, Write
from services.chassis.errors import Reason, Unavailable
from services.storage import Record

Item = Write | Tombstone | Epoch
T = TypeVar("T")

FILE_NAME = "cache.queue"

_MAGIC = b"\xa7AQ1"
_HEAD = struct.Struct("<4sI16s")
_JSON_LENGTH = struct.Struct("<I")

_OVERHEAD = 1_000
"""Bytes of a write beside its texts and its vector, roughly."""


class DiskQueue:
    """A `WriteQueue` in a folder that no other process uses."""

    def __init__(self, folder: Path, *, embedder: str, dim: int | None) -> None:
        """Open or make it; raises OSError, BlockingIOError if somebody else has it. `embedder`: of the vectors.

        `dim`: their length; None to read without them.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / FILE_NAME
        self._embedder = embedder
        self._dim = dim
        # One thread: what was begun is finished before the next, also when its caller has gone.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="queue")
        self._held = os.open(folder / f".{FILE_NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file = self._opened(os.O_CREAT)
        except OSError:
            os.close(self._held)
            raise
        self._size = os.fstat(self._file).st_size
        self.torn = 0
        """Frames that were left out because they are torn, or not readable by this version."""

    @property
    def size(self) -> int:
        """See `WriteQueue`."""
        return self._size

    def size_of(self, write: Write) -> int:
        """See `WriteQueue`."""
        return (
            text_bytes(write.entry.question, write.entry.answer) + VECTOR_ELEMENT_BYTES * (self._dim or 0) + _OVERHEAD
        )

    async def read(self) -> list[Item]:
        """See `WriteQueue`."""
        return await self._do(self._read)

    async def append(self, items: Sequence[Item], *, durable: bool) -> None:
        """See `WriteQueue`."""
        await self._do(lambda: self._append(b"".join(map(self._frame, items)), durable=durable))

    async def replace(self, items: Sequence[Item]) -> None:
        """See `WriteQueue`."""
        await self._do(lambda: self._replace(b"".join(map(self._frame, items))))

    def close(self) -> None:
        """Finish what was begun, and let go of the files."""
        self._thread.shutdown()
        os.close(self._file)
        os.close(self._held)

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OSError as error:
            raise _refused() from error

    def _read(self) -> list[Item]:
        content = self._path.read_bytes()
        return [item for body in self._bodies(content) if (item := self._item(body)) is not None]

    def _append(self, frames: bytes, *, durable: bool) -> None:
        whole = False
        try:
            whole = os.write(self._file, frames) == len(frames)
            if durable and whole:
                os.fsync(self._file)
        finally:
            if not whole:
                os.ftruncate(self._file, self._size)
        if not whole:
            raise OSError("the disk is full")
        self._size += len(frames)

    def _replace(self, frames: bytes) -> None:
        beside = self._path.with_name(f".{FILE_NAME}.new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(frames)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        old, self._file = self._file, self._opened(0)
        os.close(old)
        self._size = len(frames)

    def _opened(self, flags: int) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)

    def _bodies(self, content: bytes) -> Iterator[bytes]:
        place = 0
        while place < len(content):
            if len(content) - place >= _HEAD.size:
                magic, length, checksum = _HEAD.unpack_from(content, place)
                end = place + _HEAD.size + length
                body = content[place + _HEAD.size : end]
                if magic == _MAGIC and end <= len(content) and _checksum(body) == checksum:
                    yield body
                    place = end
                    continue
            self.torn += 1
            found = content.find(_MAGIC, place + 1)
            place = found if found >= 0 else len(content)

    def _frame(self, item: Item) -> bytes:
        vector = b""
        fields: dict[str, object]
        if isinstance(item, Epoch):
            fields = {
                "kind": "clear",
                "tenant": item.tenant,
                "namespace": item.namespace,
                "number": item.number,
                "cleared_us": item.cleared_us,
            }
        else:
            if isinstance(item, Write) and item.vector is not None:
                vector = item.vector.astype("<f4", copy=False).tobytes()
            payload = to_payload(item, embedder=self._embedder, saved_us=0)
            fields = {"kind": "record", "id": item.id, "payload": payload}
        text = orjson.dumps(fields)
        body = _JSON_LENGTH.pack(len(text)) + text + vector
        return _HEAD.pack(_MAGIC, len(body), _checksum(body)) + body

    def _item(self, body: bytes) -> Item | None:
        (length,) = _JSON_LENGTH.unpack_from(body)
        begin = _JSON_LENGTH.size
        try:
            fields = orjson.loads(body[begin : begin + length])
            if fields["kind"] == "clear":
                return Epoch(fields["tenant"], fields["namespace"], fields["number"], fields["cleared_us"])
            numbers = np.frombuffer(body, "<f4", offset=begin + length).astype(np.float32)
            record = Record(fields["id"], numbers if len(numbers) and self._dim else None, fields["payload"])
            item = from_record(record, embedder=self._embedder, dim=self._dim or 0)
        except (KeyError, TypeError, ValueError):
            item = Unreadable.CONTENT
        if isinstance(item, Unreadable):
            self.torn += 1
            return None
        return item


def open_left(root: Path) -> list[tuple[str, DiskQueue]]:
    """The queues below `root` with something in them that nobody has, by the slugs of their embedders.

    Raises OSError if the folder cannot be read.
    """
    found: list[tuple[str, DiskQueue]] = []
    try:
        for path in sorted(root.glob(f"*/{FILE_NAME}")):
            if path.stat().st_size:
                with suppress(BlockingIOError):
                    found.append((path.parent.name, DiskQueue(path.parent, embedder=path.parent.name, dim=None)))
    except OSError:
        for _, queue in found:
            queue.close()
        raise
    return found


class NoQueue:
    """A `WriteQueue` where there is no disk to write on: nothing can be kept there."""

    size = 0
    torn = 0

    def size_of(self, write: Write) -> int:  # noqa: ARG002 -- as the port says
        """See `WriteQueue`."""
        return 0

    async def read(self) -> list[Item]:
        """See `WriteQueue`."""
        return []

    async def append(self, items: Sequence[Item], *, durable: bool) -> None:  # noqa: ARG002 -- as the port says
        """See `WriteQueue`."""
        raise _refused()

    async def replace(self, items: Sequence[Item]) -> None:
        """See `WriteQueue`."""
        if items:
            raise _refused()

    def close(self) -> None:
        """There is nothing to let go of."""


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()


def _refused() -> Unavailable:
    return Unavailable("the disk does not take what waits for the store", reason=Reason.STORE_UNAVAILABLE)
