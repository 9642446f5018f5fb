"""The cache's process: `python -m services.cache`. Exit status as `services.chassis.process` says."""

from __future__ import annotations

import asyncio
import random
import sys
import time

from antiphon.cache.v1 import cache_pb2
from services.cache.adapters.control_store import StoredControl
from services.cache.adapters.disk_queue import DiskQueue, NoQueue
from services.cache.adapters.entry_store import StoredEntries
from services.cache.adapters.key_file import VARIABLE, Key, load_key
from services.cache.adapters.verifier_file import load_judge
from services.cache.adapting import Setup
from services.cache.cache import Cache
from services.cache.clock import Clock
from services.cache.comparing import AnswerComparer
from services.cache.decision import Judge
from services.cache.judges import VerifiedJudge
from services.cache.learning.namespaces import terms_of
from services.cache.metrics import CacheMetrics
from services.cache.outside import Limits, Outside
from services.cache.ports import WrongKey
from services.cache.room import Capacity
from services.cache.scope import verifier
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
from services.chassis.memory import memory_limit
from services.chassis.process import Process, run
from services.chassis.server import Server
from services.chassis.settings import SettingsError
from services.embedding import EmbedderIdentity, MicroBatcher, create_batcher
from services.storage import Connection, locate, read_api_key

QUEUE_FOLDER = "queue"
"""Below the state folder."""


async def main(settings: CacheSettings, process: Process) -> None:
    """Serve until the process is asked to stop; then write what waits for the store."""
    log = process.telemetry.log
    await asyncio.to_thread(read_api_key, settings)
    key = await asyncio.to_thread(load_key, settings)
    embedder = await _embedder(settings)
    judge = await asyncio.to_thread(
        load_judge,
        settings,
        embedder=embedder.identity.slug,
        min_similarity=embedder.default_min_similarity,
    )
    log.info("semantic hits are decided", by=judge.version, calibrated=judge.calibrated)
    clock = Clock(time.time, time.monotonic)
    connection = Connection(lambda: locate(settings), timeout=settings.store_timeout)
    copies = {
        "replication_factor": settings.replication_factor,
        "write_consistency_factor": settings.write_consistency_factor,
    }
    identity = embedder.identity
    entries = StoredEntries(connection, embedder=identity.slug, dim=identity.dim, now=clock.now, **copies)
    control = StoredControl(connection, now=clock.now, **copies)
    queue = await asyncio.to_thread(_queue, settings, identity, process)
    learning = _learning(settings, judge, embedder, control)
    log.info("thresholds are learned", mode=settings.learning if learning else "off")
    metrics = CacheMetrics(process.telemetry.registry)
    cache = Cache(
        _limits(settings),
        Outside(
            open_store=lambda: _open(settings, entries, control, key),
            store=entries,
            epochs=control,
            leases=control,
            queue=queue,
            embedder=embedder,
            embedder_slug=identity.slug,
            embedder_dim=identity.dim,
            judge=judge,
            key=key.secret,
            clock=clock,
            chance=random.random,
            report=lambda part, error: log.warning("a part failed", part=part, exc_info=error),
            learning=learning,
            heed=metrics.heard,
        ),
    )
    metrics.watch(cache, entries.skipped.total)
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
    servicer = CacheServicer(
        cache, metrics, embedder=identity.slug, version=judge.version, now=clock.now, monotonic=clock.monotonic
    )
    server.add(servicer, cache_pb2.DESCRIPTOR.services_by_name["CacheService"])
    try:
        await _warm(embedder, process)
        await server.start()
        await _serve(server, cache, process)
    finally:
        await cache.aclose()
        await embedder.aclose()
        await connection.aclose()
        await asyncio.to_thread(queue.close)


async def _serve(server: Server, cache: Cache, process: Process) -> None:
    async with asyncio.TaskGroup() as group:
        work = [
            group.create_task(cache.run()),
            group.create_task(_announce(server, cache, process)),
            group.create_task(_release(cache, process)),
        ]
        await server.serve()
        for task in work:
            task.cancel()


async def _announce(server: Server, cache: Cache, process: Process) -> None:
    """Say SERVING when everything stored is in memory."""
    await cache.recovery.ready.wait()
    process.telemetry.log.info("hydrated", entries=len(cache.entries))
    server.set_ready(True)


async def _release(cache: Cache, process: Process) -> None:
    """Tell those who wait to come again, elsewhere, rather than to hold up a server that stops."""
    await process.shutdown.requested.wait()
    cache.fills.dismiss()


async def _embedder(settings: CacheSettings) -> MicroBatcher:
    try:
        return await asyncio.to_thread(create_batcher, settings.embedding)
    except FailedPrecondition as error:
        raise SettingsError("ANTIPHON_EMBEDDING_EMBEDDER", error.message) from None


async def _warm(embedder: MicroBatcher, process: Process) -> None:
    try:
        await embedder.warm()
    except AntiphonError as error:  # the exact tier works without it, and lookups say when they had to bypass
        process.telemetry.log.warning("a part failed", part="embedder", exc_info=error)


async def _open(settings: CacheSettings, entries: StoredEntries, control: StoredControl, key: Key) -> None:
    """Make sure that collections and key are what this process needs; Unavailable if nobody can tell yet."""
    try:
        await control.check_key(verifier(key.secret), store_is_empty=await entries.is_empty())
    except WrongKey:
        key.withdraw()
        problem = "is not the key that the entries in the store were made with"
        raise SettingsError(VARIABLE, f"is missing, or {problem}" if key.made else problem) from None
    except FailedPrecondition as error:
        raise SettingsError(
            "ANTIPHON_QDRANT_URL" if settings.qdrant_url else "ANTIPHON_STATE_DIR", error.message
        ) from error


def _queue(settings: CacheSettings, identity: EmbedderIdentity, process: Process) -> DiskQueue | NoQueue:
    """Where what waits for the store outlives this process; without such a place, say so and go on."""
    try:
        return DiskQueue(settings.state_dir / QUEUE_FOLDER, embedder=identity.slug, dim=identity.dim)
    except OSError as error:
        process.telemetry.log.warning("a part failed", part="disk", exc_info=error)
        return NoQueue()


def _learning(settings: CacheSettings, judge: Judge, embedder: MicroBatcher, store: StoredControl) -> Setup | None:
    """How namespaces learn; None if they do not: it is switched off, or no verifier promises anything."""
    if settings.learning == "off" or not isinstance(judge, VerifiedJudge):
        return None
    comparer = AnswerComparer(embedder, judge)
    try:
        terms = terms_of(
            judge.presets,
            judge.error_rates,
            judge.preset,
            loosens=settings.learning == "adapt",
            comparer=comparer,
        )
    except ValueError as error:
        raise SettingsError("ANTIPHON_CACHE_LEARNING", f"cannot be on with this verifier: {error}") from None
    return Setup(terms, comparer, store, settings.audit_share)


def _affordable() -> int:
    """Bytes of a tenant's texts and vectors that fit where memory is limited: small entries take five times as much."""
    limit = memory_limit()
    return sys.maxsize if limit is None else limit // 5


def _limits(settings: CacheSettings) -> Limits:
    return Limits(
        ttl=settings.ttl,
        max_entry_bytes=settings.max_entry_bytes,
        capacity=Capacity(
            entries=settings.max_entries,
            tenant_entries=settings.max_tenant_entries,
            tenant_bytes=min(settings.max_tenant_bytes, _affordable()),
            namespace_entries=settings.max_namespace_entries,
            namespace_bytes=settings.max_namespace_bytes,
        ),
        decision_budget=settings.decision_budget,
        search_threads=settings.search_threads,
        lease=settings.lease,
        max_fills=settings.max_fills,
        max_unsaved=settings.max_unsaved,
        max_queue_bytes=settings.max_queue_bytes,
        stale=settings.max_stale,
        quarantine_users=settings.quarantine_users,
    )


if __name__ == "__main__":
    sys.exit(run(main, CacheSettings, SERVICE))
