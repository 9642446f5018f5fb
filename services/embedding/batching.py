"""Gathers texts of many callers into batches for one embedder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import AntiphonError, InvalidRequest, Reason, Unavailable
from services.embedding.protocol import Embedder, EmbedderIdentity

Vector = NDArray[np.float32]

RETRY_AFTER_S = 0.1
"""What a refused caller is told to wait: about one forward pass."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How many texts are taken together, and how many at all."""

    size: int = 32
    """Texts of one batch."""
    characters: int = 1_000
    """Characters of one batch, unless one text alone has more: a short text is not held up by a long one beside it."""
    delay: float = 0.001
    """Seconds that a text waits for others when the embedder is free."""
    batches: int = 8
    """Batches that run at once; while all do, texts gather."""
    waiting: int = 1024
    """Different texts that wait or are being embedded."""


class _Job:
    """One text that somebody waits for; equal texts share it."""

    __slots__ = ("batch", "callers", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.callers: list[asyncio.Future[tuple[Vector, int]]] = []
        self.batch: _Batch | None = None

    def succeed(self, vector: Vector, tokens: int) -> None:
        for caller in self._open_callers():
            caller.set_result((vector, tokens))
            tokens = 0  # bought once

    def fail(self, error: Exception) -> None:
        for caller in self._open_callers():
            caller.set_exception(error)

    def _open_callers(self) -> Iterable[asyncio.Future[tuple[Vector, int]]]:
        return [caller for caller in self.callers if not caller.done()]


class _Batch:
    """Jobs that run together; it is cancelled when nobody waits for any of them."""

    __slots__ = ("jobs", "task")

    def __init__(self, jobs: list[_Job]) -> None:
        self.jobs = jobs
        self.task: asyncio.Task[None] | None = None


class MicroBatcher:
    """One text in, its vector out; texts that come at about the same time share a call of the embedder.

    Equal texts in flight are embedded once. A caller that is cancelled only withdraws itself; a batch is stopped when
    all of its callers have gone. A batch that fails fails its own callers only, and one that is refused because of a
    text (`InvalidRequest`) is tried once more text by text, so that nobody fails for a neighbour's text. It owns the
    embedder and belongs to one event loop.
    """

    def __init__(self, embedder: Embedder, limits: BatchLimits | None = None) -> None:
        self._embedder = embedder
        self._limits = limits or BatchLimits()
        self._jobs: dict[str, _Job] = {}
        self._waiting: list[_Job] = []
        self._timer: asyncio.TimerHandle | None = None
        self._batches: set[_Batch] = set()
        self._closed = False

    @property
    def identity(self) -> EmbedderIdentity:
        return self._embedder.identity

    @property
    def default_min_similarity(self) -> float:
        return self._embedder.default_min_similarity

    async def warm(self) -> None:
        """As `Embedder.warm`."""
        await self._embedder.warm()

    def windows(self, text: str) -> int:
        """As `Embedder.windows`."""
        return self._embedder.windows(text)

    def comparable(self, text: str) -> bool:
        """As `Embedder.comparable`."""
        return self._embedder.comparable(text)

    async def embed_one(self, text: str) -> tuple[Vector, int]:
        """The text's vector (read-only: equal texts share it) and the tokens that this call bought: 0 for a sharer.

        Raises what `Embedder.embed` raises, and `Unavailable` with OVERLOADED or SHUTTING_DOWN.
        """
        if self._closed:
            raise _shutting_down()
        job = self._jobs.get(text) or self._add(text)
        caller: asyncio.Future[tuple[Vector, int]] = asyncio.get_running_loop().create_future()
        job.callers.append(caller)
        try:
            return await caller
        finally:
            if caller.cancelled():
                job.callers.remove(caller)
                if not job.callers:
                    self._withdraw(job)

    async def aclose(self) -> None:
        """Stop all batches, fail their callers with SHUTTING_DOWN, and close the embedder."""
        self._closed = True
        self._stop_timer()
        for job in self._jobs.values():
            job.fail(_shutting_down())
        self._jobs.clear()
        self._waiting.clear()
        tasks = [batch.task for batch in self._batches if batch.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._embedder.aclose()

    def _add(self, text: str) -> _Job:
        if len(self._jobs) >= self._limits.waiting:
            raise Unavailable(
                "too many texts wait for the embedder", reason=Reason.OVERLOADED, retry_after=RETRY_AFTER_S
            )
        job = _Job(text)
        self._jobs[text] = job
        self._waiting.append(job)
        # Callers are added right after this, before any batch can run: tasks and timers start with a later turn.
        if len(self._waiting) >= self._limits.size:
            self._flush()
        elif len(self._waiting) == 1:
            self._timer = asyncio.get_running_loop().call_later(self._limits.delay, self._flush)
        return job

    def _withdraw(self, job: _Job) -> None:
        """Nobody waits for the job any more: forget it, and stop its batch if that was the last one."""
        self._forget(job)
        if job.batch is None:
            if job in self._waiting:
                self._waiting.remove(job)
            if not self._waiting:
                self._stop_timer()
        elif job.batch.task is not None and not any(other.callers for other in job.batch.jobs):
            job.batch.task.cancel()

    def _forget(self, job: _Job) -> None:
        # A new job for the same text may have taken the place of one that everybody left.
        if self._jobs.get(job.text) is job:
            del self._jobs[job.text]

    def _flush(self) -> None:
        """Start batches while texts wait and places are free; what stays is started when a batch ends."""
        self._stop_timer()
        while self._waiting and len(self._batches) < self._limits.batches:
            count = self._count_that_fit()
            batch = _Batch(self._waiting[:count])
            del self._waiting[:count]
            for job in batch.jobs:
                job.batch = batch
            self._batches.add(batch)
            batch.task = asyncio.get_running_loop().create_task(self._run(batch), name="embedding-batch")
            batch.task.add_done_callback(lambda _, batch=batch: self._ended(batch))  # type: ignore[misc]

    def _count_that_fit(self) -> int:
        characters = 0
        for count, job in enumerate(self._waiting[: self._limits.size]):
            characters += len(job.text)
            if count and characters > self._limits.characters:
                return count
        return min(len(self._waiting), self._limits.size)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _run(self, batch: _Batch) -> None:
        try:
            await self._embed(batch.jobs)
        except InvalidRequest as error:
            if len(batch.jobs) == 1:
                batch.jobs[0].fail(error)
            else:
                await self._embed_apart(batch.jobs)
        except AntiphonError as error:
            for job in batch.jobs:
                job.fail(error)

    def _ended(self, batch: _Batch) -> None:
        self._batches.discard(batch)
        for job in batch.jobs:
            self._forget(job)
            # Whoever still waits does so because the embedder broke its contract, whose exception the loop's handler
            # logs, or because the loop stops.
            job.fail(Unavailable("the embedder failed", reason=Reason.EMBEDDER_UNAVAILABLE))
        if self._timer is None:  # those who wait have waited long enough
            self._flush()

    async def _embed_apart(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            if job.callers:
                try:
                    await self._embed([job])
                except AntiphonError as error:
                    job.fail(error)

    async def _embed(self, jobs: Sequence[_Job]) -> None:
        embedded = await self._embedder.embed([job.text for job in jobs])
        embedded.vectors.setflags(write=False)
        # As a whole before the first caller is told: with one vector too few, nobody knows whose is missing.
        answers = list(zip(jobs, embedded.vectors, embedded.tokens_per_text, strict=True))
        for job, vector, tokens in answers:
            self._forget(job)
            job.succeed(vector, tokens)


def _shutting_down() -> Unavailable:
    return Unavailable("the embedder is shutting down", reason=Reason.SHUTTING_DOWN)
