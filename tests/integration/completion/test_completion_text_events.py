"""Sentences and numbered events over gRPC: from a model, from the cache, and for a repeated idempotency key."""

from __future__ import annotations

import pytest

from antiphon.completion.v1 import completion_pb2
from antiphon_client import SentenceSegmenter
from antiphon_client.streams import Event
from services.completion.ports import Found, Outcome
from tests.fakes.behaviours import answering
from tests.integration.attempts.world import World, world
from tests.unit.completion.completion_parts import answered

TEXT = "Dr. No left. He paid $3.50!\n\n- One.\n- Two: “Ça va ?” 你好。再见。\n\n```\na. B\n```\nEnd"
SENTENCES = [
    "Dr. No left. ",
    "He paid $3.50!\n\n",
    "- One.\n",
    "- Two: “Ça va ?” ",
    "你好。",
    "再见。\n\n",
    "```\na. B\n```\n",
    "End",
]


async def read(w: World, prompt: str, shown: completion_pb2.TextEvents.ValueType, *, key: str = "") -> list[Event]:
    async with w.client.stream(prompt, text_events=shown, idempotency_key=key or None, timeout=30) as stream:
        return [event async for event in stream]


def sentences(events: list[Event]) -> list[str]:
    """Return the sentences, having checked how they and the events are numbered."""
    told = [event.sentence for event in events if event.HasField("sentence")]
    before = 0
    for sentence in told:
        assert sentence.offset == before
        before += len(sentence.text.encode())
    assert [e.sequence for e in events if not e.HasField("heartbeat")] == list(range(1, len(events) + 1))
    assert events[0].HasField("started")
    assert events[-1].finished.answer.text == TEXT
    return [sentence.text for sentence in told]


def deltas(events: list[Event]) -> str:
    return "".join(event.delta.text for event in events)


@pytest.mark.parametrize("pieces", [list(TEXT), [TEXT], [TEXT[i : i + 5] for i in range(0, len(TEXT), 5)]])
async def test_the_sentences_are_those_of_the_client_wherever_the_answer_comes_from(pieces: list[str]) -> None:
    async with world() as w:
        w.primary.default = answering(*pieces)
        live = await read(w, "live", completion_pb2.TEXT_EVENTS_SENTENCES)
        keyed = await read(w, "keyed", completion_pb2.TEXT_EVENTS_SENTENCES, key="k")
        repeated = await read(w, "keyed", completion_pb2.TEXT_EVENTS_DELTAS_AND_SENTENCES, key="k")
        w.cache.found.append(Found(Outcome.EXACT, answer=answered(TEXT), entry_id="e"))
        cached = await read(w, "cached", completion_pb2.TEXT_EVENTS_SENTENCES)
        assert len(w.primary.chat_calls) == 2
    segmenter = SentenceSegmenter()
    assert segmenter.feed(TEXT) + segmenter.flush() == SENTENCES
    for events in (live, keyed, repeated, cached):
        assert sentences(events) == SENTENCES
    assert repeated[-1].finished.info.replayed
    assert [deltas(events) for events in (live, keyed, repeated, cached)] == ["", "", TEXT, ""]


async def test_deltas_come_alone_unless_sentences_are_asked_for() -> None:
    async with world() as w:
        w.primary.default = answering(*TEXT)
        for shown in (completion_pb2.TEXT_EVENTS_UNSPECIFIED, completion_pb2.TEXT_EVENTS_DELTAS):
            events = await read(w, f"{shown}", shown)
            assert sentences(events) == []
            assert deltas(events) == TEXT
        both = await read(w, "both", completion_pb2.TEXT_EVENTS_DELTAS_AND_SENTENCES)
    assert sentences(both) == SENTENCES
    assert deltas(both) == TEXT
    heard = ""
    for event in both:
        heard += event.delta.text
        assert event.sentence.text in heard, "after the delta that ended it"
