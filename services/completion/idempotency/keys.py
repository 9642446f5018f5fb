"""The keys that this process is at work on. Who comes with a key in work waits for the same answer.

The answer of a key is made by a task of its own, which listens to a fill like any caller. When the last of those who
wait has left before a model was called, the work is given up and the key is free again. After that it is finished:
who sends a key comes back for what was bought.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError, DeadlineExceeded, Internal, Reason, Unavailable
from services.completion.background import Background
from services.completion.fills import Fills, Listener
from services.completion.idempotency.claims import Claim, Outside, reused
from services.completion.idempotency.ports import Records
from services.completion.idempotency.records import Scope, Terms
from services.completion.request import Request
from services.completion.result import Delivered
from services.completion.streaming.content import Content, Sentence
from services.completion.streaming.signs import Beat, Called
from services.completion.streaming.transcript import Opened
from services.completion.streaming.view import TextEvents

NOT_KEPT = "idempotency_not_kept"
"""Among an answer's `degraded`: a repeated request with the same key may buy another one."""

LEAVING_SECONDS = 5.0
"""What storing an answer may take at most: the caller waits for it."""

PURGE_SECONDS = 600.0
"""Between two deletions of what has expired."""

Write = Callable[[Delivered, tuple[str, ...]], bytes]
"""From what a fill delivered, and more reasons for which it is degraded, to what is kept and sent."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with a key. `completion_id` is what the answer will be called if it is made now."""

    scope: Scope
    body: str
    request: Request
    completion_id: str
    write: Write


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer of a key. `replayed`: this caller did not buy it; `live`: it has read it while it was made."""

    response: bytes
    replayed: bool
    live: bool = False


@dataclass(frozen=True, slots=True)
class _Made:
    response: bytes
    fresh: bool


class _Work:
    """One key in work."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.callers: dict[Keyed, None] = {}
        self.listener: Listener | None = None
        """Set while the answer is made here."""
        self.moved = asyncio.Event()
        """There is a listener, or it is over."""
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._made: _Made | None = None
        self._error: BaseException | None = None
        self._bought = False

    @property
    def called(self) -> bool:
        """Whether a model was called for it."""
        return self.listener is not None and self.listener.fill.called

    def deadline(self) -> Deadline:
        """That of the most patient caller."""
        return max((caller.deadline for caller in self.callers), key=lambda deadline: deadline.at)

    def follow(self) -> None:
        """Let the fill know how patient its callers are now, and whether all of them read along."""
        if self.listener is not None and self.callers:
            self.listener.deadline = self.deadline()
            self.listener.streaming = all(caller.streaming for caller in self.callers)

    def begin(self, listener: Listener) -> None:
        self.listener = listener
        self.moved.set()

    def end(self, made: _Made | None, error: BaseException | None = None) -> None:
        if not self.ended.is_set():
            self._made, self._error = made, error
            self.moved.set()
            self.ended.set()

    def outcome(self) -> Kept:
        """Return the answer; of all who get it only the first is told that it was bought for it."""
        if self._made is not None:
            replayed, self._bought = self._bought or not self._made.fresh, True
            return Kept(self._made.response, replayed)
        if isinstance(self._error, AntiphonError):
            # A copy: each raising adds frames to an exception, and this one is raised once per caller.
            raise copy.copy(self._error) from self._error
        raise Internal("the keyed completion failed") from self._error


class Keyed:
    """One caller with a key; use it as a context manager, once."""

    def __init__(self, work: _Work, deadline: Deadline, *, streaming: bool, leave: Callable[[Keyed], None]) -> None:
        self.work = work
        self.deadline = deadline
        self.streaming = streaming
        self._leave = leave

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(self)

    @property
    def completion_id(self) -> str:
        """What the answer is called if it is made here."""
        return self.work.asked.completion_id

    async def result(self) -> Kept:
        """Wait for the answer; raises as a fill does, and what claiming the key raises."""
        if not await _within(self.work.ended.wait(), self.deadline.remaining()):
            raise _late()
        return self.work.outcome()

    async def events(
        self, heartbeat: float, shown: TextEvents = TextEvents.DELTAS, *, tokens_per_second: float = 0
    ) -> AsyncGenerator[Opened | Content | Sentence | Beat | Called | Kept, None]:
        """Yield the answer while it is made here, a `Beat` whenever `heartbeat` seconds were silent, then `Kept`.

        `tokens_per_second`: see `Listener.events`.
        """
        while not await _within(self.work.moved.wait(), self.deadline.within(heartbeat)):
            yield self._beat()
        live = self.work.listener is not None
        if self.work.listener is not None:
            reader = self.work.listener.companion(self.deadline)
            try:
                told = reader.events(heartbeat, shown, tokens_per_second=tokens_per_second)
                async with aclosing(told) as events:
                    async for event in events:
                        if isinstance(event, Delivered):
                            break
                        yield event
            except AntiphonError as error:
                # The answer's error is told below: the key is free by then.
                if error.reason is Reason.READER_TOO_SLOW:
                    raise
        while not await _within(self.work.ended.wait(), self.deadline.within(heartbeat)):
            yield self._beat()
        kept = self.work.outcome()
        yield Kept(kept.response, kept.replayed, live)

    def _beat(self) -> Beat:
        if self.deadline.passed:
            raise _late()
        return Beat()


class Keys:
    """All keys in work. `happened` counts: made, joined, replayed, taken_over, reused, not_kept, purge_failed."""

    def __init__(
        self,
        records: Records,
        fills: Fills,
        terms: Terms,
        *,
        longest: float,
        background: Background,
        happened: Callable[[str], None],
        outside: Outside | None = None,
    ) -> None:
        """`longest`: seconds that making one answer may take."""
        self._records = records
        self._fills = fills
        self._terms = terms
        self._longest = longest
        self._background = background
        self._happened = happened
        self._outside = outside or Outside()
        self._works: dict[Scope, _Work] = {}
        self._running: set[_Work] = set()

    def __len__(self) -> int:
        return len(self._running)

    def join(self, asked: Asked, deadline: Deadline, *, streaming: bool) -> Keyed:
        """Wait for the answer of a key that is in work here, or begin to work on it.

        Raises InvalidRequest(IDEMPOTENCY_KEY_REUSED), and `DeadlineExceeded` if no time is left.
        """
        deadline.check()
        work = self._works.get(asked.scope)
        if work is not None and work.asked.body != asked.body:
            self._happened("reused")
            raise reused()
        begins = work is None
        if work is None:
            work = self._works[asked.scope] = _Work(asked)
            self._running.add(work)
        else:
            self._happened("joined")
        caller = Keyed(work, deadline, streaming=streaming, leave=self._left)
        work.callers[caller] = None
        work.follow()
        if begins:
            work.task = asyncio.create_task(self._run(work), name="idempotency key")
            work.task.add_done_callback(lambda _: self._over(work))
        return caller

    async def purge(self) -> None:
        """Delete what has expired, now and then, until cancelled."""
        while True:
            await asyncio.sleep(PURGE_SECONDS)
            await self.purge_once()

    async def purge_once(self) -> None:
        """Delete what has expired."""
        try:
            await self._records.purge(self._outside.now())
        except AntiphonError:
            self._happened("purge_failed")

    async def settle(self, seconds: float) -> None:
        """Let what was bought be finished and kept, for at most `seconds`; give up the rest."""
        for work in [work for work in self._running if not work.called]:
            self._cancel(work)
        if tasks := {work.task for work in self._running if work.task is not None}:
            await asyncio.wait(tasks, timeout=seconds)
        for work in list(self._running):
            self._cancel(work)

    async def _run(self, work: _Work) -> None:
        asked = work.asked
        claim = Claim(self._records, asked.scope, asked.body, self._terms, self._outside)
        try:
            found = await claim.get()
            if found is not None:
                self._happened("replayed")
                made = _Made(found, fresh=False)
            else:
                made = await self._make(work, claim)
        except asyncio.CancelledError:
            self._background.spawn(claim.give_up(), "free a key")
            raise
        except AntiphonError as error:
            if error.reason is Reason.IDEMPOTENCY_KEY_REUSED:
                self._happened("reused")
            else:
                # Waited for where the store answers: who repeats the request at once must not find the key taken.
                freeing = self._background.spawn(claim.give_up(), "free a key")
                if error.reason is not Reason.STORE_UNAVAILABLE:
                    await asyncio.wait({freeing})
            self._end(work, None, error)
        except Exception as error:  # noqa: BLE001 -- handed to everybody who waits, who raise it
            self._background.spawn(claim.give_up(), "free a key")
            self._end(work, None, error)
        else:
            self._end(work, made)

    async def _make(self, work: _Work, claim: Claim) -> _Made:
        if claim.took_over:
            self._happened("taken_over")
        holding = self._background.spawn(claim.hold(), "hold a key")
        try:
            with self._fills.join(work.asked.request, work.deadline(), streaming=False) as listener:
                work.begin(listener)
                work.follow()
                await listener.fill.transcript.end()
                delivered = listener.delivered()
        finally:
            holding.cancel()
            await asyncio.wait({holding})
        self._happened("made")
        response = work.asked.write(delivered, ())
        if not await self._leave(claim, response):
            self._happened("not_kept")
            response = work.asked.write(delivered, (NOT_KEPT,))
        return _Made(response, fresh=True)

    @staticmethod
    async def _leave(claim: Claim, response: bytes) -> bool:
        try:
            async with asyncio.timeout(LEAVING_SECONDS):
                return await claim.leave(response)
        except TimeoutError:
            return False

    def _left(self, caller: Keyed) -> None:
        work = caller.work
        work.callers.pop(caller, None)
        if work.callers or work.ended.is_set():
            return
        if work.called and work.listener is not None:
            work.listener.deadline = Deadline.after(self._longest, monotonic=caller.deadline.monotonic)
        else:
            self._cancel(work)

    def _cancel(self, work: _Work) -> None:
        # Forgotten first: who comes next must not wait for what is being given up.
        self._forget(work)
        if work.task is not None:
            work.task.cancel()

    def _end(self, work: _Work, made: _Made | None, error: BaseException | None = None) -> None:
        self._forget(work)
        work.end(made, error)

    def _over(self, work: _Work) -> None:
        # A callback, not the end of the task: one that is cancelled before its first step has no end to reach.
        self._running.discard(work)
        self._end(work, None, Unavailable("the server stops", reason=Reason.SHUTTING_DOWN))

    def _forget(self, work: _Work) -> None:
        if self._works.get(work.asked.scope) is work:
            del self._works[work.asked.scope]


async def _within(step: Awaitable[object], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await step
    except TimeoutError:
        return False
    return True


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the answer was not finished within the deadline")
