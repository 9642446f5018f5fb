"""An answer that is all there, given to a reader at a pace, as if a model were writing it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from services.chassis.deadline import Deadline
from services.completion.streaming.content import Content, Sentence, cut, joined, size
from services.completion.streaming.signs import Beat
from services.completion.streaming.view import View

TOKEN_BYTES = 4
"""Of text (UTF-8) that count as a token: about what English takes, whatever the model's own tokens are
(OpenAI: "one token generally corresponds to ~4 characters of text for common English text")."""

SHARE_OF_TIME = 0.8
"""Of the time that the caller gives: a pace at which an answer would take longer is raised, so that none is late."""


class Replay:
    """What of an answer is due when. Times are in seconds since it began; pieces are at least `tick` seconds apart.

    It holds a copy of one piece at a time: the answer itself is shared by all who are told it.
    """

    def __init__(self, pieces: Sequence[Content], tokens_per_second: float, *, tick: float, within: float) -> None:
        self._pieces = joined(pieces)
        self._piece = next(self._pieces, None)
        total = sum(map(size, pieces))
        rate = max(tokens_per_second * TOKEN_BYTES, total / (max(within, 0.001) * SHARE_OF_TIME))
        self._tick = max(tick, TOKEN_BYTES / rate)
        self._step = rate * self._tick
        """Bytes in a tick."""
        self._given = 0

    @property
    def over(self) -> bool:
        """Whether all of it was given."""
        return self._piece is None

    def next_at(self) -> float:
        """When the next piece is due."""
        return 0.0 if not self._given else math.ceil(self._given / self._step - 1e-9) * self._tick

    def due(self, now: float) -> list[Content]:
        """Return what is due and was not given, in as few pieces as may be."""
        taken: list[Content] = []
        target = (math.floor(now / self._tick + 1e-9) + 1) * self._step
        while (piece := self._piece) is not None and self._given < target:
            rest, bytes_ = None, size(piece)
            if bytes_ > target - self._given:
                piece, rest = cut(piece, (target - self._given) / bytes_)
                bytes_ = size(piece)
            self._piece = next(self._pieces, None) if rest is None else rest
            self._given += bytes_
            taken.append(piece)
        return list(joined(taken))


@dataclass(frozen=True, slots=True)
class Replaying:
    """How replays are told. `tick`: seconds between two pieces at least."""

    tick: float = 0.0
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)

    async def tell(
        self, pieces: Sequence[Content], view: View, *, tokens_per_second: float, heartbeat: float, deadline: Deadline
    ) -> AsyncGenerator[Content | Sentence | Beat, None]:
        """Yield what a reader sees of an answer, at its pace; a `Beat` whenever `heartbeat` seconds were silent.

        A reader that takes longer over a piece gets the next ones together. `tokens_per_second` 0: all at once.
        """
        began = self.monotonic()
        if not tokens_per_second:
            for seen in view.of(joined(pieces)):
                yield seen
        else:
            replay = Replay(pieces, tokens_per_second, tick=self.tick, within=deadline.remaining())
            quiet_until = began + heartbeat
            while True:
                for seen in view.of(replay.due(self.monotonic() - began)):
                    yield seen
                    quiet_until = self.monotonic() + heartbeat
                if replay.over:
                    break
                if (now := self.monotonic()) >= quiet_until:
                    yield Beat()
                    quiet_until = self.monotonic() + heartbeat
                await self.sleep(max(min(began + replay.next_at(), quiet_until) - now, 0.0))
        for sentence in view.rest():
            yield sentence
