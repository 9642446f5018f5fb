"""Both kinds of client over TLS with certificates on both sides, and what a client without the right ones is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from antiphon_client import (
    AsyncCacheClient,
    AsyncCompletionClient,
    AsyncRouterClient,
    CacheClient,
    CompletionClient,
    RouterClient,
    Tls,
)
from antiphon_client.channel import open_sync_channel
from antiphon_client.errors import UnavailableError
from tests.certificates import Authority
from tests.unit.client.completion_server import GUARD, Scripted, fails, serving


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def service() -> Scripted:
    return Scripted()


@pytest.fixture
async def address(authority: Authority, service: Scripted) -> AsyncIterator[str]:
    pair = authority.issue()
    credentials = grpc.ssl_server_credentials([(pair.key, pair.cert)], authority.pem, require_client_auth=True)
    async with serving(service, credentials) as address:
        yield address


@pytest.fixture
def tls(authority: Authority, tmp_path: Path) -> Tls:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.pem)
    cert_file, key_file = authority.issue("caller").write(tmp_path, "caller")
    return Tls(ca_file, cert_file, key_file)


async def test_answers_streams_and_retries(service: Scripted, address: str, tls: Tls) -> None:
    service.steps.append(fails(grpc.StatusCode.UNAVAILABLE))
    async with AsyncCompletionClient(address, tls=tls, api_key="key") as client:
        assert (await client.complete("hello", timeout=GUARD)).answer.text == "hello!"
        async with client.stream("one two", timeout=GUARD) as stream:
            assert [text async for text in stream.text_stream] == ["one ", "two "]

    def of_a_thread() -> None:
        with CompletionClient(address, tls=tls, api_key="key") as client:
            assert client.complete("hello", timeout=GUARD).answer.text == "hello!"
            with client.stream("one two", timeout=GUARD) as stream:
                assert list(stream.text_stream) == ["one ", "two "]

    service.steps.append(fails(grpc.StatusCode.UNAVAILABLE))
    await asyncio.to_thread(of_a_thread)
    assert service.calls == 6


async def test_without_certificates_the_error_says_what_to_check(address: str) -> None:
    async with AsyncCompletionClient(address) as client:
        with pytest.raises(UnavailableError, match="whether it speaks TLS"):
            await client.complete("hello", timeout=GUARD)


@pytest.mark.parametrize("kind", [AsyncCompletionClient, AsyncCacheClient, AsyncRouterClient])
async def test_every_client_of_a_loop_takes_them(
    kind: type[AsyncCompletionClient | AsyncCacheClient | AsyncRouterClient], tls: Tls
) -> None:
    async with kind("127.0.0.1:1", tls=tls):
        pass


@pytest.mark.parametrize("kind", [CompletionClient, CacheClient, RouterClient])
def test_every_client_of_a_thread_takes_them(
    kind: type[CompletionClient | CacheClient | RouterClient], tls: Tls
) -> None:
    with kind("127.0.0.1:1", tls=tls):
        pass
    with open_sync_channel("127.0.0.1:1") as channel, pytest.raises(ValueError, match="tls goes with a target"):
        kind(channel=channel, tls=tls)
