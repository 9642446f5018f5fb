"""Writes what the reader of a stream is told as messages of `antiphon.completion.v1`."""

from __future__ import annotations

from collections.abc import Iterator

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from services.completion.fills import Beat
from services.completion.proto.responses import write_finished
from services.completion.proto.words import OUTCOME_NUMBERS
from services.completion.result import Delivered
from services.completion.streaming.content import Content, Continued, Reasoning, Sentence, Text, ToolCallPart, joined
from services.completion.streaming.transcript import Opened
from services.completion.streaming.view import TextEvents, View

Told = Opened | Content | Sentence | Beat | Delivered
"""What of a listener's events goes over the wire."""

Message = completion_pb2.StreamCompleteResponse


class StreamWriter:
    """Writes and numbers the messages of one stream."""

    def __init__(self, completion_id: str, request_id: str = "", *, stream_id: str = "") -> None:
        """`stream_id`: of one that can be resumed."""
        self._completion_id = completion_id
        self._request_id = request_id
        self._stream_id = stream_id
        self._sequence = 0

    def write(self, event: Told) -> Message:
        """Return the next message."""
        match event:
            case Beat():
                return heartbeat_after(self._sequence)
            case Opened(model, outcome):
                return self._numbered(Message(started=self._started(model, OUTCOME_NUMBERS[outcome])))
            case Delivered():
                answer, info = write_finished(event, self._completion_id, self._request_id)
                return self._numbered(Message(finished=completion_pb2.Finished(answer=answer, info=info)))
            case _:
                return self._numbered(_content(event))

    def end(self, response: completion_pb2.CompleteResponse) -> Message:
        """Return the last message, for the response of `Complete`."""
        return self._numbered(Message(finished=completion_pb2.Finished(answer=response.answer, info=response.info)))

    def replay(self, response: completion_pb2.CompleteResponse, shown: TextEvents) -> Iterator[Message]:
        """Yield the stream of an answer that is all there."""
        answer, info = response.answer, response.info
        self._completion_id = info.completion_id
        yield self._numbered(Message(started=self._started(info.model, info.cache.outcome)))
        pieces: list[Content] = [Text(answer.text)] if answer.text else []
        pieces += [ToolCallPart(i, call.id, call.name, call.arguments) for i, call in enumerate(answer.tool_calls)]
        view = View(shown)
        for seen in view.of(joined(pieces)):
            yield self.write(seen)
        for sentence in view.rest():
            yield self.write(sentence)
        yield self.end(response)

    def _started(self, model: str, outcome: cache_pb2.Outcome.ValueType) -> completion_pb2.Started:
        return completion_pb2.Started(
            completion_id=self._completion_id, model=model, cache_outcome=outcome, stream_id=self._stream_id
        )

    def _numbered(self, message: Message) -> Message:
        self._sequence += 1
        message.sequence = self._sequence
        return message


def heartbeat_after(sequence: int) -> Message:
    """Return a sign of life behind the message with this number."""
    return Message(heartbeat=completion_pb2.Heartbeat(), sequence=sequence)


def _content(content: Content | Sentence) -> Message:
    match content:
        case Text(text):
            return Message(delta=completion_pb2.Delta(text=text))
        case Sentence(text, offset):
            return Message(sentence=completion_pb2.Sentence(text=text, offset=offset))
        case Reasoning(text):
            return Message(reasoning_delta=completion_pb2.ReasoningDelta(text=text))
        case ToolCallPart(index, call_id, name, arguments):
            part = completion_pb2.ToolCallDelta(index=index, id=call_id, name=name, arguments=arguments)
            return Message(tool_call=part)
        case Continued(model, upstream, offset, reason):
            continued = completion_pb2.Continued(model=model, upstream=upstream, offset=offset, reason=reason)
            return Message(continued=continued)
