"""The micro-batcher shares calls between callers, and never one caller's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from services.chassis.errors import InvalidRequest, Reason, Unavailable
from services.embedding import Embedded, EmbedderIdentity, MicroBatcher
from services.embedding.batching import BatchLimits

GUARD_S = 10.0
NEVER_S = 3600.0


class Recorder:
    """An embedder that records its calls and answers when `gate` is open; a text's vector shows the text's length."""

    identity = EmbedderIdentity("recorder", 2, "1")
    default_min_similarity = 0.95

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuse: Callable[[Sequence[str]], BaseException | None] = lambda _: None
        self.cancelled = 0
        self.closed = False
        self._changed = asyncio.Event()

    async def warm(self) -> None: ...

    def comparable(self, text: str) -> bool:
        return True

    def windows(self, text: str) -> int:
        return 1

    async def embed(self, texts: Sequence[str]) -> Embedded:
        self.calls.append(list(texts))
        self._changed.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self._changed.set()
            raise
        if (error := self.refuse(texts)) is not None:
            raise error
        rows = np.array([[1.0, len(text)] for text in texts], np.float32)
        return Embedded(rows, tuple(len(text) for text in texts))

    async def aclose(self) -> None:
        self.closed = True

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD_S):
            while not reached():
                self._changed.clear()
                await self._changed.wait()


def limits(
    size: int = 32, characters: int = 10_000, delay: float = 0.0, batches: int = 8, waiting: int = 1024
) -> BatchLimits:
    return BatchLimits(size=size, characters=characters, delay=delay, batches=batches, waiting=waiting)


async def together(batcher: MicroBatcher, *texts: str) -> list[asyncio.Task[tuple[np.ndarray, int]]]:
    """Callers that all have asked when this returns."""
    tasks = [asyncio.create_task(batcher.embed_one(text)) for text in texts]
    await asyncio.sleep(0)
    return tasks


async def test_each_caller_gets_its_own_texts_vector() -> None:
    recorder = Recorder()
    batcher = MicroBatcher(recorder, limits())
    answers = await asyncio.gather(*await together(batcher, "a", "bbb", "cc"))
    assert recorder.calls == [["a", "bbb", "cc"]]
    assert [(vector[1], tokens) for vector, tokens in answers] == [(1, 1), (3, 3), (2, 2)]
    await batcher.aclose()


async def test_a_full_batch_does_not_wait_for_the_delay() -> None:
    recorder = Recorder()
    batcher = MicroBatcher(recorder, limits(size=2, delay=NEVER_S))
    async with asyncio.timeout(GUARD_S):
        await asyncio.gather(*await together(batcher, "a", "b"))
    assert recorder.calls == [["a", "b"]]
    await batcher.aclose()


async def test_a_lone_text_is_embedded_after_the_delay() -> None:
    recorder = Recorder()
    batcher = MicroBatcher(recorder, limits(size=100, delay=0.001))
    async with asyncio.timeout(GUARD_S):
        await batcher.embed_one("alone")
    assert recorder.calls == [["alone"]]
    await batcher.aclose()


async def test_a_short_text_does_not_share_a_batch_with_a_long_one() -> None:
    recorder = Recorder()
    batcher = MicroBatcher(recorder, limits(characters=10))
    await asyncio.gather(*await together(batcher, "x" * 50, "a", "b"))
    assert recorder.calls == [["x" * 50], ["a", "b"]]
    await batcher.aclose()


async def test_equal_texts_are_embedded_and_bought_once() -> None:
    recorder = Recorder()
    batcher = MicroBatcher(recorder, limits())
    answers = await asyncio.gather(*await together(batcher, *["same"] * 1000))
    assert recorder.calls == [["same"]]
    assert sorted(tokens for _, tokens in answers) == [0] * 999 + [4]
    assert all(not vector.flags.writeable for vector, _ in answers)
    await batcher.aclose()


async def test_an_equal_text_joins_a_batch_that_already_runs() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = MicroBatcher(recorder, limits())
    first = await together(batcher, "same")
    await recorder.until(lambda: len(recorder.calls) == 1)
    second = await together(batcher, "same")
    recorder.gate.set()
    await asyncio.gather(*first, *second)
    assert recorder.calls == [["same"]]
    await batcher.aclose()


async def test_texts_gather_while_all_places_are_taken() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = MicroBatcher(recorder, limits(batches=1))
    first = await together(batcher, "first")
    await recorder.until(lambda: len(recorder.calls) == 1)
    rest = await together(batcher, "a", "b", "c")
    recorder.gate.set()
    async with asyncio.timeout(GUARD_S):
        await asyncio.gather(*first, *rest)
    assert recorder.calls == [["first"], ["a", "b", "c"]]
    await batcher.aclose()


async def test_a_cancelled_caller_leaves_its_neighbours_alone() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = MicroBatcher(recorder, limits())
    leaving, staying, same = await together(batcher, "a", "b", "b")
    await recorder.until(lambda: len(recorder.calls) == 1)
    leaving.cancel()
    same.cancel()
    await asyncio.gather(leaving, same, return_exceptions=True)
    recorder.gate.set()
    vector, tokens = await staying
    assert (vector[1], tokens) == (1, 1)
    assert recorder.cancelled == 0
    await batcher.aclose()


async def test_a_batch_without_callers_is_stopped() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = MicroBatcher(recorder, limits())
    callers = await together(batcher, "a", "b")
    await recorder.until(lambda: len(recorder.calls) == 1)
    for caller in callers:
        caller.cancel()
    await recorder.until(lambda: recorder.cancelled == 1)
    recorder.gate.set()
    await batcher.embed_one("a")
    assert recorder.calls == [["a", "b"], ["a"]]
    await batcher.aclose()


async def test_a_caller_that_leaves_before_the_batch_runs_costs_nothing() -> None:
    recorder = Recorder()
    batcher = MicroBatcher(recorder, limits(size=3, delay=NEVER_S, waiting=3))
    leaving, staying = await together(batcher, "a", "b")
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    rest = await together(batcher, "c", "d")
    await asyncio.gather(staying, *rest)
    assert recorder.calls == [["b", "c", "d"]]
    await batcher.aclose()


async def test_a_failing_batch_fails_its_callers_only() -> None:
    recorder = Recorder()
    recorder.refuse = lambda texts: Unavailable("down", reason=Reason.EMBEDDER_UNAVAILABLE) if "bad" in texts else None
    batcher = MicroBatcher(recorder, limits(size=2))
    answers = await asyncio.gather(*await together(batcher, "bad", "x", "c", "d"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable, tuple, tuple]
    assert isinstance(await batcher.embed_one("x"), tuple)
    await batcher.aclose()


async def test_nobody_fails_for_a_neighbours_text() -> None:
    recorder = Recorder()
    recorder.refuse = lambda texts: (
        InvalidRequest("too long", reason=Reason.CONTEXT_TOO_LONG) if "bad" in texts else None
    )
    batcher = MicroBatcher(recorder, limits())
    answers = await asyncio.gather(*await together(batcher, "a", "bad", "c"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [tuple, InvalidRequest, tuple]
    await batcher.aclose()


async def test_a_defect_of_the_embedder_reaches_callers_as_unavailable() -> None:
    recorder = Recorder()
    recorder.refuse = lambda _: ZeroDivisionError()
    batcher = MicroBatcher(recorder, limits())
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context.get("exception")))
    with pytest.raises(Unavailable) as caught:
        await batcher.embed_one("a")
    assert caught.value.reason is Reason.EMBEDDER_UNAVAILABLE
    recorder.refuse = lambda _: None
    await batcher.embed_one("a")
    await batcher.aclose()


async def test_a_wrong_number_of_vectors_is_no_answer() -> None:
    class Short(Recorder):
        async def embed(self, texts: Sequence[str]) -> Embedded:
            return await super().embed(texts[:-1])

    batcher = MicroBatcher(Short(), limits())
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    answers = await asyncio.gather(*await together(batcher, "a", "b"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    await batcher.aclose()


async def test_what_waits_is_bounded_and_shared_texts_take_one_place() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = MicroBatcher(recorder, limits(waiting=2))
    callers = await together(batcher, "a", "b", "a", "b")
    with pytest.raises(Unavailable) as caught:
        await batcher.embed_one("c")
    assert caught.value.reason is Reason.OVERLOADED
    assert caught.value.retry_after is not None
    recorder.gate.set()
    await asyncio.gather(*callers)
    await batcher.embed_one("c")
    await batcher.aclose()


async def test_closing_fails_those_who_wait_and_closes_the_embedder() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = MicroBatcher(recorder, limits(batches=1))
    running = await together(batcher, "a")
    await recorder.until(lambda: len(recorder.calls) == 1)
    waiting = await together(batcher, "b")
    await batcher.aclose()
    answers = await asyncio.gather(*running, *waiting, return_exceptions=True)
    assert [answer.reason for answer in answers if isinstance(answer, Unavailable)] == [Reason.SHUTTING_DOWN] * 2
    with pytest.raises(Unavailable):
        await batcher.embed_one("c")
    assert recorder.closed
    assert recorder.calls == [["a"]]
