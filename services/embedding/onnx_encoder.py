"""A sentence encoder on this machine's processor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Reason, Unavailable
from services.embedding.pieces import Pieces, PieceText
from services.embedding.protocol import Embedded, EmbedderIdentity
from services.embedding.session import EncoderSession
from services.embedding.vectors import unit_rows
from services.embedding.windows import combine

PASS_PIECES = 256
"""Padded pieces of one forward pass, about 0.1 s on one core. A larger pass is hardly cheaper for each text, and the
texts of other callers wait until it is over."""

T = TypeVar("T")


class OnnxEmbedder:
    """An `Embedder` over one `EncoderSession`.

    Tokenizing and forward passes run in one thread of its own, each pass as a job of its own, so that calls of `embed`
    take turns and a cancelled call stops after the pass that is running.
    """

    def __init__(
        self, identity: EmbedderIdentity, session: EncoderSession, pieces: Pieces, *, default_min_similarity: float
    ) -> None:
        self._identity = identity
        self._session = session
        self._pieces = pieces
        self._default_min_similarity = default_min_similarity
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="embedder")
        self._closed = False

    @property
    def identity(self) -> EmbedderIdentity:
        return self._identity

    @property
    def default_min_similarity(self) -> float:
        return self._default_min_similarity

    async def warm(self) -> None:
        """One pass, after which onnxruntime has its memory."""
        await self.embed(["Is the encoder ready?"])

    def windows(self, text: str) -> int:
        return self._pieces.estimate(text)

    def comparable(self, text: str) -> bool:
        return self._pieces.is_known(text)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        split = await self._in_thread(lambda: [self._pieces.split(text) for text in texts])
        windows = [window for text in split for window in text.windows]
        rows = np.empty((len(windows), self._identity.dim), np.float32)
        for indices in _passes([len(window) for window in windows]):
            chosen = [windows[index] for index in indices]
            output = await self._in_thread(lambda chosen=chosen: self._session.run(chosen))  # type: ignore[misc]
            rows[indices] = unit_rows(output, count=len(indices), dim=self._identity.dim)
        return Embedded(_join(rows, split), tuple(text.tokens for text in split))

    async def aclose(self) -> None:
        self._closed = True
        # Joins the thread, which may be in the middle of a pass.
        await asyncio.to_thread(self._executor.shutdown)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable("the embedder is shutting down", reason=Reason.SHUTTING_DOWN)
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _passes(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of windows that share a pass: of similar length, so that little is padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > PASS_PIECES:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _join(rows: NDArray[np.float32], split: Sequence[PieceText]) -> NDArray[np.float32]:
    joined = np.empty((len(split), rows.shape[1]), np.float32)
    start = 0
    for index, text in enumerate(split):
        joined[index] = combine(rows[start : start + len(text.windows)])
        start += len(text.windows)
    return joined
