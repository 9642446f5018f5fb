"""The completion service's process, which `python -m services.completion` starts."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass

from antiphon.completion.v1 import completion_pb2
from antiphon_client import AsyncCacheClient, AsyncRouterClient
from services.catalogue.catalogue import Catalogue, CatalogueError
from services.catalogue.tokens import TokenCounter
from services.catalogue.values import UpstreamKind
from services.chassis.auth.service_key import service_key
from services.chassis.errors import FailedPrecondition
from services.chassis.process import Process, run
from services.chassis.server import Server
from services.chassis.settings import SettingsError
from services.chassis.tls import client_tls
from services.completion.adapters.cache import GrpcCache
from services.completion.adapters.idempotency_store import StoredRecords
from services.completion.adapters.router import GrpcRouter
from services.completion.calling import Servers
from services.completion.service import CompletionService
from services.completion.servicer import CompletionServicer
from services.completion.settings import SERVICE, CompletionSettings
from services.completion.upstreams.factory import create
from services.storage import Connection, locate, read_api_key


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What is read from files at the start."""

    catalogue: Catalogue
    counter: TokenCounter
    servers: Servers


async def main(settings: CompletionSettings, process: Process) -> None:
    """Serve until the process is asked to stop; then finish what is under way and settle with the others."""
    loaded = await asyncio.to_thread(_load, settings)
    tls = await asyncio.to_thread(client_tls, settings)
    server = Server(
        SERVICE, settings, process, listen=settings.completion_listen, variable="ANTIPHON_COMPLETION_LISTEN"
    )
    async with AsyncExitStack() as stack:
        key = await stack.enter_async_context(service_key(settings, process.telemetry))
        cache = await stack.enter_async_context(AsyncCacheClient(settings.target("cache"), api_key=key, tls=tls))
        router = await stack.enter_async_context(AsyncRouterClient(settings.target("router"), api_key=key, tls=tls))
        connection = Connection(lambda: locate(settings), timeout=settings.store_timeout)
        stack.push_async_callback(connection.aclose)
        service = CompletionService(
            settings,
            process.telemetry,
            cache=GrpcCache(cache),
            router=GrpcRouter(router),
            catalogue=loaded.catalogue,
            counter=loaded.counter,
            servers=loaded.servers,
            spent=server.charge,
            records=StoredRecords(
                connection,
                replication_factor=settings.replication_factor,
                write_consistency_factor=settings.write_consistency_factor,
            ),
        )
        await stack.enter_async_context(service.running())
        server.add(
            CompletionServicer(
                service.fills,
                service.keys,
                service.feedback,
                service.resuming,
                lambda name, field: service.models.resolve(name, field=field),
                replaying=service.replaying,
                heartbeat=settings.heartbeat,
                pace=settings.replay_tokens_per_second,
            ),
            completion_pb2.DESCRIPTOR.services_by_name["CompletionService"],
        )
        await server.start()
        # Ready at once: without the cache or the router it answers all the same.
        server.set_ready(True)
        await server.serve()


def _load(settings: CompletionSettings) -> _Loaded:
    """Read every file that the settings name, so that a wrong one ends the process now and not at the first call."""
    read_api_key(settings)
    try:
        catalogue = Catalogue.load(settings.catalogue, os.environ)
        counter = TokenCounter.for_catalogue(catalogue)
        return _Loaded(catalogue, counter, _servers(catalogue, settings.offline.pace))
    except CatalogueError as error:
        raise SettingsError("ANTIPHON_CATALOGUE", str(error)) from None
    except FailedPrecondition as error:
        raise SettingsError("ANTIPHON_CATALOGUE", error.message) from None


def _servers(catalogue: Catalogue, offline_pace: float) -> Servers:
    """Make the upstreams of the models that are offered; one that nobody can be sent to may lack its key."""
    specs = {model.upstream: catalogue.upstream_of(model) for model in catalogue.models}
    upstreams = {name: create(spec, os.environ) for name, spec in specs.items()}
    paced = {
        name: create(spec, os.environ, offline_pace=offline_pace)
        for name, spec in specs.items()
        if spec.kind is UpstreamKind.OFFLINE and offline_pace > 0
    }
    return Servers(specs, upstreams, paced)


def start() -> int:
    """Serve; the result is the exit status."""
    return run(main, CompletionSettings, SERVICE)
