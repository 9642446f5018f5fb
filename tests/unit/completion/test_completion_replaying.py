"""Answers that are all there, streamed at a pace: when what leaves, in virtual time."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.deadline import Deadline
from services.completion.fills import Event
from services.completion.ports import Found, Outcome
from services.completion.result import Delivered
from services.completion.service import Timing
from services.completion.streaming.content import PIECE_CHARS, Content, Sentence, Text, ToolCallPart, joined, size
from services.completion.streaming.replaying import SHARE_OF_TIME, TOKEN_BYTES, Replay, Replaying
from services.completion.streaming.signs import Beat, Called
from services.completion.streaming.transcript import Opened
from services.completion.streaming.view import TextEvents, View
from services.llm.values import ToolCall
from tests.unit.completion.completion_parts import answered, ask, rig, until, words

LONG = 1_000.0


@dataclass
class Clock:
    """Time that passes when somebody sleeps."""

    now: float = 1_000.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.sleeps.append(seconds)
        assert len(self.sleeps) < 100_000, "it goes round and round"
        self.now += seconds

    def deadline(self, seconds: float = LONG) -> Deadline:
        return Deadline.after(seconds, monotonic=self.monotonic)

    def timing(self) -> Timing:
        return Timing(monotonic=self.monotonic, sleep=self.sleep)


async def timed(clock: Clock, events: AsyncGenerator[Event, None]) -> list[tuple[float, Event]]:
    """What came, and after how many seconds."""
    began = clock.now
    async with aclosing(events):
        return [(round(clock.now - began, 6), event) async for event in events]


def told(seen: list[tuple[float, Event]]) -> list[tuple[float, str]]:
    return [(when, event.text) for when, event in seen if isinstance(event, Text)]


async def test_a_stored_answer_has_the_pace_that_its_reader_wants() -> None:
    clock = Clock()
    async with rig(timing=clock.timing()) as r:
        r.cache.found.append(Found(Outcome.EXACT, answer=answered("abcd" * 10), entry_id="e"))
        with r.service.fills.join(ask(), clock.deadline(), streaming=True) as listener:
            seen = await timed(clock, listener.events(LONG, tokens_per_second=5))
    assert seen[0] == (0.0, Opened("small", Outcome.EXACT))
    assert told(seen) == [(round(0.2 * number, 6), "abcd") for number in range(10)]
    when, last = seen[-1]
    assert isinstance(last, Delivered)
    assert when == pytest.approx(1.8)
    assert last.latency == pytest.approx(1.8)
    assert last.time_to_first_token == 0.0
    assert last.completed.answer.text == "abcd" * 10


async def test_without_a_pace_it_is_there_at_once() -> None:
    clock = Clock()
    async with rig(timing=clock.timing()) as r:
        r.cache.found.append(Found(Outcome.EXACT, answer=answered("abcd" * 10), entry_id="e"))
        with r.service.fills.join(ask(), clock.deadline(), streaming=True) as listener:
            seen = await timed(clock, listener.events(LONG))
    assert told(seen) == [(0.0, "abcd" * 10)]
    assert not clock.sleeps


async def test_what_a_model_writes_now_has_the_models_pace() -> None:
    clock = Clock()
    async with rig(timing=clock.timing()) as r:
        r.one.scripts.append(words("abcd" * 10, "efgh" * 10))
        with r.service.fills.join(ask(), clock.deadline(), streaming=True) as listener:
            seen = await timed(clock, listener.events(LONG, tokens_per_second=1))
    assert [event for _, event in seen][:2] == [Called(), Opened("small", Outcome.MISS)]
    assert "".join(text for _, text in told(seen)) == "abcd" * 10 + "efgh" * 10
    assert not clock.sleeps


async def test_tool_calls_have_the_pace_too() -> None:
    clock = Clock()
    calls = (ToolCall("c1", "weather", '{"city":"Ulm"}'), ToolCall("c2", "time", ""))
    async with rig(timing=clock.timing()) as r:
        r.cache.found.append(Found(Outcome.EXACT, answer=answered("Wait", tool_calls=calls), entry_id="e"))
        with r.service.fills.join(ask(), clock.deadline(), streaming=True) as listener:
            seen = await timed(clock, listener.events(LONG, tokens_per_second=1))
    parts = [(when, event) for when, event in seen if isinstance(event, ToolCallPart)]
    assert parts[0][1].id == "c1"
    assert parts[0][1].name == "weather"
    assert len(parts) > 3, "its arguments come in pieces"
    assert sorted(when for when, _ in parts) == [when for when, _ in parts]
    assert parts[-1][0] > parts[0][0] + 2
    assert list(joined(part for _, part in parts)) == [
        ToolCallPart(0, "c1", "weather", '{"city":"Ulm"}'),
        ToolCallPart(1, "c2", "time", ""),
    ]


async def test_pieces_are_gathered_as_those_of_a_model_are() -> None:
    clock = Clock()
    async with rig(timing=clock.timing(), coalesce_time=0.1) as r:
        r.cache.found.append(Found(Outcome.EXACT, answer=answered("a" * 4_000), entry_id="e"))
        with r.service.fills.join(ask(), clock.deadline(), streaming=True) as listener:
            seen = await timed(clock, listener.events(LONG, tokens_per_second=1_000))
    assert [len(text) for _, text in told(seen)] == [400] * 10
    assert told(seen)[-1][0] == pytest.approx(0.9)


async def test_a_pace_makes_no_answer_late() -> None:
    clock = Clock()
    async with rig(timing=clock.timing()) as r:
        r.cache.found.append(Found(Outcome.EXACT, answer=answered("abcd" * 100), entry_id="e"))
        with r.service.fills.join(ask(), clock.deadline(10), streaming=True) as listener:
            seen = await timed(clock, listener.events(LONG, tokens_per_second=1))
    assert isinstance(seen[-1][1], Delivered)
    assert 7 < seen[-1][0] <= 10 * SHARE_OF_TIME


@pytest.mark.fault(9)
async def test_who_reads_slowly_gets_what_is_due_meanwhile_as_one() -> None:
    clock = Clock()
    async with rig(timing=clock.timing(), reader_backlog=65_536, reader_patience=0) as r:
        r.cache.found.append(Found(Outcome.EXACT, answer=answered("abcd" * 50_000), entry_id="e"))
        with r.service.fills.join(ask(), clock.deadline(), streaming=True) as listener:
            pieces: list[str] = []
            async for event in listener.events(LONG, tokens_per_second=10_000):
                if isinstance(event, Text):
                    pieces.append(event.text)
                    clock.now += 1.0  # the reader is busy with it
            assert isinstance(event, Delivered)
    assert "".join(pieces) == "abcd" * 50_000
    assert len(pieces) < 30


async def test_each_reader_of_one_answer_has_its_own_pace() -> None:
    clock = Clock()
    async with rig(timing=clock.timing()) as r:
        r.cache.hold = asyncio.Event()
        r.cache.found.append(Found(Outcome.EXACT, answer=answered("abcd" * 10), entry_id="e"))
        with (
            r.service.fills.join(ask(), clock.deadline(), streaming=True) as slow,
            r.service.fills.join(ask(), clock.deadline(), streaming=True) as fast,
            r.service.fills.join(ask(), clock.deadline(), streaming=False) as whole,
        ):
            r.cache.hold.set()
            assert (await whole.result()).completed.answer.text == "abcd" * 10
            assert clock.sleeps == []
            assert len(told(await timed(clock, slow.events(LONG, tokens_per_second=2)))) == 10
            assert told(await timed(clock, fast.events(LONG))) == [(0.0, "abcd" * 10)]


async def test_sentences_come_when_they_are_whole_with_heartbeats_between() -> None:
    clock = Clock()
    text = "This is the first sentence. And here is the second one."
    async with rig(timing=clock.timing()) as r:
        r.cache.found.append(Found(Outcome.EXACT, answer=answered(text), entry_id="e"))
        with r.service.fills.join(ask(), clock.deadline(), streaming=True) as listener:
            seen = await timed(clock, listener.events(2.0, TextEvents.SENTENCES, tokens_per_second=1))
    sentences = [(when, event.text) for when, event in seen if isinstance(event, Sentence)]
    assert [text for _, text in sentences] == ["This is the first sentence. ", "And here is the second one."]
    assert 5 < sentences[0][0] < sentences[1][0]
    beats = [when for when, event in seen if isinstance(event, Beat)]
    assert [when for when in beats if when < sentences[0][0]] == [2.0, 4.0, 6.0]
    assert [when for when in beats if when > sentences[0][0]]


async def test_heartbeats_come_while_the_cache_is_asked() -> None:
    async with rig() as r:
        r.cache.hold = asyncio.Event()
        r.cache.found.append(Found(Outcome.EXACT, answer=answered("Yes."), entry_id="e"))
        with r.join(streaming=True) as listener:
            kinds = []
            async for event in listener.events(0.01, tokens_per_second=1_000):
                kinds.append(type(event))
                if len(kinds) == 2:
                    r.cache.hold.set()
    assert kinds[:2] == [Beat, Beat]
    assert kinds[-3:] == [Opened, Text, Delivered]


async def test_who_leaves_in_the_middle_leaves_nothing() -> None:
    tasks = len(asyncio.all_tasks())
    async with rig() as r:
        r.cache.found.append(Found(Outcome.EXACT, answer=answered("abcd" * 100), entry_id="e"))
        with r.join(streaming=True) as listener:
            events = listener.events(LONG, tokens_per_second=1)
            assert isinstance(await anext(events), Opened)
            assert await anext(events) == Text("abcd")
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert not len(r.service.fills)
    await until(lambda: len(asyncio.all_tasks()) == tasks)


TEXTS = st.text(st.characters(exclude_categories=[]), min_size=1, max_size=80)
PIECES = st.lists(
    TEXTS.map(Text) | st.builds(ToolCallPart, st.integers(0, 3), st.just("id"), st.just("name"), TEXTS), max_size=5
)


@given(
    PIECES,
    st.integers(1, 10_000),
    st.sampled_from([0.0, 0.02, 1.0]),
    st.lists(st.floats(0, 30), min_size=1, max_size=8),
)
async def test_any_answer_at_any_pace_arrives_whole_and_never_early(
    pieces: list[Content], rate: int, tick: float, busy: list[float]
) -> None:
    clock = Clock()
    replaying = Replaying(tick, clock.sleep, clock.monotonic)
    given_, pauses = [], 0
    got: list[Content] = []
    step = max(tick, 1 / rate) * rate * TOKEN_BYTES
    async with aclosing(
        replaying.tell(pieces, View(), tokens_per_second=rate, heartbeat=1e9, deadline=clock.deadline(1e6))
    ) as events:
        async for event in events:
            assert not isinstance(event, (Beat, Sentence))
            given_.append((clock.now - 1_000.0, size(event)))
            got.append(event)
            clock.now += busy[pauses % len(busy)]
            pauses += 1
    assert list(joined(got)) == list(joined(pieces))
    total = 0
    for when, bytes_ in given_:
        total += bytes_
        # A tick's worth is there at once; a piece may be up to a character and its tool call's names larger.
        assert total <= when * rate * TOKEN_BYTES + step + 4 + 6 * 3


def test_an_answer_without_a_word_is_over_at_once() -> None:
    assert Replay([], 1, tick=0.0, within=1.0).over
    replay = Replay([ToolCallPart(0, "", "", "")], 1, tick=0.0, within=1.0)
    assert replay.due(0.0) == [ToolCallPart(0, "", "", "")]
    assert replay.over


async def test_readers_of_one_stored_answer_share_its_text() -> None:
    text = "abcd" * 10_000
    copies = [text[:n] + text[n:] for n in (1, 2, 3)]
    assert len({id(copy) for copy in copies}) == 3
    copies.append(text + "!")
    async with rig() as r:
        r.cache.found += [Found(Outcome.EXACT, answer=answered(copy), entry_id="e") for copy in copies]
        with ExitStack() as readers:
            held = []
            for number in range(4):
                joining = r.service.fills.join(ask(f"{number}?"), Clock().deadline(), streaming=True)
                held.append(readers.enter_context(joining))
                await held[-1].result()
            texts = [
                piece.text for reader in held for piece in reader.fill.transcript.pieces if isinstance(piece, Text)
            ]
        assert texts == copies
        assert [one is texts[0] for one in texts] == [True, True, True, False], "but not what the entry says since"


def test_a_reader_at_a_pace_holds_little_of_a_long_answer() -> None:
    pieces = [Text("abcd" * 64_000)]
    tracemalloc.start()
    try:
        replays = [Replay(pieces, 10, tick=0.0, within=1e9) for _ in range(50)]
        for replay in replays:
            replay.due(0.0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50 * 3 * PIECE_CHARS
