"""A server with a credentials file, over real connections: who is let in, and what happens when the file changes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis.auth.api_key import new_key
from services.chassis.auth.credentials import serialise
from services.chassis.auth.values import Caller, Role
from services.chassis.settings import SettingsError
from tests.fakes.credentials import bearer, credentials, replace, stored, write
from tests.integration.chassis.probe import (
    COUNT,
    ECHO,
    WAIT,
    Bench,
    Details,
    Ping,
    connected,
    refused,
    serving,
    until,
)

GUARD_SECONDS = 10.0
KEY, OTHER, OPERATOR, SERVICE = (new_key() for _ in range(4))
PING = Ping(text="hello").SerializeToString()
FILE = "credentials.json"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    write(
        tmp_path / FILE,
        [stored(KEY), stored(OPERATOR, Role.OPERATOR), stored(SERVICE, Role.SERVICE, tenant="default")],
    )
    async with serving(tmp_path, log_sample=1.0) as running:
        yield running


async def echo(channel: Any, metadata: Any = ()) -> Any:
    return Ping.FromString(await channel.unary_unary(ECHO)(PING, timeout=GUARD_SECONDS, metadata=metadata))


async def test_a_key_lets_in_and_says_for_whom(bench: Bench, channel: Any) -> None:
    assert (await echo(channel, bearer(KEY))).text == "hello"
    assert [call.caller for call in bench.probe.calls] == [Caller("acme", KEY.id, Role.CLIENT)]
    assert f'"tenant":"acme","key":"{KEY.id}"' in bench.log()
    assert KEY.text[16:] not in bench.log()


@pytest.mark.fault(14)
@pytest.mark.parametrize("method", [ECHO, WAIT, COUNT])
@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "MISSING_CREDENTIAL"),
        ((("authorization-bin", b"\xff\x00"),), "MISSING_CREDENTIAL"),
        (bearer(OTHER), "INVALID_CREDENTIAL"),
        ((*bearer(KEY), *bearer(KEY)), "INVALID_CREDENTIAL"),
        ((("authorization", f"Basic {KEY.text}"),), "INVALID_CREDENTIAL"),
        ((("authorization", "Bearer " + "x" * 15_000),), "INVALID_CREDENTIAL"),
    ],
    ids=["none", "binary", "unknown", "twice", "basic", "huge"],
)
async def test_without_a_good_key_nothing_begins(
    bench: Bench, channel: Any, method: str, metadata: Any, reason: str
) -> None:
    error = await refused(channel.unary_unary(method)(b"\xff", timeout=GUARD_SECONDS, metadata=metadata))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert Details(error).info.reason == reason
    assert Details(error).retry is None
    assert bench.probe.calls == []
    assert KEY.text[16:] not in str(error)
    assert KEY.text[16:] not in bench.log()


@pytest.mark.fault(14)
async def test_an_expired_key_is_refused_as_expired(tmp_path: Path) -> None:
    write(tmp_path / FILE, [stored(KEY, expires_at=datetime(2026, 1, 2, tzinfo=UTC))])
    async with serving(tmp_path) as bench, connected(bench.server.address) as channel:
        error = await refused(channel.unary_unary(ECHO)(PING, timeout=GUARD_SECONDS, metadata=bearer(KEY)))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert Details(error).info.reason == "EXPIRED_CREDENTIAL"


async def raw_header(address: str, value: bytes) -> bytes:
    """Call Echo with this `authorization`, byte for byte, which no client of gRPC would send; returns what came back.

    HTTP/2 by hand (RFC 9113; RFC 7541, section 6.2.2: literals without indexing, not Huffman-coded).
    """

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def literal(name: bytes, content: bytes) -> bytes:
        assert max(len(name), len(content)) < 127
        return bytes([0, len(name)]) + name + bytes([len(content)]) + content

    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", ECHO.encode()),
        (b":authority", b"test"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"authorization", value),
    ]
    block = b"".join(literal(name, content) for name, content in headers)
    message = b"\x00" + len(PING).to_bytes(4, "big") + PING
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        writer.write(frame(1, 0x4, 1, block) + frame(0, 0x1, 1, message))
        received = b""
        async with asyncio.timeout(GUARD_SECONDS):
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if int.from_bytes(head[5:9], "big") == 1:
                    received += payload
                    if head[3] == 3 or head[4] & 0x1:  # RST_STREAM, or END_STREAM
                        return received
                elif head[3] == 7:  # GOAWAY
                    return received + payload
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.fault(14)
@pytest.mark.parametrize("value", [b"Bearer \xff\xfe", "Bearer ключ".encode(), b"Bearer \x01", b"\x80"])
async def test_bytes_that_are_no_text_let_nobody_in_and_break_nothing(bench: Bench, channel: Any, value: bytes) -> None:
    assert b"grpc-status\x0216" in await raw_header(bench.server.address, value)  # UNAUTHENTICATED
    assert bench.probe.calls == []
    assert (await echo(channel, bearer(KEY))).text == "hello"
    assert "INTERNAL" not in bench.log()


async def test_the_hand_made_call_itself_is_a_good_one(bench: Bench) -> None:
    assert b"hello" in await raw_header(bench.server.address, b"Bearer " + KEY.text.encode())
    assert len(bench.probe.calls) == 1


async def test_a_role_that_may_not_call_is_refused(bench: Bench, channel: Any) -> None:
    for key in (OPERATOR, SERVICE):
        error = await refused(channel.unary_unary(ECHO)(PING, timeout=GUARD_SECONDS, metadata=bearer(key)))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert Details(error).info.reason == "METHOD_NOT_ALLOWED"
    assert bench.probe.calls == []


async def test_health_and_reflection_need_no_key(channel: Any) -> None:
    answer = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service="readiness"), timeout=GUARD_SECONDS
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=GUARD_SECONDS
    )
    names = [service.name async for found in listing for service in found.list_services_response.service]
    assert "antiphon_test.Probe" in names


async def test_a_key_that_calls_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    write(tmp_path / FILE, [stored(KEY, requests_per_minute=2), stored(OTHER)])
    async with serving(tmp_path) as bench, connected(bench.server.address) as channel:
        for _ in range(2):
            await echo(channel, bearer(KEY))
        error = await refused(channel.unary_unary(ECHO)(PING, timeout=GUARD_SECONDS, metadata=bearer(KEY)))
        await echo(channel, bearer(OTHER))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = Details(error)
    assert details.info.reason == "RATE_LIMITED"
    # A request comes back every 30 s; some of the first 30 have passed.
    assert 0 < details.retry.retry_delay.ToSeconds() <= 30


# --- without credentials ----------------------------------------------------------------------------------------------


async def test_without_credentials_a_server_is_open_says_so_and_believes_no_tenant(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench, connected(bench.server.address) as channel:
        assert (await echo(channel)).text == "hello"
        assert [call.caller for call in bench.probe.calls] == [Caller("default")]
        assert bench.log().count("no credentials: everyone on this machine may call everything") == 1
        assert '"level":"warning"' in bench.log()
        metadata = (("x-antiphon-tenant", "default"),)
        error = await refused(channel.unary_unary(ECHO)(PING, timeout=GUARD_SECONDS, metadata=metadata))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert Details(error).info.reason == "TENANT_NOT_ALLOWED"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "example.com:0"])
async def test_without_credentials_only_this_machine_is_listened_to(tmp_path: Path, listen: str) -> None:
    with pytest.raises(SettingsError, match="ANTIPHON_PROBE_LISTEN: without credentials") as raised:
        async with serving(tmp_path, listen=listen):
            pass
    assert "antiphon key create" in str(raised.value)


async def test_with_credentials_every_address_may_be_listened_to(tmp_path: Path) -> None:
    write(tmp_path / FILE, [stored(KEY)])
    async with serving(tmp_path, listen="0.0.0.0:0") as bench, connected(bench.server.address) as channel:
        assert (await echo(channel, bearer(KEY))).text == "hello"


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", "a folder"])
async def test_a_file_that_cannot_be_used_at_the_start_opens_no_door(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "keys"
    if content == "a folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match="ANTIPHON_CREDENTIALS_FILE"):
        async with serving(tmp_path / "state", credentials_file=path):
            pass


async def test_a_link_to_nowhere_in_the_state_folder_opens_no_door(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to(tmp_path / "gone")
    with pytest.raises(SettingsError, match=r"ANTIPHON_CREDENTIALS_FILE: credentials\.json in the state folder"):
        async with serving(tmp_path):
            pass


# --- changes of the file ----------------------------------------------------------------------------------------------


def in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def by_link(path: Path, content: bytes) -> None:
    """As Kubernetes replaces a mounted secret: the name is a link, which is swapped."""
    target = path.with_name(f"version-{os.urandom(4).hex()}")
    target.write_bytes(content)
    link = path.with_name(".link")
    link.symlink_to(target)
    os.replace(link, path)  # noqa: PTH105 -- the call that is meant


@pytest.mark.parametrize("change", [replace, in_place, by_link])
async def test_keys_come_and_go_without_a_restart(
    tmp_path: Path, bench: Bench, channel: Any, change: Callable[[Path, bytes], None]
) -> None:
    assert (await refused(channel.unary_unary(ECHO)(PING, metadata=bearer(OTHER)))).code() is (
        grpc.StatusCode.UNAUTHENTICATED
    )
    change(tmp_path / FILE, serialise(credentials(stored(OTHER))))
    await until(lambda: bench.metric("antiphon_credentials_keys") == 1)
    assert (await echo(channel, bearer(OTHER))).text == "hello"
    assert (await refused(channel.unary_unary(ECHO)(PING, metadata=bearer(KEY)))).code() is (
        grpc.StatusCode.UNAUTHENTICATED
    )
    assert bench.metric("antiphon_credentials_reloads_total", file="credentials", result="loaded") == 1


@pytest.mark.fault(66)
@pytest.mark.parametrize("wrong", ["gone", "a folder", b"", b"{", b'{"version": 2}'], ids=repr)
async def test_a_wrong_file_leaves_the_old_keys_and_is_told_once(
    tmp_path: Path, bench: Bench, channel: Any, wrong: Any
) -> None:
    path = tmp_path / FILE
    if isinstance(wrong, bytes):
        replace(path, wrong)
    elif wrong == "a folder":
        (tmp_path / "link").symlink_to(tmp_path)
        os.replace(tmp_path / "link", path)  # noqa: PTH105 -- the call that is meant
    else:
        path.unlink()
    await until(lambda: bench.metric("antiphon_credentials_reloads_total", file="credentials", result="kept") == 1)
    assert (await echo(channel, bearer(KEY))).text == "hello"
    assert bench.log().count("the credentials file is wrong; the old keys stay in use") == 1
    write(path, [stored(KEY), stored(OTHER)])
    await until(lambda: bench.metric("antiphon_credentials_reloads_total", file="credentials", result="loaded") == 1)
    assert bench.metric("antiphon_credentials_reloads_total", file="credentials", result="kept") == 1
    assert (await echo(channel, bearer(OTHER))).text == "hello"


@pytest.mark.fault(70)
async def test_keys_are_swapped_under_load_and_good_ones_never_fail(tmp_path: Path, bench: Bench, channel: Any) -> None:
    """KEY is in every version of the file; the others come, work at once, and go."""
    done = asyncio.Event()
    answered = 0

    def loaded() -> float:
        return bench.metric("antiphon_credentials_reloads_total", file="credentials", result="loaded")

    async def caller() -> None:
        nonlocal answered
        while not done.is_set():
            await echo(channel, bearer(KEY))
            answered += 1

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(caller())
        for turn in range(2):
            new = new_key()
            write(tmp_path / FILE, [stored(KEY), stored(new)])
            await until(lambda: loaded() == 2 * turn + 1)  # noqa: B023 -- waited for before the next turn
            assert (await echo(channel, bearer(new))).text == "hello"
            write(tmp_path / FILE, [stored(KEY), stored(new, revoked_at=datetime.now(UTC))])
            await until(lambda: loaded() == 2 * turn + 2)  # noqa: B023
            error = await refused(channel.unary_unary(ECHO)(PING, timeout=GUARD_SECONDS, metadata=bearer(new)))
            assert Details(error).info.reason == "INVALID_CREDENTIAL"
        done.set()
    assert answered > 0
