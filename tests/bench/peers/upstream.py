"""A server of OpenAI's chat completions that costs as little as can be: its own CPU time is in nobody's figure.

`python -m tests.bench.peers.upstream` prints its address. The model's name says how it writes: `burst` all at once,
`paced` a token every 5 ms, `late` the same after 20 ms. Each token is an event and a write of its own; `five` writes
five events at a time, without a pause. A path that begins with `/KIND/TOKENS` says so in its place.
"""

from __future__ import annotations

import asyncio
from typing import cast

import orjson
import uvloop

TOKENS = 50
PACE = 0.005
FIRST = 0.02
"""Seconds."""

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _event(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "gpt",
            "system_fingerprint": "fp_1",
            "choices": [choice],
            "usage": None,
        }
    )


def _event(payload: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def _http(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_USAGE = {"prompt_tokens": 250, "completion_tokens": TOKENS, "total_tokens": 250 + TOKENS}
_EVENT = _chunk({"content": "word "})
_FIRST = _HEAD + _http(_chunk({"role": "assistant", "content": ""}))
_LAST = _http(
    _chunk({}, "stop")
    + _event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "choices": [], "usage": _USAGE})
    + b"data: [DONE]\n\n"
)
_END = b"0\r\n\r\n"
_BODY = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "gpt",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * TOKENS},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
)
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


class _Connection(asyncio.Protocol):
    """One connection: requests one after the other, with `content-length`."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.WriteTransport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's own class

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        name = b"content-length:"
        lengths = [line for line in bytes(self._received[:head]).lower().split(b"\r\n") if line.startswith(name)]
        if not lengths:  # a look at the models, which nobody's figure needs
            del self._received[: head + 4]
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        end = head + 4 + int(lengths[0].removeprefix(name))
        if len(self._received) < end:
            return
        body = orjson.loads(self._received[head + 4 : end])
        path = bytes(self._received[:head]).split(b" ", 2)[1].decode().split("/")
        kind, count = (path[1], int(path[2])) if path[2].isdigit() else (str(body["model"]), TOKENS)
        del self._received[:end]
        if body.get("stream"):
            self._task = asyncio.create_task(_write(self._transport, kind, count))
        else:
            self._transport.write(_WHOLE)


async def _write(transport: asyncio.WriteTransport, kind: str, count: int) -> None:
    if kind == "late":
        await asyncio.sleep(FIRST)
    transport.write(_FIRST)
    together = 5 if kind == "five" else 1
    for _ in range(0, count, together):
        transport.write(_http(_EVENT * together))
        await asyncio.sleep(0 if kind in {"burst", "five"} else PACE)
    transport.write(_LAST)
    transport.write(_END)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
