"""Vectors of questions: computed once for callers who ask the same at once, and within their time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress

from services.cache.background import Background
from services.cache.ports import QuestionEmbedder
from services.cache.scope import Address
from services.cache.values import Vector
from services.chassis.errors import InvalidRequest
from services.chassis.value import value

SECONDS_PER_WINDOW = 0.5
"""A full window takes a core about 60 ms, and several times that where there is more work than cores. A bypass there
buys an answer from a model, which takes longer still."""

MOST_SECONDS = 2.0

INLINE_CHARACTERS = 2_000
"""Of a text that is read on the event loop, which takes about 1 ms. Longer ones go to a thread."""

REMEMBERED = 1_024
"""Vectors that are kept for the next call about the same question: a retry, a renewed lookup, a Put after a bypass."""


@value
class Embedding:
    """`vector` is None if the embedder cannot tell the text from others; `tokens` is what this call used."""

    vector: Vector | None
    tokens: int


class Embeddings:
    """An embedder with a short memory, kept by question and scope: what one tenant asked tells another nothing."""

    def __init__(self, embedder: QuestionEmbedder, background: Background) -> None:
        self._embedder = embedder
        self._background = background
        self._running: dict[str, asyncio.Task[Embedding]] = {}
        self._windows = 0
        """Of the questions that are being embedded."""
        self._known: OrderedDict[str, Vector | None] = OrderedDict()

    def budget(self, *addresses: Address, most: float = MOST_SECONDS) -> float:
        """Seconds that embedding these questions may take: `SECONDS_PER_WINDOW` for each window, at most `most`.

        Windows of other questions that are being embedded count, too: these wait for them, in their batch or before
        it, and a burst of new questions is no reason to give all of them up.
        """
        texts = {one.entry_id: one.question.text for one in addresses if one.entry_id not in self._running}
        own = sum(map(self._embedder.windows, texts.values()))
        return min(SECONDS_PER_WINDOW * (self._windows + own), most)

    def known(self, address: Address) -> Embedding | None:
        """The question's embedding, if it is remembered."""
        key = address.entry_id
        if key not in self._known:
            return None
        self._known.move_to_end(key)
        return Embedding(self._known[key], 0)

    async def of(self, address: Address, *, within: float) -> Embedding:
        """The question's embedding. Raises TimeoutError after `within` seconds, and what the embedder raises.

        A computation goes on when its caller has left, so that the next one finds it done.
        """
        known = self.known(address)
        if known is not None:
            return known
        key = address.entry_id
        task = self._running.get(key)
        first = task is None
        if task is None:
            task = self._start(key, address.question.text)
        async with asyncio.timeout(within):
            done = await asyncio.shield(task)
        return done if first else Embedding(done.vector, 0)

    def _start(self, key: str, text: str) -> asyncio.Task[Embedding]:
        windows = self._embedder.windows(text)
        task = self._background.start("embed", self._compute(key, text))

        def ended(_: asyncio.Task[Embedding]) -> None:
            self._windows -= windows
            del self._running[key]

        self._windows += windows
        self._running[key] = task
        task.add_done_callback(ended)
        return task

    async def _compute(self, key: str, text: str) -> Embedding:
        embedding = Embedding(None, 0)  # only its own words may find it
        if await self._comparable(text):
            with suppress(InvalidRequest):  # too long to be read whole
                embedding = Embedding(*await self._embedder.embed_one(text))
        self._known[key] = embedding.vector
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return embedding

    async def _comparable(self, text: str) -> bool:
        if len(text) <= INLINE_CHARACTERS:
            return self._embedder.comparable(text)
        return await asyncio.to_thread(self._embedder.comparable, text)
