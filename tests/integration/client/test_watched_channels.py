"""Channels follow their certificate files: new calls with new certificates, calls under way undisturbed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from antiphon_client.channel import open_channel, open_sync_channel
from antiphon_client.tls import Tls, TlsFileError
from tests.certificates import Authority, replace
from tests.integration.client.tls_server import STREAM, UNARY, serving

GUARD_SECONDS = 30.0

CA = Authority()


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(replace(tmp_path / "ca.pem", CA.pem), *CA.issue("old").write(tmp_path, "client"))


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    async with serving(CA) as running:
        yield running


async def test_a_channel_follows_its_files_and_streams_go_on(
    server: tuple[str, asyncio.Event], tls: Tls, tmp_path: Path
) -> None:
    target, release = server
    async with asyncio.timeout(GUARD_SECONDS), open_channel(target, tls=tls) as channel:
        unary: Any = channel.unary_unary(UNARY)
        stream: Any = channel.unary_stream(STREAM)(b"")
        assert await stream.read() == b"old"
        CA.issue("new").write(tmp_path, "client")
        while await unary(b"", timeout=GUARD_SECONDS) != b"new":
            pass
        release.set()
        assert await stream.read() == b"old"
        assert await stream.read() is grpc.aio.EOF
        assert await unary(b"", timeout=GUARD_SECONDS) == b"new"


async def test_bad_files_later_leave_the_channel_as_it_is(
    server: tuple[str, asyncio.Event], tls: Tls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(GUARD_SECONDS), open_channel(server[0], tls=tls) as channel:
        unary: Any = channel.unary_unary(UNARY)
        (tmp_path / "client.key").write_bytes(b"s3cret")
        while not caplog.records:
            assert await unary(b"", timeout=GUARD_SECONDS) == b"old"
        assert await unary(b"", timeout=GUARD_SECONDS) == b"old"
    assert "the old ones stay: key_file" in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_cancelled_call_does_not_count_as_under_way(
    server: tuple[str, asyncio.Event], tls: Tls, tmp_path: Path
) -> None:
    async with asyncio.timeout(GUARD_SECONDS), open_channel(server[0], tls=tls) as channel:
        old: Any = channel.current().channel
        stream: Any = channel.unary_stream(STREAM)(b"")
        await stream.read()
        CA.issue("new").write(tmp_path, "client")
        while channel.current().channel is old:
            await channel.unary_unary(UNARY)(b"", timeout=GUARD_SECONDS)
        assert old.get_state() is grpc.ChannelConnectivity.READY
        stream.cancel()
        while old.get_state() is not grpc.ChannelConnectivity.SHUTDOWN:
            await channel.unary_unary(UNARY)(b"", timeout=GUARD_SECONDS)


async def test_files_that_cannot_be_used_are_told_at_once(tls: Tls) -> None:
    assert tls.files.ca_file
    tls.files.ca_file.unlink()
    for open_one in (open_channel, open_sync_channel):
        with pytest.raises(TlsFileError, match="ca_file"):
            open_one("127.0.0.1:1", tls=tls)


async def test_a_sync_channel_follows_its_files_too(
    server: tuple[str, asyncio.Event], tls: Tls, tmp_path: Path
) -> None:
    target, release = server
    loop = asyncio.get_running_loop()

    def calls() -> None:
        with open_sync_channel(target, tls=tls) as channel:
            grpc.channel_ready_future(channel).result(GUARD_SECONDS)
            unary: Any = channel.unary_unary(UNARY)
            stream: Any = channel.unary_stream(STREAM)(b"", timeout=GUARD_SECONDS)
            assert next(stream) == b"old"
            CA.issue("new").write(tmp_path, "client")
            while unary(b"", timeout=GUARD_SECONDS) != b"new":
                pass
            answer, call = unary.with_call(b"", timeout=GUARD_SECONDS)
            assert (answer, call.code()) == (b"new", grpc.StatusCode.OK)
            assert unary.future(b"", timeout=GUARD_SECONDS).result() == b"new"
            loop.call_soon_threadsafe(release.set)
            assert list(stream) == [b"old"]

    before = threading.active_count()
    await asyncio.to_thread(calls)
    assert threading.active_count() <= before + 3  # none is left for each call
