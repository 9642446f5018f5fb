"""A failure of the server or of the network has its kind and reason, is not tried again here, and tells no secret."""

from __future__ import annotations

import socket

import pytest

from services.chassis.errors import (
    AntiphonError,
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    InvalidRequest,
    Reason,
    Unavailable,
)
from services.completion.upstreams.openai import OpenAIUpstream
from services.completion.upstreams.protocol import ChatEvent, TextDelta
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, Gate, answering
from tests.fakes.openai_server import FakeOpenAI, answer_to
from tests.faults.proxy import Proxy
from tests.integration.upstreams.openai_parts import ASKED, GUARD, KEY, PROMPT, connected, events, failure, text

# --- of the server ----------------------------------------------------------------------------------------------------


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


@pytest.mark.fault(35)
async def test_a_redirect_is_refused_and_nothing_is_sent_there(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    async with FakeOpenAI.start() as elsewhere:
        server.default = behaviours.redirect(f"{elsewhere.base_url}/chat/completions")
        _, error = await failure(upstream)
        assert elsewhere.calls == []
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_MALFORMED)


# --- of the network ---------------------------------------------------------------------------------------------------


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
