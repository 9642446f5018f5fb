"""What the openai upstream sends, and through what: a request, its own headers alone, and the key to one server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.catalogue.values import UpstreamKind, UpstreamSpec
from services.chassis.errors import FailedPrecondition
from services.completion.upstreams.factory import create
from services.completion.upstreams.offline import OfflineUpstream
from services.completion.upstreams.openai import OpenAIUpstream
from services.completion.upstreams.protocol import ChatRequest
from services.llm.values import GenerationOptions
from tests.fakes.behaviours import answering
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.upstreams.openai_parts import ASKED, GUARD, KEY, PROMPT, connected, events, failure


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


@pytest.mark.parametrize("secret", ["sk\nSECRET", "schlüssel-SECRET", "sk-SECRET\t", ""])
def test_what_no_header_can_carry_is_refused_without_showing_it(secret: str) -> None:
    settings: list[dict[str, Any]] = [{"headers": {"x-key": secret}}, *([{"api_key": secret}] if secret else [])]
    for setting in settings:
        with pytest.raises(FailedPrecondition) as raised:
            OpenAIUpstream("up", base_url="http://127.0.0.1:1/v1", **setting)
        assert "SECRET" not in str(raised.value)


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
