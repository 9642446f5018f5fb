"""What one stream has sent, kept for those who come back for it. For one event loop."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from services.chassis.errors import AntiphonError, Internal

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Recording(Generic[T]):
    """Append-only; message number n stands at n - 1. It ends once, with `finish` or with `fail`."""

    called: bool = False
    """A model was called for it."""
    size: int = 0
    """Bytes of its messages."""
    readers: int = 0
    ended: bool = False
    _messages: list[T] = field(default_factory=list)
    _error: BaseException | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return len(self._messages)

    def calls(self) -> None:
        """Note that a model is called now."""
        self.called = True
        self._wake()

    def append(self, message: T, size: int) -> None:
        """Add a message of so many bytes."""
        self._messages.append(message)
        self.size += size
        self._wake()

    def finish(self) -> None:
        """Nothing follows."""
        self.ended = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Nothing follows but this error, which every reader gets."""
        self._error = error
        self.finish()

    def after(self, number: int) -> list[T]:
        """The messages behind that one."""
        return self._messages[number:]

    def check(self) -> None:
        """Raise the error that it ended with, if it did."""
        if isinstance(self._error, AntiphonError):
            # A copy: each raising adds frames to an exception, and this one is raised once per reader.
            raise copy.copy(self._error) from self._error
        if self._error is not None:
            raise Internal("the stream failed") from self._error

    async def change(self, number: int, *, told: bool) -> None:
        """Wait until something follows message `number`, or it ends; or a model was called, unless `told` so."""
        while len(self._messages) <= number and not self.ended and (told or not self.called):
            await self._changed.wait()

    def _wake(self) -> None:
        # One event per change: those who wait for the next one must not find it already set.
        self._changed.set()
        self._changed = asyncio.Event()
