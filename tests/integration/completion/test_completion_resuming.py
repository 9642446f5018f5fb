"""Streams that are taken up again where they were broken off: every event once, whoever was cut off, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from antiphon.completion.v1 import completion_pb2
from antiphon_client import AntiphonError, AsyncCompletionClient, CompletionClient
from antiphon_client.errors import UnavailableError
from antiphon_client.streams import Event
from services.completion import resuming
from services.completion.background import Background
from services.completion.resuming import Resuming
from services.completion.streaming.signs import Called
from tests.fakes.behaviours import Behaviour, Gate, answering
from tests.faults.proxy import Proxy
from tests.integration.attempts.world import World, world
from tests.unit.completion.completion_parts import until

WORDS = [f"word{number} " for number in range(20)]
TEXT = "".join(WORDS)
HALF = 10


def paused(gate: Gate, **changes: object) -> Behaviour:
    """The words, of which the second half waits at the gate."""
    return answering(*WORDS, gate=gate, gate_after=HALF, **changes)


async def until_paused(stream: AsyncIterator[Event]) -> list[Event]:
    """Read what comes before the gate."""
    events: list[Event] = []
    while "".join(event.delta.text for event in events) != "".join(WORDS[:HALF]):
        events.append(await anext(stream))
    return events


def whole(events: list[Event]) -> bool:
    """Whether these are all events of the answer, each once and in order."""
    told = [event for event in events if not event.HasField("heartbeat")]
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    return "".join(event.delta.text for event in told) == TEXT == told[-1].finished.answer.text


@asynccontextmanager
async def behind_a_proxy(w: World) -> AsyncIterator[tuple[AsyncCompletionClient, Proxy]]:
    host, _, port = w.address.rpartition(":")
    async with Proxy.to(host, int(port)) as proxy, AsyncCompletionClient(proxy.address) as client:
        yield client, proxy


async def test_the_client_goes_on_where_it_was_cut_off() -> None:
    async with world(coalesce_time=0) as w, behind_a_proxy(w) as (client, proxy):
        gate = Gate()
        w.primary.default = paused(gate)
        async with client.stream("Why?", resumable=True, timeout=30) as stream:
            events = await until_paused(stream)
            proxy.cut()
            gate.open.set()
            events += [event async for event in stream]
        assert whole(events)
        assert len(w.primary.chat_calls) == 1


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_stream_that_is_gone_meanwhile_fails_as_it_was_cut_off_or_begins_again_with_its_key(
    key: str | None,
) -> None:
    async with world(coalesce_time=0) as w, behind_a_proxy(w) as (client, proxy):
        gate = Gate()
        w.primary.enqueue(paused(gate))
        w.primary.default = answering(*WORDS)
        async with client.stream("Why?", resumable=True, idempotency_key=key, timeout=30) as stream:
            events = await until_paused(stream)
            w.service.resuming._streams.clear()
            proxy.cut()
            gate.open.set()
            if key is None:
                with pytest.raises(UnavailableError) as caught:
                    await stream.final()
                assert not caught.value.reason
            else:
                events += [event async for event in stream]
                assert whole(events)
        assert len(w.primary.chat_calls) == 1


async def test_a_stream_is_taken_up_by_another_client_also_after_its_end() -> None:
    async with world(coalesce_time=0) as w:
        gate = Gate()
        w.primary.default = paused(gate)
        async with w.client.stream("Why?", resumable=True, timeout=30) as stream:
            events = await until_paused(stream)
        stream_id = events[0].started.stream_id
        async with AsyncCompletionClient(w.address) as other:
            async with other.resume_stream(stream_id, after_sequence=events[-1].sequence, timeout=30) as rest:
                gate.open.set()
                events += [event async for event in rest]
            assert whole(events)
            for after in (0, 1, len(events) - 1):
                async with other.resume_stream(stream_id, after_sequence=after, timeout=30) as again:
                    assert [event async for event in again] == events[after:]
        assert len(w.primary.chat_calls) == 1


async def test_sentences_and_keys_and_the_synchronous_client_resume_too() -> None:
    async with world(coalesce_time=0) as w:
        w.primary.default = answering("One. ", "Two. ", "Three.")
        shown = completion_pb2.TEXT_EVENTS_SENTENCES
        async with w.client.stream("Why?", resumable=True, text_events=shown, idempotency_key="k") as stream:
            events = [event async for event in stream]
        assert [event.sentence.text for event in events if event.HasField("sentence")] == ["One. ", "Two. ", "Three."]

        def read() -> list[Event]:
            with (
                CompletionClient(w.address) as client,
                client.resume_stream(events[0].started.stream_id, after_sequence=2) as rest,
            ):
                return list(rest)

        assert await asyncio.to_thread(read) == events[2:]


async def test_nobody_else_resumes_it() -> None:
    async with world() as w:
        async with w.client.stream("Why?", resumable=True) as stream:
            events = [event async for event in stream]
        stream_id = events[0].started.stream_id
        process, _, name = stream_id.partition(".")
        with pytest.raises(resuming.NotFound):
            w.service.resuming.find(stream_id, "another tenant")
        for wrong in (f"{process[::-1]}.{name}", f"{process}.{name[::-1]}", "x", "x" * 10_000):
            assert await refused(w, wrong) == (grpc.StatusCode.NOT_FOUND, "STREAM_NOT_FOUND")
        assert (await refused(w, ""))[0] is grpc.StatusCode.INVALID_ARGUMENT
        for after in (-1, len(events) + 1):
            assert (await refused(w, stream_id, after=after))[0] is grpc.StatusCode.INVALID_ARGUMENT
        async with w.client.stream("Why?") as plain:
            assert all(not event.started.stream_id for event in [event async for event in plain])


async def refused(w: World, stream_id: str, *, after: int = 0) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(AntiphonError) as caught:
        async with w.client.resume_stream(stream_id, after_sequence=after, timeout=30) as stream:
            await anext(stream)
    return caught.value.code, caught.value.reason


@pytest.mark.fault(27)
async def test_whoever_resumes_a_stream_that_failed_gets_its_error() -> None:
    async with world(coalesce_time=0) as w:
        w.primary.default = w.fallback.default = answering(*WORDS, cut_after=HALF)
        events, error = await taken(w)
        assert error is not None
        assert (error.reason, error.metadata["offset"]) == ("UPSTREAM_TRUNCATED", str(len("".join(WORDS[:HALF]))))
        stream_id = events[0].started.stream_id
        assert await refused(w, stream_id, after=len(events)) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_TRUNCATED")
        assert w.cache.commits == []
        await w.settled()


async def taken(w: World) -> tuple[list[Event], AntiphonError | None]:
    events: list[Event] = []
    try:
        async with w.client.stream("Why?", resumable=True, timeout=30) as stream:
            async for event in stream:
                events.append(event)  # noqa: PERF401 - what came before the error is wanted
    except AntiphonError as error:
        return events, error
    return events, None


async def test_an_answer_that_nobody_comes_back_for_is_given_up() -> None:
    async with world(coalesce_time=0) as w:
        w.service.resuming.keep = 0.01
        gate = Gate()
        w.primary.default = paused(gate)
        async with w.client.stream("Why?", resumable=True, timeout=30) as stream:
            events = await until_paused(stream)
        await until(lambda: not len(w.service.resuming))
        await w.settled()
        await until(w.primary.chat_calls[0].closed.is_set)
        assert await refused(w, events[0].started.stream_id) == (grpc.StatusCode.NOT_FOUND, "STREAM_NOT_FOUND")


async def test_a_silent_stream_sends_heartbeats_with_the_number_of_the_event_before() -> None:
    async with world(coalesce_time=0, heartbeat=1.0) as w:
        gate = Gate()
        w.primary.default = paused(gate)
        async with w.client.stream("Why?", resumable=True, timeout=30, heartbeat_interval=1.0) as stream:
            events = await until_paused(stream)
            beat = await anext(stream)
            assert beat.HasField("heartbeat")
            assert beat.sequence == events[-1].sequence
            gate.open.set()
            events += [event async for event in stream]
        assert whole(events)


class Message:
    def __init__(self, size: int) -> None:
        self._size = size

    def ByteSize(self) -> int:  # noqa: N802 -- protobuf's name
        return self._size


def sending(*sizes: int) -> Callable[[str], AsyncIterator[Message | Called]]:
    async def messages(_: str) -> AsyncIterator[Message | Called]:
        for size in sizes:
            yield Message(size)

    return messages


async def test_streams_without_a_reader_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "STREAM_BYTES", 0)
    failed: list[str] = []
    kept: Resuming[Message] = Resuming(Background(lambda work, _: failed.append(work)), keep=60, room=10_000)
    streams = []
    for _ in range(5):
        stream = kept.begin("t", sending(1_000, 1_000))
        streams.append(stream)
        assert len([message async for message in kept.read(stream, 0, 60.0)]) == 2
    assert [kept._streams.get(stream.id) is stream for stream in streams] == [False, False, True, True, True]
    large = kept.begin("t", sending(6_000, 6_000, 6_000))
    assert len([message async for message in kept.read(large, 0, 60.0)]) == 3, "its reader has all of it"
    assert kept._used.total() == sum(stream.recording.size for stream in kept._streams.values()) <= 10_000
    kept.close()
    assert (len(kept), kept._used.total(), failed) == (0, 0, [])


async def test_whoever_has_most_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "STREAM_BYTES", 0)
    kept: Resuming[Message] = Resuming(Background(lambda *_: None), keep=60, room=20_000)
    small = kept.begin("small", sending(1_000))
    assert len([message async for message in kept.read(small, 0, 60.0)]) == 1
    for _ in range(20):
        large = kept.begin("large", sending(3_000, 3_000))
        assert len([message async for message in kept.read(large, 0, 60.0)]) == 2
    assert small.id in kept._streams
    assert kept._used.total() <= 20_000
    kept.close()


async def test_of_answers_that_nobody_reads_a_tenant_has_only_so_many_in_the_making(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resuming, "UNREAD", 3)
    background = Background(lambda *_: None)
    kept: Resuming[Message] = Resuming(background, keep=60, room=1 << 30)

    async def endless(_: str) -> AsyncIterator[Message | Called]:
        yield Message(1)
        await asyncio.Event().wait()

    for tenant in ("a", "b"):
        for _ in range(8):
            messages = kept.read(kept.begin(tenant, endless), 0, 60.0)
            await anext(messages)
            await messages.aclose()
    await until(lambda: len(background) == 6)
    assert [stream.tenant for stream in kept._streams.values()] == ["a"] * 3 + ["b"] * 3
    kept.close()
    await until(lambda: len(background) == 0)
