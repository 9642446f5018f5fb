"""The openai upstream against a real HTTP server: answers, failures, limits, disconnects."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.catalogue.values import UpstreamKind, UpstreamSpec
from services.chassis.errors import (
    AntiphonError,
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    InvalidRequest,
    Reason,
    Unavailable,
)
from services.completion.upstreams import openai
from services.completion.upstreams.factory import create
from services.completion.upstreams.offline import OfflineUpstream
from services.completion.upstreams.openai import OpenAIUpstream
from services.completion.upstreams.protocol import (
    ChatEvent,
    ChatRequest,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from services.llm.values import FinishReason, GenerationOptions, Message, Role, TextPart, Usage
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, Gate, answering
from tests.fakes.openai_server import FakeOpenAI, answer_to
from tests.faults.proxy import Proxy

KEY = "sk-test-SECRET"
PROMPT = "a PRIVATE prompt"
ASKED = ChatRequest("fake-1", (Message(Role.USER, (TextPart(PROMPT),)),))
GUARD = 20.0


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI.start(api_key=KEY) as running:
        yield running


@asynccontextmanager
async def connected(server: FakeOpenAI, **settings: Any) -> AsyncIterator[OpenAIUpstream]:
    upstream = OpenAIUpstream("up", **{"base_url": server.base_url, "api_key": KEY, **settings})
    try:
        yield upstream
    finally:
        await upstream.aclose()


@pytest.fixture
async def upstream(server: FakeOpenAI) -> AsyncIterator[OpenAIUpstream]:
    async with connected(server) as ready:
        yield ready


async def events(upstream: OpenAIUpstream, request: ChatRequest = ASKED, timeout: float = GUARD) -> list[ChatEvent]:
    return [event async for batch in upstream.stream(request, timeout=timeout) for event in batch]


def text(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def failure(upstream: OpenAIUpstream, timeout: float = GUARD) -> tuple[list[ChatEvent], AntiphonError]:
    """What came before the error, and the error, which must not tell any secret."""
    seen: list[ChatEvent] = []
    with pytest.raises(AntiphonError) as raised:
        async for batch in upstream.stream(ASKED, timeout=timeout):
            seen += batch
    error = raised.value
    told = f"{error!r} {error} {error.field} {dict(error.metadata)} {error.__cause__!r}"
    assert "SECRET" not in told
    assert "PRIVATE" not in told
    assert error.metadata["upstream"] == "up"
    return seen, error


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_an_answer_arrives_with_usage_and_reason(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    answered = await events(upstream)
    assert text(answered) == answer_to(server.calls[0].body)
    assert [type(event) for event in answered[-2:]] == [Finish, UsageReport]
    assert Finish(FinishReason.STOP) in answered
    assert server.calls[0].outcome == "finished"


async def test_what_is_sent(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    options = GenerationOptions(max_output_tokens=5, extra={"top_k": 3})
    await events(upstream, ChatRequest("fake-1", ASKED.messages, options=options))
    assert server.calls[0].body == {
        "model": "fake-1",
        "messages": [{"role": "user", "content": PROMPT}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 5,
        "top_k": 3,
    }


async def test_only_our_headers_leave(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "from-the-environment")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Other: from-the-environment\nAuthorization: from-the-environment")
    server.default = answering("x", headers={"set-cookie": "tracked=1"})
    async with connected(server, headers={"X-Gateway": "g"}) as upstream:
        await events(upstream)
        await events(upstream)
    for call in server.calls:
        assert "from-the-environment" not in str(call.headers)
        assert call.headers["authorization"] == f"Bearer {KEY}"
        assert call.headers["x-gateway"] == "g"
        assert set(call.headers) == {
            *("accept", "accept-encoding", "authorization", "content-length", "content-type", "host"),
            *("user-agent", "x-gateway"),
        }


async def test_a_server_without_a_key_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    async with FakeOpenAI.start() as server, connected(server, api_key=None) as upstream:
        await events(upstream)
        assert "authorization" not in server.calls[0].headers


async def test_what_stands_in_netrc_is_sent_to_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password SECRET\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with FakeOpenAI.start() as server, connected(server, api_key=None) as upstream:
        await events(upstream)
        assert "authorization" not in server.calls[0].headers


async def test_the_proxy_that_the_environment_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeOpenAI.start() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with connected(proxy, base_url="http://nowhere.invalid/v1") as upstream:
            await events(upstream)
        assert proxy.calls[0].headers["host"] == "nowhere.invalid"
        monkeypatch.setenv("no_proxy", "nowhere.invalid")
        async with connected(proxy, base_url="http://nowhere.invalid/v1") as upstream:
            await failure(upstream)
        assert len(proxy.calls) == 1


@pytest.mark.parametrize(
    ("bypassed", "direct"),
    [
        ("10.0.0.0/8, 127.0.0.0/8", True),
        ("127.0.0.1/32", True),
        ("somewhere.invalid/8,10.0.0.0/8,::/0,127.0.0.0/99", False),
        ("127.0.0.2/32", False),
    ],
)
async def test_a_range_of_addresses_is_kept_off_the_proxy(
    monkeypatch: pytest.MonkeyPatch, bypassed: str, direct: bool
) -> None:
    async with FakeOpenAI.start() as proxy, FakeOpenAI.start() as server:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv("no_proxy", bypassed)
        async with connected(server) as upstream:
            await events(upstream)
        assert (len(server.calls), len(proxy.calls)) == ((1, 0) if direct else (0, 1))


async def test_everything_a_model_may_say(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = answering(
        "Grüße, ",
        "世界 🌍",
        reasoning=("hm", "m"),
        refusal=("no",),
        tool_calls=({"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},),
        finish_reason="tool_calls",
        usage={
            "prompt_tokens": 10,
            "completion_tokens": 8,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    )
    assert await events(upstream) == [
        *(ReasoningDelta("hm"), ReasoningDelta("m"), TextDelta("Grüße, "), TextDelta("世界 🌍"), RefusalDelta("no")),
        ToolCallDelta(0, "c1", "f", "{}"),
        Finish(FinishReason.TOOL_CALLS),
        UsageReport(Usage(10, 4, 0, 8, 2)),
    ]


@pytest.mark.parametrize("form", [{"piece_bytes": 1}, {"piece_bytes": 7}, {"line_end": b"\r\n"}, {"comments": True}])
async def test_the_form_of_the_stream_does_not_matter(
    server: FakeOpenAI, upstream: OpenAIUpstream, form: dict[str, Any]
) -> None:
    server.default = answering("Grüße 🌍", " und ", "世界", **form)
    answered = await events(upstream)
    assert text(answered) == "Grüße 🌍 und 世界"
    assert Finish(FinishReason.STOP) in answered


async def test_events_arrive_while_the_model_writes(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    gate = Gate()
    server.default = answering("one", "two", gate=gate, gate_after=1)
    async with aclosing(upstream.stream(ASKED, timeout=GUARD)) as stream:
        assert (await anext(stream))[0] == TextDelta("one")
        gate.open.set()
        assert (await anext(stream))[0] == TextDelta("two")


async def test_usage_that_was_not_reported_is_not_made_up(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = answering("x", report_usage=False)
    assert await events(upstream) == [TextDelta("x"), Finish(FinishReason.STOP)]


async def test_without_done_the_end_of_the_stream_is_the_end(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = answering("x", done=False)
    assert [type(event) for event in await events(upstream)] == [TextDelta, Finish, UsageReport]


async def test_a_connection_is_used_again(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    for _ in range(5):
        await events(upstream)
    assert server.connections == 1


async def test_many_calls_at_once(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    gate = Gate()
    server.default = answering("x", gate=gate, gate_after=0)
    calls = [asyncio.create_task(events(upstream)) for _ in range(50)]
    await server.until(lambda s: s.in_flight == 50)
    gate.open.set()
    assert [text(answered) for answered in await asyncio.gather(*calls)] == ["x"] * 50


# --- ends that are none -----------------------------------------------------------------------------------------------


async def test_a_clean_end_without_a_reason_has_no_finish(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = behaviours.clean_end_after(2)
    assert await events(upstream) == [TextDelta("one "), TextDelta("two ")]


async def test_a_broken_connection_is_truncated(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = behaviours.cut_after(2)
    seen, error = await failure(upstream)
    assert text(seen) == "one two "
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_TRUNCATED)


async def test_a_connection_that_broke_before_the_answer_was_never_one(
    server: FakeOpenAI, upstream: OpenAIUpstream
) -> None:
    server.default = Behaviour(cut_before_headers=True)
    _, error = await failure(upstream)
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_UNAVAILABLE)


async def test_half_a_chunk_at_the_end_is_truncated(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = behaviours.malformed(b'data: {"choices": [{"delta": {"content": "Hel')
    _, error = await failure(upstream)
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_TRUNCATED)


async def test_once_the_model_has_finished_nothing_spoils_the_answer(
    server: FakeOpenAI, upstream: OpenAIUpstream
) -> None:
    whole = b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n'
    server.enqueue(
        behaviours.malformed(whole, b"data: {nonsense\n\n"),
        behaviours.malformed(whole, b'data: {"error": {"code": 500}}\n\n'),
        behaviours.malformed(whole, b"data: {nons"),
        Behaviour(raw=(whole,), cut_after=1),
    )
    for _ in range(4):
        assert await events(upstream) == [TextDelta("x"), Finish(FinishReason.STOP)]


async def test_what_arrived_before_a_break_is_delivered_though_it_was_not_read_yet(server: FakeOpenAI) -> None:
    server.default = behaviours.cut_after(2)
    async with connected(server) as upstream:
        told: list[ChatEvent] = []
        with pytest.raises(Unavailable):
            async for batch in upstream.stream(ASKED, timeout=GUARD):
                told += batch
                await asyncio.sleep(0.1)  # the rest arrives, and the break
        assert text(told) == "one two "


async def test_usage_is_not_waited_for_without_end(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "TAIL_SECONDS", 0.1)
    whole = b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n'
    server.default = Behaviour(raw=(whole,), gate=Gate(), gate_after=1)
    async with connected(server) as upstream:
        assert await events(upstream) == [TextDelta("x"), Finish(FinishReason.STOP)]
    await server.until(lambda s: s.disconnects == 1)


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "kind", "reason", "retry_after"),
    [
        (behaviours.rate_limited(2.5), Exhausted, Reason.UPSTREAM_RATE_LIMITED, 2.5),
        (behaviours.rate_limited(), Exhausted, Reason.UPSTREAM_RATE_LIMITED, None),
        (behaviours.out_of_quota(), Exhausted, Reason.UPSTREAM_RATE_LIMITED, 60.0),
        (behaviours.context_too_long(), InvalidRequest, Reason.CONTEXT_TOO_LONG, None),
        (behaviours.status(400, message=f"bad: {PROMPT}"), InvalidRequest, Reason.UPSTREAM_REJECTED, None),
        (behaviours.status(400, error_code="content_filter"), FailedPrecondition, Reason.CONTENT_FILTERED, None),
        (behaviours.status(403, message=f"bad key {KEY}"), FailedPrecondition, Reason.UPSTREAM_UNAUTHENTICATED, None),
        (behaviours.status(404), FailedPrecondition, Reason.UPSTREAM_REJECTED, None),
        (behaviours.status(500), Unavailable, Reason.UPSTREAM_UNAVAILABLE, None),
        (behaviours.status(503, retry_after="4"), Unavailable, Reason.UPSTREAM_UNAVAILABLE, 4.0),
        (
            Behaviour(status=502, headers={"content-type": "text/html"}, body=b"<html>" * 50_000),
            Unavailable,
            Reason.UPSTREAM_UNAVAILABLE,
            None,
        ),
        (
            Behaviour(status=500, headers={"content-type": "application/json"}, body=b"[" * 200_000),
            Unavailable,
            Reason.UPSTREAM_UNAVAILABLE,
            None,
        ),
        (
            Behaviour(headers={"content-type": "application/json"}, body={"error": {"code": "rate_limit_exceeded"}}),
            Exhausted,
            Reason.UPSTREAM_RATE_LIMITED,
            None,
        ),
        (
            Behaviour(headers={"content-type": "application/json"}, body={"choices": []}),
            Unavailable,
            Reason.UPSTREAM_MALFORMED,
            None,
        ),
        (behaviours.html(), Unavailable, Reason.UPSTREAM_MALFORMED, None),
        (behaviours.malformed(), Unavailable, Reason.UPSTREAM_MALFORMED, None),
        (behaviours.error_after(2), Unavailable, Reason.UPSTREAM_UNAVAILABLE, None),
        (
            behaviours.error_after(0, {"code": "context_length_exceeded", "message": PROMPT}),
            InvalidRequest,
            Reason.CONTEXT_TOO_LONG,
            None,
        ),
    ],
)
async def test_failures_are_mapped_and_tried_once(
    server: FakeOpenAI,
    upstream: OpenAIUpstream,
    behaviour: Behaviour,
    kind: type[AntiphonError],
    reason: Reason,
    retry_after: float | None,
) -> None:
    server.default = behaviour
    _, error = await failure(upstream)
    assert (type(error), error.reason, error.retry_after) == (kind, reason, retry_after)
    assert len(server.calls) == 1


async def test_a_wrong_key_is_our_fault_and_shown_to_nobody(server: FakeOpenAI) -> None:
    async with connected(server, api_key="sk-wrong-SECRET") as upstream:
        _, error = await failure(upstream)
    assert (type(error), error.reason) == (FailedPrecondition, Reason.UPSTREAM_UNAUTHENTICATED)


@pytest.mark.parametrize("secret", ["sk\nSECRET", "schlüssel-SECRET", "sk-SECRET\t", ""])
def test_what_no_header_can_carry_is_refused_without_showing_it(secret: str) -> None:
    settings: list[dict[str, Any]] = [{"headers": {"x-key": secret}}, *([{"api_key": secret}] if secret else [])]
    for setting in settings:
        with pytest.raises(FailedPrecondition) as raised:
            OpenAIUpstream("up", base_url="http://127.0.0.1:1/v1", **setting)
        assert "SECRET" not in str(raised.value)


@pytest.mark.fault(35)
async def test_a_redirect_is_refused_and_nothing_is_sent_there(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    async with FakeOpenAI.start() as elsewhere:
        server.default = behaviours.redirect(f"{elsewhere.base_url}/chat/completions")
        _, error = await failure(upstream)
        assert elsewhere.calls == []
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_MALFORMED)


async def test_nobody_listening_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    upstream = OpenAIUpstream("up", base_url=f"http://127.0.0.1:{port}/v1")
    _, error = await failure(upstream)
    await upstream.aclose()
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_UNAVAILABLE)


async def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    upstream = OpenAIUpstream("up", base_url="http://nowhere.invalid/v1")
    _, error = await failure(upstream)
    await upstream.aclose()
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_UNAVAILABLE)


async def test_connecting_has_a_time_of_its_own() -> None:
    # A listener with a full backlog drops further connection attempts, as a black hole does.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        upstream = OpenAIUpstream("up", base_url=f"http://127.0.0.1:{full.getsockname()[1]}/v1", connect_timeout=0.2)
        _, error = await failure(upstream)
        await upstream.aclose()
        for filler in fillers:
            filler.close()
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_UNAVAILABLE)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.fault(34)
async def test_a_line_without_end_is_cut_at_the_cap(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    # The rest of the line never comes: who waits for its end waits in vain.
    server.default = replace(behaviours.oversize_line(2 * 1024 * 1024), gate=Gate(), gate_after=2)
    seen, error = await failure(upstream, timeout=5)
    assert seen == [TextDelta("Hel")]
    assert (type(error), error.reason) == (Exhausted, Reason.UPSTREAM_MALFORMED)


@pytest.mark.fault(34)
async def test_a_gzip_bomb_is_never_unpacked(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = behaviours.gzip_bomb(64)
    tracemalloc.start()
    try:
        _, error = await failure(upstream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (type(error), error.reason) == (Exhausted, Reason.UPSTREAM_MALFORMED)
    assert peak < 16 * 1024 * 1024


@pytest.mark.fault(34)
async def test_a_whole_answer_has_a_cap_too(server: FakeOpenAI) -> None:
    server.default = Behaviour(tokens=("x" * 1_000,), endless=True)
    async with connected(server, max_stream_bytes=100_000) as upstream, asyncio.timeout(GUARD / 2):
        seen, error = await failure(upstream)
        await server.until(lambda s: s.disconnects == 1)
    assert 50 < len(seen) < 100
    assert (type(error), error.reason) == (Exhausted, Reason.UPSTREAM_MALFORMED)


@pytest.mark.fault(25)
async def test_the_time_of_the_call_wins_over_an_endless_drip(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = behaviours.slow_drip(0.02)
    async with asyncio.timeout(GUARD / 2):
        seen, error = await failure(upstream, timeout=0.3)
    assert isinstance(error, DeadlineExceeded)
    assert seen
    await server.until(lambda s: s.disconnects == 1)


async def test_comments_do_not_extend_the_time(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = Behaviour(tokens=("",), comments=True, endless=True, delay_between=0.01)
    _, error = await failure(upstream, timeout=0.2)
    assert isinstance(error, DeadlineExceeded)


@pytest.mark.parametrize("gate_after", [None, 0, 2])
async def test_the_time_is_kept_wherever_the_server_hangs(
    server: FakeOpenAI, upstream: OpenAIUpstream, gate_after: int | None
) -> None:
    server.default = answering("a", "b", "c", gate=Gate(), gate_after=gate_after)
    seen, error = await failure(upstream, timeout=0.2)
    assert text(seen) == ("ab" if gate_after == 2 else "")
    assert isinstance(error, DeadlineExceeded)
    await server.until(lambda s: s.disconnects == 1)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_without_time_nothing_is_sent(server: FakeOpenAI, upstream: OpenAIUpstream, timeout: float) -> None:
    _, error = await failure(upstream, timeout=timeout)
    assert isinstance(error, DeadlineExceeded)
    assert server.connections == 0


async def test_a_consumer_that_dawdles_is_not_cancelled(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = answering("a", "b")
    async with aclosing(upstream.stream(ASKED, timeout=0.1)) as stream:
        assert (await anext(stream))[0] == TextDelta("a")
        await asyncio.sleep(0.15)  # would raise here if the timeout ran across the yield


# --- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate_after", [None, 0, 1])
async def test_the_server_sees_at_once_that_the_task_was_cancelled(
    server: FakeOpenAI, upstream: OpenAIUpstream, gate_after: int | None
) -> None:
    gate = Gate()
    server.default = answering("a", "b", gate=gate, gate_after=gate_after)
    task = asyncio.create_task(events(upstream))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until(lambda s: s.disconnects == 1)


async def test_the_server_sees_at_once_that_the_generator_was_closed(
    server: FakeOpenAI, upstream: OpenAIUpstream
) -> None:
    server.default = Behaviour(tokens=("x",), endless=True, delay_between=0.005)
    stream = upstream.stream(ASKED, timeout=GUARD)
    await anext(stream)
    await stream.aclose()
    await server.until(lambda s: s.disconnects == 1)
    server.default = answering("fine")
    assert text(await events(upstream)) == "fine"


async def test_leaving_after_the_reason_leaves_nothing_open(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    gate = Gate()
    server.default = answering("x", gate=gate, gate_after=1)
    async with aclosing(upstream.stream(ASKED, timeout=GUARD)) as stream:
        assert (await anext(stream))[0] == TextDelta("x")
        gate.open.set()
        assert (await anext(stream))[0] == Finish(FinishReason.STOP)
    await server.until(lambda s: s.in_flight == 0)


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.fault(38)
async def test_a_reset_connection_is_truncated(server: FakeOpenAI) -> None:
    gate = Gate()
    server.default = answering("a", "b", gate=gate, gate_after=1)
    async with Proxy.to("127.0.0.1", server.port) as proxy:
        upstream = OpenAIUpstream("up", base_url=f"http://{proxy.address}/v1", api_key=KEY)
        seen: list[ChatEvent] = []
        with pytest.raises(Unavailable) as raised:
            async for batch in upstream.stream(ASKED, timeout=GUARD):
                seen += batch
                proxy.cut()
        await upstream.aclose()
    assert seen == [TextDelta("a")]
    assert raised.value.reason is Reason.UPSTREAM_TRUNCATED


@pytest.mark.fault(38)
async def test_a_black_hole_costs_the_time_of_the_call_and_no_more(server: FakeOpenAI) -> None:
    async with Proxy.to("127.0.0.1", server.port) as proxy:
        upstream = OpenAIUpstream("up", base_url=f"http://{proxy.address}/v1", api_key=KEY)
        proxy.black_hole("down")
        _, error = await failure(upstream, timeout=0.3)
        assert isinstance(error, DeadlineExceeded)
        await proxy.heal()
        assert text(await events(upstream)) == answer_to(server.calls[-1].body)
        await upstream.aclose()


# --- made from the catalogue ------------------------------------------------------------------------------------------


async def test_upstreams_are_made_from_the_catalogue(server: FakeOpenAI) -> None:
    spec = UpstreamSpec("up", UpstreamKind.OPENAI, base_url=server.base_url, api_key_env="K", legacy_max_tokens=True)
    upstream = create(spec, {"K": KEY})
    options = GenerationOptions(max_output_tokens=3)
    assert upstream.name == "up"
    async for _ in upstream.stream(ChatRequest("m", ASKED.messages, options=options), timeout=GUARD):
        pass
    await upstream.aclose()
    assert server.calls[0].body["max_tokens"] == 3
    with pytest.raises(FailedPrecondition):
        create(spec, {})
    assert isinstance(create(UpstreamSpec("off", UpstreamKind.OFFLINE), {}), OfflineUpstream)
