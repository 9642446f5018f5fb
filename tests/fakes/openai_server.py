"""A real HTTP server that speaks OpenAI's API: chat (unary and SSE), embeddings, models; counts, and fails on demand.

    async with FakeOpenAI.start() as server:
        upstream = OpenAIUpstream("fake", base_url=server.base_url, api_key="sk-test")
        server.enqueue(behaviours.rate_limited(2))      # the next call
        server.chooses = behaviours.asked_for           # those with `[fault:NAME]` in their prompt
        server.default = behaviours.answering("Hi")     # all others
        …
        assert len(server.chat_calls) == 2
        await server.until(lambda s: s.disconnects == 1)

It runs on the loop of the test, so whoever calls it must not block that loop.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from tests.fakes.behaviours import Behaviour

GUARD_SECONDS = 20.0
"""How long `until` waits before a test is stuck."""

MODEL_DIM = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
DEFAULT_DIM = 1536
WRITE_BYTES = 1024 * 1024
MAX_REQUEST_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Call:
    """One request that reached the server."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: Mapping[str, Any]
    started: float
    """Monotonic seconds; so is `ended`."""
    ended: float | None = None
    outcome: Literal["", "finished", "disconnected", "cut"] = ""
    """`disconnected`: the client left before the end; `cut`: the server broke the connection, as it was told to."""
    events: int = 0
    """Chunks with content that were sent."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)


class FakeOpenAI:
    """The server. Made by `start`; safe to reconfigure between and during calls."""

    def __init__(self, *, api_key: str | None = None) -> None:
        """With `api_key`, any other key is refused with 401 (and quoted, as OpenAI does)."""
        self.default = Behaviour()
        self.chooses: Callable[[Mapping[str, Any]], Behaviour | None] = lambda _: None
        """From a request's body to its behaviour; `None`: the default."""
        self.calls: list[Call] = []
        self.peak_in_flight = 0
        self.connections = 0
        """Distinct client connections that sent a request."""
        self.port = 0
        self._api_key = api_key
        self._queue: deque[Behaviour] = deque()
        self._changed = asyncio.Event()
        self._peers: set[object] = set()

    @classmethod
    @asynccontextmanager
    async def start(cls, *, api_key: str | None = None, port: int = 0) -> AsyncIterator[FakeOpenAI]:
        """Serve on 127.0.0.1, by default on a free port, until the block ends."""
        server = cls(api_key=api_key)
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post("/v1/chat/completions", server._chat)
        app.router.add_post("/v1/embeddings", server._embeddings)
        app.router.add_get("/v1/models", server._models)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            server.port = runner.addresses[0][1]
            yield server
        finally:
            await runner.cleanup()

    @property
    def base_url(self) -> str:
        """What clients are given."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def queue(self) -> Sequence[Behaviour]:
        """What the next calls get, before the default applies again."""
        return self._queue

    def enqueue(self, *behaviours: Behaviour) -> None:
        """Answer the next calls like this, one each, before the default applies again."""
        self._queue.extend(behaviours)

    @property
    def chat_calls(self) -> list[Call]:
        """Calls of chat completions, in order of arrival."""
        return [call for call in self.calls if call.path.endswith("/chat/completions")]

    @property
    def embedding_calls(self) -> list[Call]:
        """Calls of embeddings, in order of arrival."""
        return [call for call in self.calls if call.path.endswith("/embeddings")]

    @property
    def in_flight(self) -> int:
        """Calls that have not ended."""
        return sum(call.ended is None for call in self.calls)

    @property
    def disconnects(self) -> int:
        """Calls whose client left before the end."""
        return sum(call.outcome == "disconnected" for call in self.calls)

    async def until(self, true_of: Callable[[FakeOpenAI], bool], *, guard: float = GUARD_SECONDS) -> None:
        """Return as soon as `true_of(server)`; it is looked at whenever a call begins, sends an event or ends."""
        async with asyncio.timeout(guard):
            while not true_of(self):
                self._changed.clear()
                await self._changed.wait()

    @contextmanager
    def _recorded(self, request: web.Request, body: Mapping[str, Any]) -> Iterator[Call]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.path, headers, body, time.monotonic())
        self.calls.append(call)
        # Kept alive here: the id of a transport that is gone may come back.
        self._peers.add(request.transport)
        self.connections = len(self._peers)
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self._changed.set()
        try:
            yield call
            call.outcome = call.outcome or "finished"
        except (asyncio.CancelledError, ConnectionError):
            call.outcome = call.outcome or "disconnected"
            raise
        finally:
            call.ended = time.monotonic()
            call.closed.set()
            self._changed.set()

    async def _begin(self, request: web.Request, body: Mapping[str, Any]) -> tuple[Behaviour, web.Response | None]:
        """Return how to answer, and the answer itself if it is a fixed body."""
        behaviour = self._queue.popleft() if self._queue else self.chooses(body) or self.default
        if behaviour.gate is not None and behaviour.gate_after is None:
            await behaviour.gate.passing()
        if behaviour.delay_headers:
            await asyncio.sleep(behaviour.delay_headers)
        given = request.headers.get("authorization", "")
        if self._api_key is not None and given != f"Bearer {self._api_key}":
            error = {"message": f"Incorrect API key provided: {given}.", "code": "invalid_api_key"}
            return behaviour, web.json_response({"error": error}, status=401)
        if behaviour.body_bytes is not None:
            return behaviour, web.Response(
                status=behaviour.status, body=behaviour.body_bytes, headers=dict(behaviour.headers)
            )
        return behaviour, None

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        with self._recorded(request, body) as call:
            behaviour, fixed = await self._begin(request, body)
            if behaviour.cut_before_headers:
                _cut(request, call)
                return web.Response()
            if fixed is not None:
                return fixed
            if not body.get("stream"):
                return web.json_response(_completion(behaviour, body))
            response = web.StreamResponse(headers={"content-type": behaviour.content_type, **behaviour.headers})
            with suppress(ConnectionError):  # aiohttp would log that the client has left
                await response.prepare(request)
                if await _Stream(request, response, behaviour, body, call, self._changed).run():
                    await response.write_eof()
                return response
            call.outcome = call.outcome or "disconnected"
            return response

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        with self._recorded(request, body):
            behaviour, fixed = await self._begin(request, body)
            return web.json_response(_embedded(behaviour, body)) if fixed is None else fixed

    async def _models(self, request: web.Request) -> web.StreamResponse:
        with self._recorded(request, {}):
            _, fixed = await self._begin(request, {})
            models = [
                {"id": name, "object": "model", "created": 0, "owned_by": "fake"} for name in ("fake-1", "fake-2")
            ]
            return web.json_response({"object": "list", "data": models}) if fixed is None else fixed


class _Stream:
    """Writes one event stream."""

    def __init__(
        self,
        request: web.Request,
        response: web.StreamResponse,
        behaviour: Behaviour,
        body: Mapping[str, Any],
        call: Call,
        changed: asyncio.Event,
    ) -> None:
        self._request = request
        self._response = response
        self._b = behaviour
        self._body = body
        self._call = call
        self._changed = changed

    async def run(self) -> bool:
        """Write it all; returns False if the connection was cut on purpose."""
        if self._b.raw is not None:
            for number, part in enumerate(self._b.raw):
                if not await self._before(number):
                    return self._call.outcome != "cut"
                await self._write(part)
            await self._before(len(self._b.raw))
            return self._call.outcome != "cut"
        await self._payload(_chunk(self._b, self._body, {"role": "assistant", "content": ""}))
        deltas = _deltas(self._b, self._body)
        while True:
            for delta in deltas:
                if not await self._before(self._call.events):
                    return self._call.outcome != "cut"
                await self._payload(_chunk(self._b, self._body, delta))
                self._call.events += 1
                self._changed.set()
            if not self._b.endless:
                break
        if await self._before(self._call.events):
            await self._ending()
        return self._call.outcome != "cut"

    async def _before(self, number: int) -> bool:
        """Do what comes before event `number` (or the end); returns whether to go on."""
        b = self._b
        if b.cut_after == number:
            _cut(self._request, self._call)
            return False
        if b.end_after == number:
            return False
        if b.error_after == number:
            await self._payload({"error": dict(b.error)})
            return False
        if b.gate is not None and b.gate_after == number:
            await b.gate.passing()
        if delay := b.delay_first if number == 0 else b.delay_between:
            await asyncio.sleep(delay)
        return True

    async def _ending(self) -> None:
        b = self._b
        if b.finish_reason is not None:
            await self._payload(_chunk(b, self._body, {}, b.finish_reason))
        asked = (self._body.get("stream_options") or {}).get("include_usage")
        if b.report_usage and asked:
            await self._payload({**_chunk(b, self._body, {}), "choices": [], "usage": _usage(b, self._body)})
        if b.done:
            await self._data(b"[DONE]")

    async def _payload(self, payload: Mapping[str, Any]) -> None:
        # As OpenAI does: UTF-8 as it is, so that splitting the bytes splits characters.
        await self._data(json.dumps(payload, ensure_ascii=False).encode())

    async def _data(self, data: bytes) -> None:
        end = self._b.line_end
        comment = b": keep-alive" + end + end if self._b.comments else b""
        await self._write(comment + b"data: " + data + end + end)

    async def _write(self, data: bytes) -> None:
        size = self._b.piece_bytes or WRITE_BYTES
        for start in range(0, len(data), size):
            await self._response.write(data[start : start + size])
            if self._b.piece_bytes:
                await asyncio.sleep(0)


def answer_to(body: Mapping[str, Any]) -> str:
    """The sentence that the server answers by default: another one for each question and each model."""
    messages = body.get("messages") or [{}]
    content = messages[-1].get("content")
    question = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    digest = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:8]
    return f"{body.get('model')} answers {digest}: {question}"


def vector_of(text: str, dim: int) -> NDArray[np.float32]:
    """The unit vector that the server gives for `text`."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _cut(request: web.Request, call: Call) -> None:
    call.outcome = "cut"
    if request.transport is not None:
        request.transport.abort()


def _tokens(behaviour: Behaviour, body: Mapping[str, Any]) -> tuple[str, ...]:
    if behaviour.tokens is not None:
        return behaviour.tokens
    words = answer_to(body).split(" ")
    return tuple(word if last else f"{word} " for last, word in ((i == len(words) - 1, w) for i, w in enumerate(words)))


def _deltas(behaviour: Behaviour, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        *({"content": None, behaviour.reasoning_name: text} for text in behaviour.reasoning),
        *({"content": text} for text in _tokens(behaviour, body)),
        *({"content": None, "refusal": text} for text in behaviour.refusal),
        *({"content": None, "tool_calls": [dict(call)]} for call in behaviour.tool_calls),
    ]


def _chunk(
    behaviour: Behaviour, body: Mapping[str, Any], delta: Mapping[str, Any], finish: str | None = None
) -> dict[str, Any]:
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": behaviour.model or body.get("model"),
        "choices": [{"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish}],
    }


def _usage(behaviour: Behaviour, body: Mapping[str, Any]) -> dict[str, Any]:
    if behaviour.usage is not None:
        return dict(behaviour.usage)
    prompt = max(len(json.dumps(body.get("messages")).split()), 1)
    completion = len(_deltas(behaviour, body))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _completion(behaviour: Behaviour, body: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(_tokens(behaviour, body))}
    if behaviour.refusal:
        message["refusal"] = "".join(behaviour.refusal)
    if behaviour.tool_calls:
        message["tool_calls"] = [dict(call) for call in behaviour.tool_calls]
    completion = {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 0,
        "model": behaviour.model or body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": behaviour.finish_reason}],
    }
    return {**completion, "usage": _usage(behaviour, body)} if behaviour.report_usage else completion


def _embedded(behaviour: Behaviour, body: Mapping[str, Any]) -> dict[str, Any]:
    model = str(body.get("model"))
    dim = behaviour.vector_dim or body.get("dimensions") or MODEL_DIM.get(model, DEFAULT_DIM)
    texts = [body["input"]] if isinstance(body["input"], str) else list(body["input"])
    data = []
    for index, text in enumerate(texts):
        vector = vector_of(str(text), dim)
        match behaviour.vector_fault:
            case "nan":
                vector[0] = np.nan
            case "inf":
                vector[0] = np.inf
            case "zero":
                vector[:] = 0
        as_text = body.get("encoding_format") == "base64"
        embedding = base64.b64encode(vector.astype("<f4").tobytes()).decode() if as_text else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    if behaviour.vector_fault == "missing":
        data.pop()
    if behaviour.vector_fault == "reversed":
        data.reverse()
    tokens = sum(len(str(text).split()) for text in texts)
    answer: dict[str, Any] = {"object": "list", "model": behaviour.model or model, "data": data}
    if behaviour.report_usage:
        answer["usage"] = behaviour.usage or {"prompt_tokens": tokens, "total_tokens": tokens}
    return answer
