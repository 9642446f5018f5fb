"""What a stream's reader sees, and when."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.completion.fills import Event
from services.completion.ports import Found, Outcome
from services.completion.result import Delivered
from services.completion.streaming.content import (
    PIECE_CHARS,
    Content,
    Reasoning,
    Sentence,
    Text,
    ToolCallPart,
    joined,
)
from services.completion.streaming.signs import Beat, Called
from services.completion.streaming.transcript import Opened, Transcript
from services.completion.streaming.view import TextEvents
from services.completion.upstream_call import BURST
from services.completion.upstreams.protocol import ReasoningDelta, ToolCallDelta
from services.llm.values import FinishReason, ToolCall
from tests.unit.completion.completion_parts import Step, answered, rig, until, words

HEARTBEAT = 60.0


async def test_an_answer_opens_with_its_first_content_and_ends_with_the_whole() -> None:
    async with rig() as r:
        first, second = asyncio.Event(), asyncio.Event()
        r.one.scripts.append([first, *words("One ", finish=None, usage=None), second, *words("two.")])
        with r.join(streaming=True) as listener:
            events = listener.events(HEARTBEAT)
            assert await anext(events) == Called(), "before the model has said a word"
            opening = asyncio.ensure_future(anext(events))
            await until(lambda: r.calls == 1)
            assert not opening.done()
            first.set()
            assert await opening == Opened("small", Outcome.MISS)
            assert await anext(events) == Text("One ")
            second.set()
            assert await anext(events) == Text("two.")
            last = await anext(events)
            assert isinstance(last, Delivered)
            assert last.completed.answer.text == "One two."
            assert 0 <= last.time_to_first_token <= last.latency
            assert [event async for event in events] == []


async def test_what_gathered_while_the_reader_was_busy_leaves_as_one() -> None:
    async with rig() as r:
        r.one.scripts.append(words(*["word "] * 500))
        with r.join(streaming=True) as listener:
            await until(lambda: listener.fill.transcript.ended)
            events = [event async for event in listener.events(HEARTBEAT)]
        assert events[2] == Text("word " * 500)
        assert len(events) == 4


async def test_a_hit_streams_as_few_pieces_of_bounded_size() -> None:
    async with rig() as r:
        text = "é" * (2 * PIECE_CHARS + 1)
        r.cache.found.append(Found(Outcome.EXACT, answer=answered(text), entry_id="e"))
        with r.join(streaming=True) as listener:
            events = [event async for event in listener.events(HEARTBEAT)]
        assert events[0] == Opened("small", Outcome.EXACT)
        pieces = [event.text for event in events if isinstance(event, Text)]
        assert "".join(pieces) == text
        assert len(pieces) == 3
        assert max(len(piece.encode()) for piece in pieces) <= 64 * 1024


async def test_heartbeats_come_while_it_is_silent_also_before_the_start() -> None:
    async with rig() as r:
        first, second = asyncio.Event(), asyncio.Event()
        r.one.scripts.append([first, *words("One ", finish=None, usage=None), second, *words("two.")])
        seen: list[Event] = []
        with r.join(streaming=True) as listener:
            async for event in listener.events(0.01):
                seen.append(event)
                if seen[-2:] == [Beat(), Beat()]:
                    written = any(isinstance(event, Text) for event in seen)
                    (second if written else first).set()
        kinds = [type(event) for event in seen]
        assert kinds.index(Beat) < kinds.index(Opened) < kinds.index(Text)
        assert Beat in kinds[kinds.index(Text) :]
        assert kinds[-1] is Delivered


async def test_reasoning_and_tool_calls_are_streamed_and_put_together() -> None:
    async with rig() as r:
        r.one.scripts.append(
            [
                ReasoningDelta("Let me "),
                ReasoningDelta("see."),
                ToolCallDelta(0, "c1", "weather", '{"ci'),
                ToolCallDelta(0, arguments='ty": 1}'),
                ToolCallDelta(1, "c2", "time"),
                *words(finish=FinishReason.TOOL_CALLS),
            ]
        )
        with r.join(streaming=True) as listener:
            await until(lambda: listener.fill.transcript.ended)
            events = [event async for event in listener.events(HEARTBEAT)]
        assert events[2:-1] == [
            Reasoning("Let me see."),
            ToolCallPart(0, "c1", "weather", '{"city": 1}'),
            ToolCallPart(1, "c2", "time", ""),
        ]
        last = events[-1]
        assert isinstance(last, Delivered)
        assert last.completed.answer.tool_calls == (
            ToolCall("c1", "weather", '{"city": 1}'),
            ToolCall("c2", "time", ""),
        )
        assert last.completed.answer.text == "", "reasoning is not part of the answer"


PROSE = "Dr. No left. He paid $3.50! Then:\n\n```\na. B\n```\nWhat now? Nothing"
SENTENCES = ["Dr. No left. ", "He paid $3.50! ", "Then:\n\n", "```\na. B\n```\n", "What now? ", "Nothing"]


@pytest.mark.parametrize("shown", [TextEvents.SENTENCES, TextEvents.DELTAS_AND_SENTENCES])
async def test_sentences_are_the_same_from_a_model_and_from_the_cache(shown: TextEvents) -> None:
    async with rig() as r:
        seen: list[list[Event]] = []
        r.one.scripts.append(words(*PROSE))
        with r.join(streaming=True) as listener:
            seen.append([event async for event in listener.events(HEARTBEAT, shown)])
        r.cache.found.append(Found(Outcome.EXACT, answer=answered(PROSE), entry_id="e"))
        with r.join(streaming=True) as listener:
            seen.append([event async for event in listener.events(HEARTBEAT, shown)])
    for events in seen:
        sentences = [event for event in events if isinstance(event, Sentence)]
        assert [sentence.text for sentence in sentences] == SENTENCES
        assert [sentence.offset for sentence in sentences] == [
            len("".join(SENTENCES[:i]).encode()) for i in range(len(SENTENCES))
        ]
        deltas = "".join(event.text for event in events if isinstance(event, Text))
        assert deltas == ("" if shown is TextEvents.SENTENCES else PROSE)
        assert isinstance(events[-1], Delivered)


async def test_a_reader_of_sentences_hears_heartbeats_while_one_is_written() -> None:
    async with rig(coalesce_time=0.0) as r:
        gates = [asyncio.Event() for _ in range(5)]
        script: list[Step] = []
        for gate in gates:
            script += [*words("word ", finish=None, usage=None), gate]
        r.one.scripts.append([*script, *words("end.")])
        seen: list[Event] = []
        with r.join(streaming=True) as listener:
            async for event in listener.events(0.01, TextEvents.SENTENCES):
                seen.append(event)
                if isinstance(event, Beat) and gates:
                    gates.pop(0).set()
        assert gates == []
        assert [event for event in seen if isinstance(event, Sentence)] == [Sentence("word " * 5 + "end.", 0)]


async def test_the_first_content_leaves_at_once_and_what_follows_is_gathered() -> None:
    async with rig(coalesce_time=10.0, coalesce_bytes=8) as r:
        gates = [asyncio.Event() for _ in range(3)]
        script: list[Step] = []
        for text, gate in zip(("ab", "cd", "efghij"), gates, strict=True):
            script += [*words(text, finish=None, usage=None), gate]
        r.one.scripts.append([*script, *words("kl")])
        with r.join(streaming=True) as listener:
            events = listener.events(HEARTBEAT)
            assert [await anext(events) for _ in range(3)] == [Called(), Opened("small", Outcome.MISS), Text("ab")]
            gathering = asyncio.ensure_future(anext(events))
            gates[0].set()
            await until(lambda: len(listener.fill.transcript) == 2)
            assert not gathering.done()
            gates[1].set()
            assert await gathering == Text("cdefghij"), "as soon as it is eight bytes"
            gathering = asyncio.ensure_future(anext(events))
            gates[2].set()
            assert await gathering == Text("kl"), "as nothing follows"
            assert isinstance(await anext(events), Delivered)


async def test_what_is_gathered_leaves_when_its_time_has_come() -> None:
    async with rig(coalesce_time=0.01, coalesce_bytes=65_536) as r:
        gate, never = asyncio.Event(), asyncio.Event()
        one, two = words("one ", finish=None, usage=None), words("two ", finish=None, usage=None)
        r.one.scripts.append([*one, gate, *two, never])
        with r.join(streaming=True) as listener:
            events = listener.events(HEARTBEAT)
            while await anext(events) != Text("one "):
                pass
            gate.set()
            assert await anext(events) == Text("two "), "though the model goes on"


async def test_what_a_model_left_empty_still_opens_and_ends() -> None:
    async with rig() as r:
        r.one.scripts.append(words())
        with r.join(streaming=True) as listener:
            events = [event async for event in listener.events(HEARTBEAT)]
        assert [type(event) for event in events] == [Called, Opened, Delivered]


async def test_a_slow_reader_holds_up_nobody() -> None:
    async with rig() as r:
        with r.join(streaming=True) as slow:
            events = slow.events(HEARTBEAT)
            await anext(events)
            assert (await r.complete()).completed.answer.text == "An answer."
            rest = [event async for event in events]
        assert "".join(event.text for event in rest if isinstance(event, Text)) == "An answer."


async def test_a_reader_is_given_a_bounded_part_at_a_time() -> None:
    transcript = Transcript(1_000_000)
    pieces: list[Content] = [Text("a" * 30), Text("b" * 30), Text("c" * 50), Reasoning("d"), Text("e" * 200)]
    for piece in pieces:
        transcript.append(piece)
    read: list[Content] = []
    position, taken = 0, []
    while position < len(transcript):
        some, position, size = transcript.since(position, 100)
        read += some
        taken.append(size)
    assert taken == [60, 51, 200], "a larger piece goes alone"
    assert read == list(joined(pieces[:2])) + pieces[2:]


async def test_an_answer_that_has_all_arrived_lets_others_run_while_it_is_read() -> None:
    async with rig() as r:
        r.one.scripts.append(words(*["word "] * 1_000))
        with r.join(streaming=True) as listener:
            transcript = listener.fill.transcript
            lengths = [0]
            while not transcript.ended:
                lengths.append(len(transcript))
                await asyncio.sleep(0)
            lengths.append(len(transcript))
        steps = [after - before for before, after in pairwise(lengths)]
        assert sum(steps) == 1_000
        assert max(steps) <= BURST


def _read(pieces: list[Content]) -> tuple[list[tuple[str, object]], int]:
    """Return what a client puts together from pieces: consecutive text as one, arguments by call."""
    told: list[tuple[str, object]] = []
    for piece in pieces:
        kind = type(piece).__name__
        if isinstance(piece, ToolCallPart):
            told.append((kind, (piece.index, piece.id, piece.name)))
            told.extend(("argument", (piece.index, letter)) for letter in piece.arguments)
        else:
            told.extend((kind, letter) for letter in piece.text)
    return [each for each in told if each[0] != "ToolCallPart" or each[1][1] or each[1][2]], len(pieces)  # type: ignore[index]


PIECES = st.one_of(
    st.builds(Text, st.text(min_size=1, max_size=5)),
    st.builds(Reasoning, st.text(min_size=1, max_size=5)),
    st.builds(ToolCallPart, st.integers(0, 2), st.sampled_from(["", "id"]), st.just(""), st.text(max_size=5)),
)


@given(st.lists(PIECES, max_size=20))
def test_joining_pieces_changes_nothing_but_their_number(pieces: list[Content]) -> None:
    before, count = _read(pieces)
    after, fewer = _read(list(joined(pieces)))
    assert after == before
    assert fewer <= count
