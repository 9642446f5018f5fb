"""Equal requests in flight share one fill: one task that makes the answer, and those who listen to it.

A listener that leaves detaches. When the last one leaves the task is cancelled, and with it whatever it has under way.
Who gets the whole answer first pays for what the fill has bought, so the bill is carried once, whoever else leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from services.chassis.deadline import Deadline
from services.chassis.errors import DeadlineExceeded, Exhausted, Reason, Unavailable
from services.completion.request import CacheMode, Request
from services.completion.result import Delivered, delivered
from services.completion.streaming.content import Content, Sentence
from services.completion.streaming.replaying import Replaying
from services.completion.streaming.signs import Beat, Called
from services.completion.streaming.transcript import Opened, Transcript
from services.completion.streaming.view import TextEvents, View

Event = Opened | Content | Sentence | Beat | Called | Delivered


@dataclass(frozen=True, slots=True)
class Pace:
    """How content leaves in a stream: what comes within `seconds` of the last together, unless it is `size` bytes.

    A reader is given `backlog` bytes at a time at most. If it takes longer than `patience` seconds over them, and more
    than as many were written meanwhile, it is given up.
    """

    seconds: float = 0.0
    size: int = 1
    backlog: int = 256 * 1024
    patience: float = 1.0


AT_ONCE = Pace()
BY_THE_CLOCK = Replaying()


class Fill:
    """One answer in the making. Its task writes the transcript; listeners read it."""

    def __init__(self, request: Request, transcript: Transcript, until: Deadline) -> None:
        self.request = request
        self.transcript = transcript
        self.closing = False
        """The server stops and does not wait for this fill."""
        self._until = until
        self._listeners: dict[Listener, None] = {}
        self._paid = False
        self._raise_to: Callable[[int], None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def called(self) -> bool:
        """Whether a model was called: asking again may buy a second answer."""
        return self.transcript.called

    @property
    def listeners(self) -> int:
        """Who waits for this answer now."""
        return len(self._listeners)

    @property
    def priority(self) -> int:
        """That of the most urgent listener."""
        return max((listener.priority for listener in self._listeners), default=self.request.priority)

    @property
    def only_streams(self) -> bool:
        """Whether everybody who waits reads the answer while it is written."""
        return all(listener.streaming for listener in self._listeners)

    def remaining(self) -> float:
        """Seconds that the answer may still take: as long as the most patient listener, within the fill's own limit."""
        patience = max((listener.deadline.remaining() for listener in self._listeners), default=0.0)
        return self._until.within(patience)

    def limit(self) -> float:
        """Seconds that the answer may still take if somebody patient comes: what a call of a model may be given."""
        return self._until.remaining()

    def begin(self, work: Coroutine[None, None, None], ended: Callable[[Fill], None]) -> None:
        """Start the task; `ended` is told when it is over, however soon that is."""
        self._task = asyncio.create_task(work, name="fill")
        self._task.add_done_callback(lambda _: ended(self))

    def attach(self, listener: Listener) -> None:
        """Add a listener."""
        self._listeners[listener] = None
        if self._raise_to is not None:
            self._raise_to(self.priority)

    def waits(self, raise_to: Callable[[int], None] | None) -> None:
        """Note that the answer waits for its turn at a model, or does not any more (None).

        `raise_to` is told the priority of the most urgent listener whenever somebody joins.
        """
        self._raise_to = raise_to

    def detach(self, listener: Listener) -> bool:
        """Remove a listener; True if nobody is left and the answer is still being made."""
        self._listeners.pop(listener, None)
        return not self._listeners and not self.transcript.ended

    def pays(self) -> bool:
        """Whether who gets the answer now is the one who pays: the first who gets it, and nobody after."""
        first, self._paid = not self._paid, True
        return first

    async def cancel(self) -> None:
        """Stop making the answer and wait until that is done."""
        self.abandon()
        if self._task is not None:
            await asyncio.wait({self._task})

    def abandon(self) -> None:
        """Stop making the answer; its connection to the model's server closes when the loop gets to it."""
        if self._task is not None:
            self._task.cancel()


class Listener:
    """One caller of one fill; use it as a context manager, once."""

    def __init__(
        self,
        fill: Fill,
        deadline: Deadline,
        *,
        streaming: bool,
        leave: Callable[[Listener], None],
        priority: int = 0,
        pays: bool = True,
        pace: Pace = AT_ONCE,
        replaying: Replaying = BY_THE_CLOCK,
    ) -> None:
        self.fill = fill
        self.priority = priority
        self.deadline = deadline
        self.streaming = streaming
        self._leave = leave
        self._pays = pays
        self._pace = pace
        self._replaying = replaying
        self._monotonic = deadline.monotonic
        self._came = self._monotonic()
        self._first_content: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(self)

    def companion(self, deadline: Deadline) -> Listener:
        """Return one who reads the same answer, but neither keeps it going nor pays for it."""
        return Listener(
            self.fill,
            deadline,
            streaming=True,
            leave=lambda _: None,
            pays=False,
            pace=self._pace,
            replaying=self._replaying,
        )

    async def result(self, called: Callable[[], Awaitable[None]] | None = None) -> Delivered:
        """Wait for the whole answer; raises the fill's error, or `DeadlineExceeded` at this listener's deadline.

        `called` is awaited as soon as a model was called for it.
        """
        if not await self._within(self._wait(called), self.deadline.remaining()):
            raise self._late()
        return self.delivered()

    async def _wait(self, called: Callable[[], Awaitable[None]] | None) -> None:
        transcript = self.fill.transcript
        if called is not None:
            await transcript.call()
            if transcript.called:
                await called()
        await transcript.change(0)
        self._first_content = self._monotonic()
        await transcript.end()

    def events(
        self, heartbeat: float, shown: TextEvents = TextEvents.DELTAS, *, tokens_per_second: float = 0
    ) -> AsyncGenerator[Event, None]:
        """Yield the answer while it is written, from its start; a `Beat` whenever `heartbeat` seconds were silent.

        Where a model is called, `Called` comes first. The first content leaves at once, what has gathered since the
        last event as one, by the pace of `Fills`; a stored answer at `tokens_per_second`, unless they are 0. Raises
        like `result`.
        """
        if tokens_per_second:
            return self._paced(heartbeat, shown, tokens_per_second)
        return self._written(heartbeat, shown)

    async def _written(self, heartbeat: float, shown: TextEvents) -> AsyncGenerator[Event, None]:
        transcript, position, told = self.fill.transcript, 0, False
        view = View(shown)
        quiet_until = self._monotonic() + heartbeat
        sent, slow_until = 0, self._monotonic()
        while True:
            if (early := min(slow_until, quiet_until) - self._monotonic()) > 0:
                await transcript.gathered(sent + self._pace.size, self.deadline.within(early))
            if not transcript.changed(position, told=told):
                quiet = self.deadline.within(max(quiet_until - self._monotonic(), 0.0))
                if not await self._within(transcript.change(position, told=told), quiet):
                    if self.deadline.passed:
                        raise self._late()
                    yield Beat()
                    quiet_until = self._monotonic() + heartbeat
                    continue
            if transcript.called and not told:
                told = True
                yield Called()
                quiet_until = self._monotonic() + heartbeat
            pieces, position, taken = transcript.since(position, self._pace.backlog)
            sent += taken
            written, given = transcript.size, self._monotonic()
            if pieces and self._first_content is None and transcript.opened is not None:
                self._first_content = self._monotonic()
                yield transcript.opened
                quiet_until = self._first_content + heartbeat
            for seen in view.of(pieces):
                yield seen
                # Not for what the view keeps to itself: the reader of sentences hears nothing of half a one.
                quiet_until = self._monotonic() + heartbeat
            self._must_keep_up(transcript.size - written, self._monotonic() - given)
            if pieces:
                slow_until = self._monotonic() + self._pace.seconds
            if transcript.ended and position == len(transcript):
                break
        result = self.delivered()
        if self._first_content is None and transcript.opened is not None:
            yield transcript.opened
        for sentence in view.rest():
            yield sentence
        yield result

    async def _paced(
        self, heartbeat: float, shown: TextEvents, tokens_per_second: float
    ) -> AsyncGenerator[Event, None]:
        """Yield a stored answer as if a model were writing it; any other one as it is written."""
        transcript = self.fill.transcript
        while not await self._within(transcript.call(), self.deadline.within(heartbeat)):
            if self.deadline.passed:
                raise self._late()
            yield Beat()
        if not transcript.stored:
            async with aclosing(self._written(heartbeat, shown)) as written:
                async for event in written:
                    yield event
            return
        self._first_content = self._monotonic()
        if transcript.opened is not None:
            yield transcript.opened
        told = self._replaying.tell(
            transcript.pieces,
            View(shown),
            tokens_per_second=tokens_per_second,
            heartbeat=heartbeat,
            deadline=self.deadline,
        )
        async with aclosing(told):
            async for seen in told:
                yield seen
        yield self.delivered()

    def _must_keep_up(self, gathered: int, seconds: float) -> None:
        """Raise if so many bytes were written in the seconds for which the reader was busy with the last ones."""
        if gathered > self._pace.backlog and seconds > self._pace.patience:
            raise Exhausted(
                "the stream is read more slowly than the answer is written",
                reason=Reason.READER_TOO_SLOW,
                metadata={"limit_bytes": str(self._pace.backlog)},
            )

    def delivered(self) -> Delivered:
        """Return what this listener gets of a fill that has ended, or raise its error."""
        completed = self.fill.transcript.result()
        now = self._monotonic()
        first = self._first_content if self._first_content is not None else now
        return delivered(
            completed,
            pays=self._pays and self.fill.pays(),
            latency=now - self._came,
            time_to_first_token=first - self._came,
        )

    async def _within(self, step: Awaitable[None], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await step
        except TimeoutError:
            return False
        return True

    @staticmethod
    def _late() -> DeadlineExceeded:
        return DeadlineExceeded("the answer was not finished within the deadline")


class Fills:
    """All fills of this process. `work` makes one answer and ends its transcript."""

    def __init__(
        self,
        work: Callable[[Fill], Awaitable[None]],
        *,
        answer_limit: int,
        longest: float,
        joined: Callable[[bool], None],
        pace: Pace = AT_ONCE,
        replaying: Replaying = BY_THE_CLOCK,
    ) -> None:
        """`answer_limit` in bytes; `longest` in seconds; `joined` is told of each request whether it shared."""
        self._pace = pace
        self._replaying = replaying
        self._work = work
        self._answer_limit = answer_limit
        self._longest = longest
        self._joined = joined
        self._shared: dict[bytes, Fill] = {}
        self._all: set[Fill] = set()

    def __len__(self) -> int:
        return len(self._all)

    def join(self, request: Request, deadline: Deadline, *, streaming: bool) -> Listener:
        """Listen to the fill of an equal request, or to a new one. Raises `DeadlineExceeded` if no time is left."""
        deadline.check()
        # Who bypasses the cache wants an answer of its own.
        shares = request.policy.mode is not CacheMode.BYPASS
        fill = self._shared.get(request.key) if shares else None
        if fill is not None and fill.transcript.ended:
            # Its task is about to be over. Who comes now asks the cache, and may fare better than with a failed fill.
            fill = None
        self._joined(fill is not None)
        begins = fill is None
        if fill is None:
            until = Deadline.after(self._longest, monotonic=deadline.monotonic)
            fill = Fill(request, Transcript(self._answer_limit), until)
            self._all.add(fill)
            if shares:
                self._shared[request.key] = fill
        listener = Listener(
            fill,
            deadline,
            streaming=streaming,
            leave=self._leave,
            priority=request.priority,
            pace=self._pace,
            replaying=self._replaying,
        )
        fill.attach(listener)
        if begins:
            fill.begin(self._make(fill), self._ended)
        return listener

    async def close(self) -> None:
        """Break off what is still being made; its listeners get UNAVAILABLE."""
        fills = list(self._all)
        for fill in fills:
            fill.closing = True
        await asyncio.gather(*(fill.cancel() for fill in fills))

    def _leave(self, listener: Listener) -> None:
        fill = listener.fill
        if fill.detach(listener):
            # Forgotten first: the next equal request must not join a fill that is being given up.
            self._forget(fill)
            fill.abandon()

    async def _make(self, fill: Fill) -> None:
        try:
            async with asyncio.timeout(self._longest):
                await self._work(fill)
        except TimeoutError:
            fill.transcript.fail(DeadlineExceeded("the answer took longer than this server allows"))
        except Exception as error:  # noqa: BLE001 -- handed to every listener, which raises it
            fill.transcript.fail(error)

    def _ended(self, fill: Fill) -> None:
        # A callback, not the end of the task: one that is cancelled before its first step has no end to reach.
        self._forget(fill)
        self._all.discard(fill)
        fill.transcript.fail(Unavailable("the server stops", reason=Reason.SHUTTING_DOWN))

    def _forget(self, fill: Fill) -> None:
        if self._shared.get(fill.request.key) is fill:
            del self._shared[fill.request.key]
