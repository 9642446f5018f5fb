"""One gRPC server of the suite: limits in both directions, health, reflection, metrics, run file, drain.

server = Server("cache", settings, process, listen=settings.cache_listen, variable="ANTIPHON_CACHE_LISTEN",
                limits={"waiters": 512, "leases": 64})
server.add(servicer, cache_pb2.DESCRIPTOR.services_by_name["CacheService"])
await server.start()          # reachable; health says NOT_SERVING
server.set_ready(True)
await server.serve()          # until the process is asked to stop; drains
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_reflection.v1alpha import reflection

from services.chassis import health, runfile
from services.chassis.auth.access import Access
from services.chassis.auth.configured import ConfiguredAccess
from services.chassis.auth.table import TABLE, Table
from services.chassis.door import Door
from services.chassis.handler import bind
from services.chassis.health_port import DEFAULT_LISTEN, HealthPort
from services.chassis.limits import Limits
from services.chassis.memory import Memory
from services.chassis.metrics_endpoint import MetricsEndpoint
from services.chassis.process import Process
from services.chassis.settings import SettingsError, SuiteSettings
from services.chassis.settings_model import dialable
from services.chassis.tls import ServerTls

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Of one message in either direction; gRPC's own default of 4 MiB is too small for batches with vectors."""

MAX_METADATA_BYTES = 16 * 1024
"""Of a call's metadata. Soft and hard limit are equal: between the two gRPC would refuse at random."""

SPARE_RPCS = 256
"""Calls over all places that are still looked at, so that the refusal is ours, with its reason and RetryInfo."""

MAX_PENDING = 20_000
"""Calls that gRPC has read and not yet handed over. Beyond its own default of 1,000 it cancels calls at random, so one
connection that opens and resets streams in a tight loop would cost the others theirs; a pending call takes a few KB."""

KEEPALIVE_MS = 30_000
KEEPALIVE_TIMEOUT_MS = 10_000
"""A vanished client is noticed within the sum of the two."""

MIN_PING_INTERVAL_MS = 10_000
"""Clients may ping this often even without calls; keepalive of clients must not be shorter."""


class Server:
    """A server for one or more services; use it from one event loop, once."""

    def __init__(
        self,
        name: str,
        settings: SuiteSettings,
        process: Process,
        *,
        listen: str,
        variable: str,
        limits: Mapping[str, int] | None = None,
        spared: Collection[str] = (),
        table: Table = TABLE,
        memory: Memory | None = None,
    ) -> None:
        """`listen` is `host:port`, `variable` the setting it came from; `limits` are places per group of methods.

        `spared`: groups whose calls are taken also when memory is short: they end what was begun. `table` says who may
        call what. `memory`: of this process, if not by its own cgroup.
        """
        self._name = name
        self._settings = settings
        self._process = process
        self._listen = listen
        self._variable = variable
        self._memory = Memory(process.telemetry) if memory is None else memory
        self._watching: asyncio.Task[None] | None = None
        self._limits = Limits(
            settings.max_concurrent_rpcs,
            {**health.PLACES, **(limits or {})},
            short=lambda: self._memory.short,
            spared={*health.PLACES, *spared},
        )
        self._services: list[str] = []
        self._metrics: MetricsEndpoint | None = None
        self._tls: ServerTls | None = None
        self._health_port: HealthPort | None = None
        self._door = Door()
        self._access = Access(table)
        self._credentials = ConfiguredAccess(self._access, settings, process.telemetry)
        self.health = health.Health()
        self.address = dialable(listen)
        """Where this server is reached from its own machine; final after `start`."""
        self.grpc = grpc.aio.server(
            options=_options(self._limits.total), maximum_concurrent_rpcs=self._limits.total + SPARE_RPCS
        )
        """The server underneath, for what is not made of servicers with marked methods."""
        self._bind(self.health, health.DESCRIPTOR, None)

    def add(self, servicer: object, descriptor: ServiceDescriptor) -> None:
        """Serve every method of the service; before `start`.

        `TypeError` if servicer and descriptor do not match, or if nothing says who may call a method.
        """
        self._bind(servicer, descriptor, self._access)
        self.health.add(descriptor.full_name)

    def set_ready(self, ready: bool) -> None:
        """Tell health checks whether to send work here."""
        if ready != self.health.ready:
            self.health.set_ready(ready)
            self._process.telemetry.log.info("ready" if self.health.ready else "not ready", address=self.address)

    def charge(self, key_id: str, tokens: int) -> None:
        """Count tokens that were bought for a caller against what its key may buy in a minute on this process."""
        self._access.charge(key_id, tokens)

    @property
    def metrics_address(self) -> str | None:
        """Where Prometheus finds this process, after `start`."""
        return self._metrics.address if self._metrics else None

    @property
    def health_address(self) -> str | None:
        """Where health alone is answered, in plaintext, after `start`; None if only `address` does."""
        return self._health_port.address if self._health_port else None

    async def start(self) -> None:
        """Read the credentials, listen and write the run file.

        `SettingsError` naming the setting of credentials that cannot be used or of an address that cannot be had.
        """
        await self._credentials.start(listen=self._listen, variable=self._variable, warn=not self._process.supervised)
        if self._settings.reflection:
            names = (*self._services, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self.grpc)
        host = self._listen.rpartition(":")[0]
        if self._settings.tls_cert_file is not None:
            self._tls = await asyncio.to_thread(ServerTls, self._settings, self._process.telemetry)
        try:
            if self._tls is not None:
                port = self.grpc.add_secure_port(self._listen, self._tls.credentials())
            else:
                port = self.grpc.add_insecure_port(self._listen)
        except RuntimeError:
            raise SettingsError(self._variable, "the address cannot be listened on; is it in use?") from None
        self.address = dialable(f"{host}:{port}")
        if self._settings.metrics_listen != "off":
            try:
                self._metrics = MetricsEndpoint(
                    self._process.telemetry.registry, self._settings.metrics_listen, tls=self._tls
                )
            except OSError:
                raise SettingsError(
                    "ANTIPHON_METRICS_LISTEN", "the address cannot be listened on; is it in use?"
                ) from None
        listen = self._settings.health_listen or (DEFAULT_LISTEN if self._tls else None)
        if listen is not None:
            self._health_port = HealthPort(self.health, self._process.telemetry, listen, _options(self._limits.total))
            await self._health_port.start()
        self._watching = asyncio.create_task(self._memory.watch(), name="memory")
        await self.grpc.start()
        try:
            runfile.write(
                self._settings.state_dir,
                self._name,
                address=self.address,
                metrics=_dialable(self.metrics_address),
                health=_dialable(self.health_address),
            )
        except OSError as error:
            raise SettingsError("ANTIPHON_STATE_DIR", f"cannot be written to ({type(error).__name__})") from None
        self._process.telemetry.log.info("listening", address=self.address, metrics=self.metrics_address)

    async def serve(self) -> None:
        """Until the process is asked to stop; then drain and stop."""
        try:
            await self._process.shutdown.wait()
            self.health.drain()
            await self._unless_forced(asyncio.sleep(self._settings.drain_delay))
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Report NOT_SERVING, take no more calls, let running ones finish for `drain_grace` seconds, close."""
        self.health.drain()
        try:
            await self._unless_forced(self._door.close())
            stopping = asyncio.create_task(self.grpc.stop(self._settings.drain_grace))
            await asyncio.sleep(0)  # gRPC announces the end in its first step
            self._door.open()
            self.health.close()
            await self._unless_forced(stopping)
            await self.grpc.stop(None)
        finally:
            if self._watching is not None:
                self._watching.cancel()
            await self._credentials.stop()
            runfile.remove(self._settings.state_dir, self._name)
            if self._metrics is not None:
                await asyncio.to_thread(self._metrics.close)
            if self._health_port is not None:
                await self._health_port.stop()
            if self._tls is not None:
                self._tls.close()
            self._process.telemetry.log.info("stopped")

    def _bind(self, servicer: object, descriptor: ServiceDescriptor, access: Access | None) -> None:
        bind(
            self.grpc,
            servicer,
            descriptor,
            telemetry=self._process.telemetry,
            limits=self._limits,
            door=self._door,
            access=access,
        )
        self._services.append(descriptor.full_name)

    async def _unless_forced(self, step: Coroutine[Any, Any, object] | asyncio.Task[object]) -> None:
        """Wait for a step of the drain; a second signal breaks the wait off."""
        waiting = asyncio.ensure_future(step)
        forced = asyncio.create_task(self._process.shutdown.forced.wait())
        try:
            await asyncio.wait({waiting, forced}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forced.cancel()
            if not waiting.done():
                waiting.cancel()
        if not waiting.cancelled() and waiting.done():
            waiting.result()


def _dialable(listen: str | None) -> str | None:
    return dialable(listen) if listen else None


def _options(places: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        # One connection may use all places: with fewer streams, waiting calls of a client would hold up its others.
        ("grpc.max_concurrent_streams", places + SPARE_RPCS),
        ("grpc.server.max_pending_requests", MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        # A ping has a timeout of its own, of a minute, and the later of the two counts.
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        # A second process on the same address is a mistake to be told, not a second listener.
        ("grpc.so_reuseport", 0),
    ]
