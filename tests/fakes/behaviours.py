"""How the fake OpenAI server answers: a description of one answer, and the named ways in which upstreams go wrong.

server.default = slow_first_token(gate)          # every call from now on
server.enqueue(status(429), answering("fine"))   # the next two calls, in order; then the default again
server.chooses = asked_for                       # the fault that the prompt names: "Why? [fault:cut]"
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

JsonObject = Mapping[str, Any]


class Gate:
    """A point at which the server waits until the test lets it go on: `reached` says that it waits, `open` lets it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def passing(self) -> None:
        """Called by the server."""
        self.reached.set()
        await self.open.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One answer. The default answers the question with a sentence of its own (`openai_server.answer_to`).

    Counts of "events" are chunks with content: reasoning, text, refusal, tool calls, in this order.
    """

    tokens: tuple[str, ...] | None = None
    """The text; `None`: the sentence made from the question."""
    reasoning: tuple[str, ...] = ()
    reasoning_name: str = "reasoning_content"
    refusal: tuple[str, ...] = ()
    tool_calls: tuple[JsonObject, ...] = ()
    """Tool call deltas as they go out."""
    finish_reason: str | None = "stop"
    usage: JsonObject | None = None
    """`None`: counted in words."""
    report_usage: bool = True
    done: bool = True
    """Send `[DONE]`."""

    delay_headers: float = 0.0
    """Seconds before the status line."""
    delay_first: float = 0.0
    """Seconds between the headers and the first event."""
    delay_between: float = 0.0
    """Seconds before each further event."""
    gate: Gate | None = None
    gate_after: int | None = None
    """Where the gate stands: `None`: before the status line; n: before event number n (0: the first)."""
    endless: bool = False
    """Repeat the events until the client leaves."""

    cut_after: int | None = None
    """Break the connection after so many events (0: after the headers)."""
    cut_before_headers: bool = False
    end_after: int | None = None
    """End the response cleanly after so many events, with neither finish_reason nor usage nor `[DONE]`."""
    error_after: int | None = None
    """Send `error` after so many events, then end cleanly."""
    error: JsonObject = field(default_factory=dict)

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | JsonObject | None = None
    """Sent in place of the answer, with `status`; an object as JSON. Also for embeddings and models."""
    raw: tuple[bytes, ...] | None = None
    """The bytes of the event stream, in place of the events; each part counts as one."""
    content_type: str = "text/event-stream"
    line_end: bytes = b"\n"
    piece_bytes: int | None = None
    """Write in pieces of so many bytes, whatever they split."""
    comments: bool = False
    """A comment line before each event, as gateways send to keep a connection alive."""

    vector_dim: int | None = None
    """Of embeddings, in place of the one asked for."""
    vector_fault: Literal["", "nan", "inf", "zero", "missing", "reversed"] = ""
    """`reversed`: the list is in reverse order, with right `index`es, which is allowed."""
    model: str | None = None
    """The model that the answer names, in place of the one asked for."""

    @property
    def body_bytes(self) -> bytes | None:
        """`body` as it is sent."""
        return self.body if self.body is None or isinstance(self.body, bytes) else json.dumps(dict(self.body)).encode()


def answering(*tokens: str, **changes: Any) -> Behaviour:
    """This text, one event per token."""
    return Behaviour(tokens=tokens, **changes)


def status(
    code: int,
    *,
    error_code: str | None = None,
    error_type: str = "",
    message: str = "made up by the fake",
    param: str | None = None,
    **headers: str,
) -> Behaviour:
    """An error with OpenAI's body. Header names with `_` for `-`: `status(429, retry_after="2")`."""
    return Behaviour(
        status=code,
        headers={"content-type": "application/json", **{name.replace("_", "-"): v for name, v in headers.items()}},
        body={"error": {"message": message, "type": error_type, "param": param, "code": error_code}},
    )


def rate_limited(seconds: float | None = None) -> Behaviour:
    """429, with Retry-After if given."""
    limited = status(429, error_code="rate_limit_exceeded", error_type="requests")
    return limited if seconds is None else replace(limited, headers={**limited.headers, "retry-after": f"{seconds:g}"})


def out_of_quota() -> Behaviour:
    """429 because the account has no money left."""
    return status(429, error_code="insufficient_quota", error_type="insufficient_quota")


def context_too_long() -> Behaviour:
    """400 because the prompt is too long, as OpenAI says it."""
    return status(400, error_code="context_length_exceeded", error_type="invalid_request_error", param="messages")


def html() -> Behaviour:
    """A login page with status 200, as captive proxies answer."""
    return Behaviour(headers={"content-type": "text/html"}, body=b"<html><body>Please log in</body></html>")


def redirect(to: str) -> Behaviour:
    """307 to another place, which asks for the same request there."""
    return Behaviour(status=307, headers={"location": to, "content-type": "text/plain"}, body=b"over there")


def malformed(*raw: bytes) -> Behaviour:
    """An event stream of exactly these bytes; by default one chunk and then half of one, with an end of event."""
    return Behaviour(raw=raw or (_chunk("Hel"), b'data: {"choices": [{"delta": {"con\n\n'))


def oversize_line(size: int) -> Behaviour:
    """A line of `size` bytes that never ends."""
    return Behaviour(raw=(_chunk("Hel"), b"data: " + b"x" * size))


def gzip_bomb(mebibytes: int = 64) -> Behaviour:
    """A small compressed body that unpacks into `mebibytes`."""
    return Behaviour(
        headers={"content-type": "text/event-stream", "content-encoding": "gzip"},
        body=_compressed(mebibytes),
    )


@cache
def _compressed(mebibytes: int) -> bytes:
    return gzip.compress(b": nothing\n" * (mebibytes * 1024 * 1024 // 10), compresslevel=1)


def slow_drip(seconds: float) -> Behaviour:
    """Tokens without end, one each `seconds`."""
    return Behaviour(tokens=("drip ",), endless=True, delay_between=seconds)


def slow_first_token(gate: Gate) -> Behaviour:
    """Headers at once, then nothing until the gate opens."""
    return Behaviour(gate=gate, gate_after=0)


def cut_after(events: int, *tokens: str) -> Behaviour:
    """The connection breaks after so many events."""
    return Behaviour(tokens=tokens or ("one ", "two ", "three ", "four"), cut_after=events)


def clean_end_after(events: int, *tokens: str) -> Behaviour:
    """The response ends cleanly after so many events, without a reason: a truncated answer."""
    return Behaviour(tokens=tokens or ("one ", "two ", "three ", "four"), end_after=events)


def error_after(events: int, error: JsonObject | None = None) -> Behaviour:
    """An error object in the stream after so many events."""
    made_up = {"message": "made up by the fake", "type": "server_error", "code": None}
    return Behaviour(tokens=("one ", "two ", "three ", "four"), error_after=events, error=error or made_up)


def stall_after(events: int) -> Behaviour:
    """Nothing more comes after so many events, and the connection stays open."""
    return Behaviour(tokens=("one ", "two ", "three ", "four"), gate=Gate(), gate_after=events)


def wrong_shape() -> Behaviour:
    """An event stream whose only chunk is JSON and no completion."""
    return malformed(b'data: {"hello": "world"}\n\n')


def unstreamed() -> Behaviour:
    """A whole completion where a stream was asked for."""
    message = {"role": "assistant", "content": "whole"}
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Behaviour(headers={"content-type": "application/json"}, body=body)


def with_odd_chunks(*tokens: str) -> Behaviour:
    """A whole answer with chunks in between whose `choices` are empty or whose `content` is null."""
    odd = (
        b'data: {"choices": [], "prompt_filter_results": []}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"content": null}, "finish_reason": null}]}\n\n',
    )
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    texts = (part for token in tokens or ("odd ", "but ", "whole") for part in (_chunk(token), *odd))
    return Behaviour(raw=(*odd, *texts, end))


def half_an_event() -> Behaviour:
    """The stream ends in the middle of a chunk."""
    return malformed(_chunk("Hel"), b'data: {"choices": [{"delta": {"content": "l')


FAULTS: Mapping[str, Callable[[], Behaviour]] = {
    "429": lambda: rate_limited(0.01),
    "429_long": lambda: rate_limited(3600),
    "429_untold": rate_limited,
    "quota": out_of_quota,
    "500": lambda: status(500),
    "503": lambda: status(503, retry_after="0.01"),
    "401": lambda: status(401, error_code="invalid_api_key"),
    "403": lambda: status(403),
    "context": context_too_long,
    "rejected": lambda: status(400),
    "no_model": lambda: status(404, error_code="model_not_found"),
    "prompt_filtered": lambda: status(400, error_code="content_filter"),
    "filtered_first": lambda: Behaviour(tokens=(), finish_reason="content_filter"),
    "filtered_later": lambda: Behaviour(tokens=("half ",), finish_reason="content_filter"),
    "filter_error_later": lambda: error_after(2, {"code": "content_filter"}),
    "no_headers": lambda: Behaviour(gate=Gate()),
    "no_token": lambda: slow_first_token(Gate()),
    "stall": lambda: stall_after(2),
    "drip": lambda: slow_drip(0.01),
    "cut_before_headers": lambda: Behaviour(cut_before_headers=True),
    "cut_before_token": lambda: cut_after(0),
    "cut": lambda: cut_after(2),
    "ended_before_token": lambda: clean_end_after(0),
    "ended": lambda: clean_end_after(2),
    "malformed": malformed,
    "half_event": half_an_event,
    "error_first": lambda: error_after(0),
    "error": lambda: error_after(2),
    "overloaded_in_stream": lambda: error_after(2, {"type": "overloaded_error"}),
    "html": html,
    "wrong_shape": wrong_shape,
    "unstreamed": unstreamed,
    "odd_chunks": with_odd_chunks,
    "no_usage": lambda: Behaviour(report_usage=False),
    "no_done": lambda: Behaviour(done=False),
    "oversize_line": lambda: oversize_line(2 * 1024 * 1024),
    "gzip": lambda: gzip_bomb(1),
    "redirect": lambda: redirect("http://127.0.0.1:9/v1/chat/completions"),
    "length": lambda: Behaviour(tokens=("too ", "long"), finish_reason="length"),
    "empty": lambda: answering("", finish_reason="stop"),
}
"""What goes wrong with upstreams, by name; a request asks for one with `[fault:NAME]` in its last message."""

_ASKED = re.compile(r"\[fault:([a-z0-9_]+)\]")


def asked_for(body: JsonObject) -> Behaviour | None:
    """Return the behaviour that the last message names, a new one for each request; `None` if it names none."""
    messages = body.get("messages") or [{}]
    found = _ASKED.search(str(messages[-1].get("content")))
    return FAULTS[found[1]]() if found else None


def _chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"
