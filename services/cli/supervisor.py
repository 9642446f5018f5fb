"""The whole suite as children of one process: store, cache, router, completion."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from antiphon_client.channel import OPTIONS
from services.chassis import runfile
from services.chassis.settings import SuiteSettings
from services.cli.children import Child, ConfigurationError, Report, parent_pipe

STAGE_SECONDS = 15.0
"""How long the next stage waits for one that does not serve; a cache that reads a large store takes longer."""

PROBE_SECONDS = 1.0
"""How long a health check may take."""

GRACE_MARGIN = 5.0
"""Seconds that a child gets on top of its own drain before it is killed."""

STORE = "edgestore"
STAGES = (("cache", "router"), ("completion",))
"""In the order of starting: the next begins when all of one serve, so that it finds them at once. Stopped the other way
round, so that nobody loses what it still needs."""


async def healthy(address: str) -> bool:
    """Whether the server at `address` says that it is ready for work (`grpc.health.v1`, service `readiness`)."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service="readiness"), timeout=PROBE_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def listed(_address: str) -> bool:
    """Whether the embedded store serves: it writes its run file when it does."""
    return True


class Suite:
    """Runs the processes of the suite until it is told to stop."""

    def __init__(self, settings: SuiteSettings, environ: Mapping[str, str], report: Report) -> None:
        self._settings = settings
        self._state_dir = settings.state_dir.absolute()
        self._read_end, self._write_end = parent_pipe()
        self._environ = {**environ, "ANTIPHON_STATE_DIR": str(self._state_dir)}
        if "log_level" not in settings.model_fields_set:
            # A person reads the terminal: state changes stand there already, so only trouble joins them.
            self._environ["ANTIPHON_LOG_LEVEL"] = "warning"
        self._report = report
        self._store = None if settings.qdrant_url else self._child(STORE, listed)
        self._stages = [[self._child(name, healthy) for name in stage] for stage in STAGES]
        self._services = [child for stage in self._stages for child in stage]

    async def run(self, serving: Callable[[Mapping[str, str]], Awaitable[None]], stop: asyncio.Event) -> bool:
        """Run until `stop` is set, or until `serving`, called once with all addresses, sets it.

        Returns whether every process ended by itself. Raises `ConfigurationError`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self._start(group, serving))
                await self._stopped_or_failed(stop, running)
                clean = await self.stop()
        except BaseExceptionGroup as failed:
            await self.stop()
            wrong, rest = failed.split(ConfigurationError)
            if wrong is None:
                raise
            if rest is not None:
                raise rest from None
            raise ConfigurationError from None
        finally:
            self.kill()
            os.close(self._write_end)
            os.close(self._read_end)
        return clean

    async def stop(self) -> bool:
        """Stop the processes in order: nobody loses what it still needs."""
        grace = self._settings.drain_delay + self._settings.drain_grace + GRACE_MARGIN
        clean = [await child.stop(grace) for child in reversed(self._services)]
        if self._store is not None:
            clean.append(await self._store.stop(grace))
        return all(clean)

    def kill(self) -> None:
        """End every process at once."""
        for child in (*self._services, *([self._store] if self._store else [])):
            child.kill()

    async def _stopped_or_failed(self, stop: asyncio.Event, running: asyncio.Task[None]) -> None:
        waiting = asyncio.create_task(stop.wait())
        try:
            await waiting
        finally:
            waiting.cancel()
            running.cancel()
            await asyncio.wait({running})

    async def _start(self, group: asyncio.TaskGroup, serving: Callable[[Mapping[str, str]], Awaitable[None]]) -> None:
        if self._store is not None:
            group.create_task(self._store.run())
            await self._store.serving.wait()
            # Whoever is connected finds a restarted store where it was.
            self._store.environ = {**self._store.environ, "ANTIPHON_EDGESTORE_LISTEN": self._store.address}
        for stage in self._stages:
            for child in stage:
                group.create_task(child.run())
            # Who cannot start must not keep the others from serving without it.
            with suppress(TimeoutError):
                async with asyncio.timeout(STAGE_SECONDS):
                    for child in stage:
                        await child.serving.wait()
            self._hold_ports(stage)
        for child in self._services:
            await child.serving.wait()
        await serving({child.name: child.address for child in self._services})

    def _hold_ports(self, stage: list[Child]) -> None:
        """Tell all which free ports were taken: the next stage calls them, and who is restarted takes its own again."""
        taken = {
            f"ANTIPHON_{child.name.upper()}_LISTEN": child.address
            for child in stage
            if child.address and getattr(self._settings, f"{child.name}_listen").endswith(":0")
        }
        for child in self._services:
            child.environ = {**child.environ, **taken}

    def _child(self, name: str, probe: Callable[[str], Awaitable[bool]]) -> Child:
        # A file left by a killed process would point the others to an address that nobody has.
        runfile.path(self._state_dir, name).unlink(missing_ok=True)
        return Child(name, f"services.{name}", self._environ, self._state_dir, self._read_end, self._report, probe)


def lock_path(state_dir: Path) -> Path:
    """The file that the one `antiphon up` of a state folder holds locked."""
    return state_dir / "up.lock"
