"""Writes what the reader of a stream is told as messages of `antiphon.completion.v1`."""

from __future__ import annotations

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from services.completion.proto.responses import write_finished
from services.completion.proto.words import OUTCOME_NUMBERS
from services.completion.result import Delivered
from services.completion.streaming.content import Content, Continued, Reasoning, Sentence, Text, ToolCallPart
from services.completion.streaming.signs import Beat
from services.completion.streaming.transcript import Opened

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

    def begin(self, response: completion_pb2.CompleteResponse) -> Message:
        """Return the first message of an answer that was made before; `content_of` and `end` follow."""
        self._completion_id = response.info.completion_id
        return self._numbered(Message(started=self._started(response.info.model, response.info.cache.outcome)))

    def _started(self, model: str, outcome: cache_pb2.Outcome.ValueType) -> completion_pb2.Started:
        return completion_pb2.Started(
            completion_id=self._completion_id, model=model, cache_outcome=outcome, stream_id=self._stream_id
        )

    def _numbered(self, message: Message) -> Message:
        self._sequence += 1
        message.sequence = self._sequence
        return message


def content_of(answer: llm_pb2.Answer) -> list[Content]:
    """Return what a stream tells of an answer that is all there."""
    pieces: list[Content] = [Text(answer.text)] if answer.text else []
    return pieces + [ToolCallPart(i, call.id, call.name, call.arguments) for i, call in enumerate(answer.tool_calls)]


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
