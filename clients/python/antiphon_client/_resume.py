"""How a stream that was broken off goes on: its answer is sent again, and what the caller already has is left out."""

from __future__ import annotations

from collections import defaultdict

from antiphon.completion.v1 import completion_pb2

Event = completion_pb2.StreamCompleteResponse

_SENTENCES = -3
_TEXT = -2
_REASONING = -1
"""Besides these, the parts of an answer are the arguments of its tool calls by their index, from 0."""


class DivergedError(Exception):
    """The repeated answer does not begin with what the caller already has."""


class Delivered:
    """What the caller of a stream has; `pass_on` every event, and `begin_again` before those of a repeated call."""

    def __init__(self) -> None:
        self._sequence = 0
        self._started = False
        self._pieces: defaultdict[int, list[str]] = defaultdict(list)
        self._tools: dict[int, tuple[str, str]] = {}
        self._owed: dict[int, str] = {}

    def begin_again(self) -> None:
        """From now on events are those of the answer from its beginning."""
        self._owed = {part: text for part, pieces in self._pieces.items() if (text := "".join(pieces))}

    def pass_on(self, event: Event) -> Event | None:
        """Return what of the event is new to the caller; `DivergedError` if it contradicts what the caller has.

        Events are numbered anew, as a repeated call numbers its own from 1.
        """
        new = self._new_part(event)
        if new is not None:
            self._sequence += not new.HasField("heartbeat")
            new.sequence = self._sequence
        return new

    def _new_part(self, event: Event) -> Event | None:
        match event.WhichOneof("event"):
            case "started":
                first, self._started = not self._started, True
                return event if first else None
            case "delta":
                text = self._new(_TEXT, event.delta.text)
                return None if text is None else Event(delta=completion_pb2.Delta(text=text))
            case "sentence":
                # The same text has the same sentences: what the caller has are whole ones.
                text = self._new(_SENTENCES, event.sentence.text)
                return None if text is None else event
            case "reasoning_delta":
                text = self._new(_REASONING, event.reasoning_delta.text)
                return None if text is None else Event(reasoning_delta=completion_pb2.ReasoningDelta(text=text))
            case "tool_call":
                return self._tool_call(event.tool_call)
            case "finished" if self._owed:
                raise DivergedError
            case _:
                return event

    def _tool_call(self, call: completion_pb2.ToolCallDelta) -> Event | None:
        named = (call.id, call.name)
        known = self._tools.get(call.index)
        arguments = self._new(call.index, call.arguments)
        if known is None and any(named):
            self._tools[call.index] = named
        elif known is not None and any(named):
            if known != named:
                raise DivergedError
            named = ("", "")
            if arguments == "":
                return None
        if arguments is None:
            return None
        return Event(
            tool_call=completion_pb2.ToolCallDelta(index=call.index, id=named[0], name=named[1], arguments=arguments)
        )

    def _new(self, part: int, piece: str) -> str | None:
        """The end of a piece that the caller does not have yet; `None` if it has all of it."""
        owed = self._owed.get(part, "")
        if owed:
            if not (owed.startswith(piece) or piece.startswith(owed)):
                raise DivergedError
            self._owed[part] = owed[len(piece) :]
            if len(piece) <= len(owed):
                if not self._owed[part]:
                    del self._owed[part]
                return None
            del self._owed[part]
            piece = piece[len(owed) :]
        self._pieces[part].append(piece)
        return piece
