"""One call of a model: its stream read to the end, what it wrote, what it took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from services.catalogue.values import Model
from services.chassis.errors import AntiphonError, DeadlineExceeded, FailedPrecondition, Reason, Unavailable
from services.completion.draft import Draft
from services.completion.ports import CallStatus
from services.completion.request import Question
from services.completion.streaming.transcript import Transcript
from services.completion.upstreams.protocol import ChatEvent, RateLimit, TextDelta
from services.llm.values import Cost, FinishReason, Usage

TAIL_SECONDS = 3.0
"""For usage, once the model has said why it stopped: the answer itself is whole. Upstreams wait less by themselves."""

BURST = 16
"""Pieces that are taken without letting others run: reading what has already arrived does not wait for anything, and a
fast server's whole answer would be a tenth of a second in which nobody else is served."""


@dataclass(slots=True)
class UpstreamCall:
    """One call in progress. Times are of the monotonic clock; `offset`: bytes of the answer's text before this call."""

    model: Model
    question: Question
    draft: Draft
    began: float
    offset: int = 0
    first_content: float | None = None
    ended: float = 0.0
    status: CallStatus = CallStatus.UPSTREAM_ERROR
    usage: Usage | None = None
    cost: Cost = field(default_factory=Cost)
    error: AntiphonError | None = None

    @property
    def may_be_billed(self) -> bool:
        """Whether the server may charge for it: it wrote something, or may have been at work when we hung up."""
        if self.draft.begun or self.draft.usage is not None or self.error is None:
            return True
        return isinstance(self.error, DeadlineExceeded) or (
            self.error.reason is Reason.CONTENT_FILTERED or self.error.metadata.get("silent") == "first_token"
        )


class _Patience:
    """A block that may take so many seconds until it is given others. `TimeoutError` as `asyncio.timeout`.

    Its timer is moved on only when it rings: a new one for each piece would cost as much as reading the piece.
    """

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._until = self._rings = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._rings, self._ring)

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, traceback)

    def another(self, seconds: float) -> None:
        """Give it so many seconds from now."""
        self._until = self._loop.time() + seconds
        if self._until < self._rings:
            self._set()

    def _set(self) -> None:
        self._timer.cancel()
        self._rings = self._until
        self._timer = self._loop.call_at(self._rings, self._ring)

    def _ring(self) -> None:
        if self._loop.time() < self._until:
            self._set()
        else:
            self._limit.reschedule(self._until)


def _joined(batch: Sequence[ChatEvent]) -> Iterator[ChatEvent]:
    """Yield the events with the texts that follow each other as one: whoever reads gets them together anyway."""
    texts: list[str] = []
    for event in batch:
        if isinstance(event, TextDelta):
            texts.append(event.text)
            continue
        if texts:
            yield TextDelta("".join(texts))
            texts.clear()
        yield event
    if texts:
        yield TextDelta("".join(texts))


async def read(
    call: UpstreamCall,
    events: AsyncGenerator[Sequence[ChatEvent], None],
    transcript: Transcript,
    *,
    first_token: float,
    idle: float,
    monotonic: Callable[[], float],
    begins: Callable[[], None],
    told: Callable[[RateLimit], None],
) -> None:
    """Read one stream to its end, or raise. Content goes to `transcript`; `begins` is called before its first.

    `told` hears what the server says of its rate limit. `first_token` and `idle`: seconds until the first content, and
    between two pieces.
    """
    draft, upstream = call.draft, call.model.upstream
    taken = 0
    try:
        async with _Patience(first_token) as patience:
            while (batch := await anext(events, None)) is not None:
                for event in batch if len(batch) == 1 else _joined(batch):
                    if event.__class__ is RateLimit:
                        told(event)
                        continue
                    content = draft.take(event)
                    if call.first_content is None and draft.begun:
                        call.first_content = monotonic()
                        begins()
                    if content is not None:
                        transcript.append(content)
                if draft.finish is not None:
                    patience.another(TAIL_SECONDS)
                elif draft.begun:
                    patience.another(idle)
                taken += len(batch)
                if taken >= BURST:
                    taken = 0
                    await asyncio.sleep(0)
    except TimeoutError:
        if draft.finish is None:
            raise _silent(upstream, begun=draft.begun) from None
        return
    except AntiphonError as error:
        if not _ended_all_the_same(draft, error):
            raise
        return
    _must_have_finished(draft, upstream)


def _ended_all_the_same(draft: Draft, error: AntiphonError) -> bool:
    """Whether the answer is whole, or has ended with a reason, although its stream failed."""
    if draft.finish is None and error.reason is Reason.CONTENT_FILTERED and draft.begun:
        # Some servers say in an error what others say in `finish_reason`.
        draft.finish = FinishReason.CONTENT_FILTER
    return draft.finish is not None


def _must_have_finished(draft: Draft, upstream: str) -> None:
    if draft.finish is None:
        raise _truncated(upstream)
    if draft.finish is FinishReason.CONTENT_FILTER and not draft.begun:
        raise FailedPrecondition(
            f"the content filter of upstream '{upstream}' withheld the answer",
            reason=Reason.CONTENT_FILTERED,
            metadata={"upstream": upstream},
        )


def _silent(upstream: str, *, begun: bool) -> Unavailable:
    what = "fell silent in the middle of the answer" if begun else "has not begun to answer in time"
    return Unavailable(
        f"upstream '{upstream}' {what}",
        reason=Reason.UPSTREAM_TRUNCATED if begun else Reason.UPSTREAM_UNAVAILABLE,
        metadata={"upstream": upstream, "silent": "idle" if begun else "first_token"},
    )


def _truncated(upstream: str) -> Unavailable:
    return Unavailable(
        f"upstream '{upstream}' ended without saying why: the answer may be cut",
        reason=Reason.UPSTREAM_TRUNCATED,
        metadata={"upstream": upstream},
    )
