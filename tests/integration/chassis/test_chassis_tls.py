"""TLS of a server: who gets in, what stays plaintext, and certificates that change while it runs."""

from __future__ import annotations

import asyncio
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from antiphon_client.channel import open_channel
from antiphon_client.tls import Tls
from services.chassis import runfile
from services.chassis.settings import SettingsError
from tests.certificates import Authority, Pair, replace
from tests.integration.chassis.probe import ECHO, Bench, Ping, connected, refused, serving

GUARD_SECONDS = 30.0
CALLERS = 8

CA, OTHER = Authority(), Authority("another authority")


class Files:
    """The certificate files of a server and of a client, as the settings and `Tls` name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = replace(folder / "ca.pem", CA.pem)
        self.server = CA.issue().write(folder, "server")
        self.client = CA.issue().write(folder, "client")

    def settings(self, *, mutual: bool = False) -> dict[str, Any]:
        names = dict(zip(("tls_cert_file", "tls_key_file"), self.server, strict=True))
        return {**names, "tls_client_ca_file": self.ca} if mutual else names

    def tls(self, *, mutual: bool = False) -> Tls:
        return Tls(self.ca, *self.client) if mutual else Tls(self.ca)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def echo(address: str, tls: Tls) -> str:
    async with open_channel(address, tls=tls) as channel:
        answer: bytes = await channel.unary_unary(ECHO)(Ping(text="hi").SerializeToString(), timeout=GUARD_SECONDS)
        return str(Ping.FromString(answer).text)


async def test_a_server_with_a_certificate_speaks_tls(files: Files) -> None:
    async with serving(files.folder, **files.settings()) as bench:
        assert await echo(bench.server.address, files.tls()) == "hi"
        untrusting = Tls(replace(files.folder / "other.pem", OTHER.pem))
        assert (await refused(echo(bench.server.address, untrusting))).code() is grpc.StatusCode.UNAVAILABLE


async def test_with_a_client_ca_every_caller_shows_a_certificate(files: Files) -> None:
    async with serving(files.folder, **files.settings(mutual=True)) as bench:
        address = bench.server.address
        stranger = Tls(files.ca, *OTHER.issue().write(files.folder, "stranger"))
        for tls in (files.tls(), stranger):
            assert (await refused(echo(address, tls))).code() is grpc.StatusCode.UNAVAILABLE
            assert await echo(address, files.tls(mutual=True)) == "hi"
        assert bench.metric("antiphon_rpcs_total", code="OK", method="antiphon_test.Probe/Echo") == 2


async def test_a_plaintext_caller_is_turned_away_and_the_server_lives(files: Files) -> None:
    async with serving(files.folder, **files.settings()) as bench:
        async with connected(bench.server.address) as channel:
            error = await refused(channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert await echo(bench.server.address, files.tls()) == "hi"


async def test_health_is_asked_in_plaintext_and_nothing_else_is(files: Files) -> None:
    async with serving(files.folder, **files.settings(mutual=True)) as bench:
        found = runfile.read(files.folder, "probe")
        assert found is not None
        assert found.address == bench.server.address != found.probe == bench.server.health_address
        async with connected(found.probe or "") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            for ready in (True, False):
                bench.server.set_ready(ready)
                answer = await stub.Check(health_pb2.HealthCheckRequest(service="readiness"), timeout=GUARD_SECONDS)
                assert (answer.status == health_pb2.HealthCheckResponse.SERVING) is ready
            for method in (ECHO, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"):
                error = await refused(channel.unary_unary(method)(b"", timeout=GUARD_SECONDS))
                assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_health_port_may_be_asked_for_and_must_be_free(tmp_path: Path) -> None:
    async with serving(tmp_path, health_listen="127.0.0.1:0") as bench:
        address = bench.server.health_address
        assert address is not None
        with pytest.raises(SettingsError) as error:
            async with serving(tmp_path / "second", health_listen=address):
                pass
        assert error.value.key == "ANTIPHON_HEALTH_LISTEN"
    async with serving(tmp_path) as bench:
        assert bench.server.health_address is None


def _page(url: str, ca: bytes) -> str:
    context = ssl.create_default_context(cadata=ca.decode())
    with urllib.request.urlopen(url, timeout=GUARD_SECONDS, context=context) as page:
        return str(page.read().decode())


async def test_metrics_are_scraped_over_https_and_follow_the_certificate(files: Files) -> None:
    # Scrapers show no certificate, also where other callers must.
    settings = {**files.settings(mutual=True), "metrics_listen": "127.0.0.1:0"}
    async with serving(files.folder, **settings) as bench, asyncio.timeout(GUARD_SECONDS):
        url = f"https://localhost:{(bench.server.metrics_address or '').rpartition(':')[2]}/metrics"
        assert "antiphon_rpcs_total" in await asyncio.to_thread(_page, url, CA.pem)
        with pytest.raises((urllib.error.URLError, OSError)):
            await asyncio.to_thread(_page, url.replace("https", "http"), CA.pem)
        OTHER.issue().write(files.folder, "server")
        while True:
            try:
                assert "antiphon_rpcs_total" in await asyncio.to_thread(_page, url, OTHER.pem)
                break
            except urllib.error.URLError as error:  # still the old one
                assert isinstance(error.reason, ssl.SSLCertVerificationError)


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("server.pem", None, "ANTIPHON_TLS_CERT_FILE"),
        ("server.pem", b"s3cret", "ANTIPHON_TLS_CERT_FILE"),
        ("server.key", None, "ANTIPHON_TLS_KEY_FILE"),
        ("server.key", CA.issue().key, "ANTIPHON_TLS_KEY_FILE"),
        ("ca.pem", b"s3cret", "ANTIPHON_TLS_CLIENT_CA_FILE"),
    ],
)
async def test_a_wrong_file_at_the_start_names_its_setting(
    files: Files, name: str, content: bytes | None, key: str
) -> None:
    path = files.folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as error:
        async with serving(files.folder, **files.settings(mutual=True)):
            pass
    assert error.value.key == key
    assert "s3cret" not in str(error.value)


def _reloads(bench: Bench, result: str) -> float:
    return bench.metric("antiphon_certificate_reloads_total", result=result)


@pytest.mark.fault(66)
async def test_a_bad_pair_later_keeps_the_old_one_counts_and_logs(files: Files) -> None:
    async with serving(files.folder, **files.settings()) as bench, asyncio.timeout(GUARD_SECONDS):
        new = CA.issue()
        Pair(new.cert, CA.issue().key).write(files.folder, "server")
        while not _reloads(bench, "kept"):
            assert await echo(bench.server.address, files.tls()) == "hi"
        assert await echo(bench.server.address, files.tls()) == "hi"
        assert '"setting":"ANTIPHON_TLS_KEY_FILE","problem":"the key does not belong to the certificate"' in bench.log()
        assert not _reloads(bench, "loaded")
        new.write(files.folder, "server")
        while not _reloads(bench, "loaded"):
            assert await echo(bench.server.address, files.tls()) == "hi"


class Load:
    """Callers that ask one question after the other; one connects each time anew. A failure ends the test."""

    def __init__(self, address: str, tls: Tls) -> None:
        self.answered = 0
        self._address = address
        self._tls = tls
        self._channel: Any = open_channel(address, tls=tls)
        self._more = asyncio.Condition()
        self._done = False

    async def run(self) -> None:
        call: Any = self._channel.unary_unary(ECHO)

        async def keeping() -> None:
            await call(b"", timeout=GUARD_SECONDS)

        async def connecting() -> None:
            await echo(self._address, self._tls)

        async with self._channel, asyncio.TaskGroup() as group:
            for body in (connecting, *[keeping] * CALLERS):
                group.create_task(self._repeat(body))

    async def calls(self, count: int, *, until: Callable[[], bool] = lambda: True) -> None:
        """Wait until so many more calls have been answered and `until` holds."""
        wanted = self.answered + count
        async with self._more:
            await self._more.wait_for(lambda: self.answered >= wanted and until())

    def generation(self) -> object:
        """Another one after the client has followed its files."""
        return self._channel.current()

    def stop(self) -> None:
        self._done = True

    async def _repeat(self, body: Callable[[], Awaitable[None]]) -> None:
        while not self._done:
            await body()
            async with self._more:
                self.answered += 1
                self._more.notify_all()


@pytest.mark.fault(70)
async def test_no_call_fails_while_every_certificate_and_authority_is_replaced(files: Files) -> None:
    async with (
        serving(files.folder, **files.settings(mutual=True)) as bench,
        asyncio.timeout(GUARD_SECONDS * 2),
        asyncio.TaskGroup() as group,
    ):
        load = Load(bench.server.address, files.tls(mutual=True))
        group.create_task(load.run())

        async def followed(change: Callable[[], object], *, by_server: bool, by_client: bool) -> None:
            reloads, generation = _reloads(bench, "loaded"), load.generation()
            change()
            await load.calls(
                400,
                until=lambda: (
                    (_reloads(bench, "loaded") > reloads) is by_server
                    and (load.generation() is not generation) is by_client
                ),
            )

        await load.calls(400)
        # First everybody trusts both authorities, then both sides change theirs, then nobody trusts the old one.
        await followed(lambda: replace(files.ca, CA.pem + OTHER.pem), by_server=True, by_client=True)
        await followed(lambda: OTHER.issue().write(files.folder, "server"), by_server=True, by_client=False)
        await followed(lambda: OTHER.issue().write(files.folder, "client"), by_server=False, by_client=True)
        await followed(lambda: replace(files.ca, OTHER.pem), by_server=True, by_client=True)
        load.stop()
    assert load.answered >= 2_000
