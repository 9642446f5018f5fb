"""The record of one answer while it is written, which any number of readers follow from its start.

Readers share the one buffer and keep only their position and what they were given last, so a slow one holds up nobody
and costs little memory of its own. The buffer's limit is the limit of an answer. For one event loop.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.chassis.errors import AntiphonError, Exhausted, Internal, Reason
from services.chassis.value import value
from services.completion.ports import Outcome
from services.completion.result import Completed
from services.completion.streaming.content import Content, joined, size


@value
class Opened:
    """The answer begins."""

    model: str
    outcome: Outcome


@dataclass(slots=True)
class Transcript:
    """Append-only. It ends once, with `finish` or with `fail`. `limit` is in bytes of text."""

    limit: int
    called: bool = False
    """A model was called for it."""
    stored: bool = False
    """It was there before anybody asked: it ends as soon as it opens."""
    opened: Opened | None = None
    completed: Completed | None = None
    error: BaseException | None = None
    _pieces: list[Content] = field(default_factory=list)
    _sizes: list[int] = field(default_factory=list)
    _size: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _awaited: bool = False
    """Somebody waits for a change."""
    _gathering: dict[asyncio.Event, int] = field(default_factory=dict)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> bool:
        """Whether nothing will be added."""
        return self._ended.is_set()

    @property
    def size(self) -> int:
        """Bytes of the content so far."""
        return self._size

    @property
    def pieces(self) -> Sequence[Content]:
        """All of the content so far, as it came; shared by all readers."""
        return self._pieces

    def __len__(self) -> int:
        return len(self._pieces)

    def calls(self) -> None:
        """Note that a model is called now."""
        if not self.called:
            self.called = True
            self._wake()

    def open(self, model: str, outcome: Outcome) -> None:
        """Name the model; before the first content."""
        self.opened = Opened(model, outcome)

    def open_stored(self, model: str, outcome: Outcome, pieces: Iterable[Content]) -> None:
        """Take over an answer that is all there; `finish` follows at once."""
        self.open(model, outcome)
        self.stored = True
        for piece in pieces:
            self.append(piece)

    def append(self, piece: Content) -> int:
        """Add content and return how many pieces there are; `Exhausted` if the answer becomes too large."""
        taken = size(piece)
        self._size += taken
        if self._size > self.limit:
            raise Exhausted(
                "the answer is longer than this server passes on",
                reason=Reason.UPSTREAM_MALFORMED,
                metadata={"limit_bytes": str(self.limit)},
            )
        self._pieces.append(piece)
        self._sizes.append(taken)
        for enough, target in self._gathering.items():
            if self._size >= target:
                enough.set()
        self._wake()
        return len(self._pieces)

    def finish(self, completed: Completed) -> None:
        """End with the whole answer."""
        if not self.ended:
            self.completed = completed
            self._end()

    def fail(self, error: BaseException) -> None:
        """End with an error, which every reader gets."""
        if not self.ended:
            self.error = error
            self._end()

    def since(self, position: int, most: int) -> tuple[list[Content], int, int]:
        """What was added since `position`, in as few pieces as may be, the new position, and the bytes between them.

        At most `most` bytes, or one piece: what a reader is given is a copy.
        """
        end, taken = position, 0
        while end < len(self._sizes) and (end == position or taken + self._sizes[end] <= most):
            taken += self._sizes[end]
            end += 1
        return list(joined(self._pieces[position:end])), end, taken

    def result(self) -> Completed:
        """Return the whole answer of an ended transcript, or raise its error."""
        if self.completed is not None:
            return self.completed
        cause = self.error
        if isinstance(cause, AntiphonError):
            # A copy: each raising adds frames to an exception, and this one is raised once per reader.
            raise copy.copy(cause) from cause
        raise Internal("the fill failed") from cause

    def changed(self, position: int, *, told: bool = True) -> bool:
        """Whether something follows `position` or the transcript has ended; or a model was called, unless `told` so."""
        return len(self._pieces) > position or self.ended or (self.called and not told)

    async def change(self, position: int, *, told: bool = True) -> None:
        """Wait until it has `changed`."""
        while not self.changed(position, told=told):
            self._awaited = True
            await self._changed.wait()

    async def gathered(self, target: int, seconds: float) -> None:
        """Wait until the content has `target` bytes or the transcript ends, but for so many seconds at most."""
        if self.ended or self._size >= target:
            return
        enough = asyncio.Event()
        self._gathering[enough] = target
        # No `asyncio.timeout`: the time is up nearly always, and an exception costs more than all the rest.
        timer = asyncio.get_running_loop().call_later(seconds, enough.set)
        try:
            await enough.wait()
        finally:
            timer.cancel()
            del self._gathering[enough]

    async def call(self) -> None:
        """Wait until a model was called or it is clear that none will be for the first content."""
        await self.change(0, told=False)

    async def end(self) -> None:
        """Wait until the transcript ends."""
        await self._ended.wait()

    def _wake(self) -> None:
        if self._awaited:
            # One event per change: those who wait for the next one must not find it already set.
            self._changed.set()
            self._changed, self._awaited = asyncio.Event(), False

    def _end(self) -> None:
        self._ended.set()
        for enough in self._gathering:
            enough.set()
        self._wake()
