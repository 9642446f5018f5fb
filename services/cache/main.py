"""The cache's process, which `python -m services.cache` starts."""

from __future__ import annotations

import asyncio
import time

from antiphon.cache.v1 import cache_pb2
from services.cache.adapters.key_file import load_key
from services.cache.adapters.plan_store import StoredPlans
from services.cache.adapters.workshop import SettingsWorkshop
from services.cache.clock import Clock
from services.cache.metrics import CacheMetrics
from services.cache.rotation.plan import Choice, End
from services.cache.rotation.rotating import Rotating
from services.cache.rotation.sides import Side, Sides
from services.cache.servicer import (
    LEASE_PLACES,
    LEASES,
    OPERATING,
    OPERATING_PLACES,
    TRANSFER_PLACES,
    TRANSFERS,
    WAITERS,
    CacheServicer,
)
from services.cache.settings import SERVICE, CacheSettings
from services.chassis.errors import AntiphonError, FailedPrecondition
from services.chassis.process import Process, run
from services.chassis.server import Server
from services.chassis.settings import SettingsError
from services.storage import Connection, locate, read_api_key

EMBEDDER = "embedder"
"""In health checks: NOT_SERVING where another embedder answers than serves by a change."""


async def main(settings: CacheSettings, process: Process) -> None:
    """Serve until the process is asked to stop; then write what waits for the store."""
    log = process.telemetry.log
    await asyncio.to_thread(read_api_key, settings)
    key = await asyncio.to_thread(load_key, settings)
    clock = Clock(time.time, time.monotonic)
    connection = Connection(lambda: locate(settings), timeout=settings.store_timeout)
    metrics = CacheMetrics(process.telemetry.registry)
    plans = StoredPlans(
        connection,
        replication_factor=settings.replication_factor,
        write_consistency_factor=settings.write_consistency_factor,
    )
    workshop = SettingsWorkshop(
        settings, process, key=key, plans=plans, connection=connection, clock=clock, heed=metrics.heard
    )
    control = workshop.control()
    sides = Sides(await _first(workshop, plans, process))
    rotating = Rotating(
        sides,
        plans=plans,
        collections=plans,
        epochs=control,
        leases=control,
        workshop=workshop,
        clock=clock,
        stale=settings.max_stale,
        report=lambda error: log.warning("a part failed", part="reembedding", exc_info=error),
        changed=lambda end: log.warning("another embedder answers, by a change", **_told(end)),
        stands=lambda otherwise: server.health.set_wrong(EMBEDDER, otherwise),
    )
    metrics.watch(sides, lambda: rotating.plan)
    server = Server(
        SERVICE,
        settings,
        process,
        listen=settings.cache_listen,
        variable="ANTIPHON_CACHE_LISTEN",
        limits={
            WAITERS: settings.max_waiters,
            LEASES: LEASE_PLACES,
            TRANSFERS: TRANSFER_PLACES,
            OPERATING: OPERATING_PLACES,
        },
        spared={LEASES, OPERATING},  # what was bought is stored, or given back, and memory can be freed
    )
    server.health.set_wrong(EMBEDDER, False)
    servicer = CacheServicer(sides, rotating, metrics, now=clock.now, monotonic=clock.monotonic)
    server.add(servicer, cache_pb2.DESCRIPTOR.services_by_name["CacheService"])
    try:
        await server.start()
        await _serve(server, sides, rotating, process)
    finally:
        await rotating.aclose()
        await connection.aclose()


async def _first(workshop: SettingsWorkshop, plans: StoredPlans, process: Process) -> Side:
    """The cache over the embedder that serves: that of the settings, or by a change the one before it or after it."""
    chosen = workshop.chosen()
    side = await _side(workshop, chosen)
    other = await _otherwise(side, plans)
    if other is None:
        return side
    log = process.telemetry.log
    try:
        served = await workshop.side(other.choice, None)
    except AntiphonError as error:
        log.warning("a part failed", part="reembedding", exc_info=error)
        return side
    await side.aclose()
    if served.end.slug != other.slug:
        await served.aclose()
        problem = f"makes another embedder ({served.end.slug}) of the one that serves by a change ({other.slug})"
        raise SettingsError("ANTIPHON_EMBEDDING_EMBEDDER", problem)
    log.warning("another embedder serves than the settings name, by a change", **_told(other))
    return served


def _told(end: End) -> dict[str, str]:
    return {"serves": end.choice.embedder, "model": end.choice.model}


async def _side(workshop: SettingsWorkshop, choice: Choice) -> Side:
    try:
        return await workshop.side(choice, None)
    except FailedPrecondition as error:
        raise SettingsError("ANTIPHON_EMBEDDING_EMBEDDER", error.message) from None


async def _otherwise(side: Side, plans: StoredPlans) -> End | None:
    """The embedder that a change lets serve in the place of this one; while the store is down nobody knows of one."""
    try:
        plan = await plans.load_plan()
    except AntiphonError:
        return None
    return None if plan is None else plan.instead_of(side.end.slug)


async def _serve(server: Server, sides: Sides, rotating: Rotating, process: Process) -> None:
    async with asyncio.TaskGroup() as group:
        work = [
            group.create_task(rotating.run()),
            group.create_task(_announce(server, rotating, process)),
            group.create_task(_release(sides, process)),
        ]
        await server.serve()
        for task in work:
            task.cancel()


async def _announce(server: Server, rotating: Rotating, process: Process) -> None:
    """Say SERVING when everything stored is in memory."""
    await rotating.ready()
    process.telemetry.log.info("hydrated", entries=len(rotating.sides.cache.entries))
    server.set_ready(True)


async def _release(sides: Sides, process: Process) -> None:
    """Tell those who wait to come again, elsewhere, rather than to hold up a server that stops."""
    await process.shutdown.requested.wait()
    sides.dismiss()


def start() -> int:
    """Serve; the result is the exit status."""
    return run(main, CacheSettings, SERVICE)
