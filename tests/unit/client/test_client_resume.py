"""A stream that is broken off any number of times gives its caller the answer once, whatever the pieces."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.completion.v1 import completion_pb2
from antiphon_client._resume import Delivered, DivergedError
from antiphon_client.streams import Event

TEXTS = st.text(alphabet="ab\N{SNOWMAN}", max_size=12)


def cut(text: str, data: st.DataObject) -> list[str]:
    """A text in pieces, some of them empty."""
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


def events(text: str, reasoning: str, calls: list[str], data: st.DataObject) -> list[Event]:
    """An answer as a stream, in pieces that are others every time."""
    made = [Event(started=completion_pb2.Started(model="m"))]
    made += [Event(reasoning_delta=completion_pb2.ReasoningDelta(text=piece)) for piece in cut(reasoning, data)]
    made += [Event(delta=completion_pb2.Delta(text=piece)) for piece in cut(text, data)]
    made += [Event(sentence=completion_pb2.Sentence(text=sentence)) for sentence in re.findall("[^a]*a|[^a]+", text)]
    for index, arguments in enumerate(calls):
        for number, piece in enumerate(cut(arguments, data)):
            named = {"id": f"c{index}", "name": "f"} if number == 0 else {}
            made.append(Event(tool_call=completion_pb2.ToolCallDelta(index=index, arguments=piece, **named)))
    return [*made, Event(finished=completion_pb2.Finished())]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # how long it takes is the machine's affair
@given(st.data(), TEXTS, TEXTS, st.lists(TEXTS, max_size=2), st.integers(0, 3))
def test_every_piece_arrives_once(
    data: st.DataObject, text: str, reasoning: str, calls: list[str], breaks: int
) -> None:
    delivered = Delivered()
    got: list[Event] = []
    for attempt in range(breaks + 1):
        stream = events(text, reasoning, calls, data)
        if attempt < breaks:
            stream = stream[: data.draw(st.integers(0, len(stream) - 1))]
        if attempt:
            delivered.begin_again()
        got += [new for event in stream if (new := delivered.pass_on(event)) is not None]

    arguments: defaultdict[int, str] = defaultdict(str)
    for event in got:
        arguments[event.tool_call.index] += event.tool_call.arguments
    assert "".join(event.delta.text for event in got) == text
    assert "".join(event.sentence.text for event in got) == text
    assert "".join(event.reasoning_delta.text for event in got) == reasoning
    assert [arguments[index] for index in range(len(calls))] == calls
    named = [(event.tool_call.id, event.tool_call.name) for event in got if event.tool_call.id]
    assert named == [(f"c{index}", "f") for index in range(len(calls))]
    assert [event.WhichOneof("event") for event in got].count("started") == 1
    assert got[-1].HasField("finished")
    assert [event.sequence for event in got] == list(range(1, len(got) + 1))


def delta(text: str) -> Event:
    return Event(delta=completion_pb2.Delta(text=text))


def sentence(text: str) -> Event:
    return Event(sentence=completion_pb2.Sentence(text=text))


def tool_call(**fields: str | int) -> Event:
    return Event(tool_call=completion_pb2.ToolCallDelta(**fields))


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ([delta("abc")], [delta("abd")]),
        ([sentence("Yes. ")], [sentence("No. ")]),
        ([delta("abc")], [delta("ab"), delta("x")]),
        ([delta("abc")], [delta("ab"), Event(finished=completion_pb2.Finished())]),
        ([tool_call(id="1", name="f")], [tool_call(id="2", name="f")]),
        ([tool_call(id="1", name="f", arguments="{")], [tool_call(id="1", name="f", arguments="[")]),
    ],
)
def test_another_answer_is_noticed(first: list[Event], again: list[Event]) -> None:
    delivered = Delivered()
    for number, event in enumerate(first, 1):
        event.sequence = number
    assert [delivered.pass_on(event) for event in first] == first
    delivered.begin_again()
    with pytest.raises(DivergedError):
        for event in again:
            delivered.pass_on(event)
