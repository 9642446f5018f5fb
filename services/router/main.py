"""The router's process, which `python -m services.router` starts."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor

from antiphon.router.v1 import router_pb2
from services.catalogue.catalogue import Catalogue, CatalogueError
from services.catalogue.decision_ids import new_id
from services.catalogue.tokens import TokenCounter
from services.chassis.process import Process, run
from services.chassis.server import Server
from services.chassis.settings import SettingsError
from services.router.adapters.outcome_store import QdrantOutcomeStore
from services.router.complexity import ComplexityModel
from services.router.decisions import DecisionLog
from services.router.metrics import RouterMetrics
from services.router.outcomes import OutcomeLog, OutcomeWriter, WriterLimits
from services.router.policies.keywords import KeywordPolicy
from services.router.policies.static import StaticPolicy
from services.router.router import Router
from services.router.servicer import RouterServicer
from services.router.settings import SERVICE, RouterSettings
from services.storage import Connection, locate, read_api_key

LAST_WRITE_SECONDS = 3.0
"""What the last reports get, at the end, to reach the store."""


async def main(settings: RouterSettings, process: Process) -> None:
    """Serve until the process is asked to stop."""
    catalogue, counter = await asyncio.to_thread(_load, settings)
    policies = {policy.name: policy for policy in (StaticPolicy(ComplexityModel.packaged()), KeywordPolicy())}
    router = Router(catalogue, counter, policies, settings.policy, new_id)
    metrics = RouterMetrics(process.telemetry.registry, process.telemetry.log, [m.name for m in catalogue.models])
    connection = Connection(lambda: locate(settings), timeout=settings.store_timeout)
    store = QdrantOutcomeStore(connection)
    writer = OutcomeWriter(
        store,
        metrics,
        WriterLimits(queue=settings.outcome_queue, delay=settings.outcome_delay, retention=settings.outcome_retention),
        now=time.time,
        monotonic=time.monotonic,
    )
    decisions = DecisionLog(settings.remembered_decisions)
    outcomes = OutcomeLog(decisions, writer, metrics, remembered=settings.remembered_outcomes, now=time.time)
    server = Server(SERVICE, settings, process, listen=settings.router_listen, variable="ANTIPHON_ROUTER_LISTEN")
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="route") as executor:
        server.add(
            RouterServicer(router, decisions, outcomes, metrics, executor),
            router_pb2.DESCRIPTOR.services_by_name["RouterService"],
        )
        try:
            await server.start()
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(writer.run())
                server.set_ready(True)
                await server.serve()
                writing.cancel()
            await writer.drain(LAST_WRITE_SECONDS)
        finally:
            await connection.aclose()


def _load(settings: RouterSettings) -> tuple[Catalogue, TokenCounter]:
    """Read every file that the settings name, so that a wrong one ends the process now and not at the first call."""
    read_api_key(settings)
    try:
        catalogue = Catalogue.load(settings.catalogue, os.environ)
        return catalogue, TokenCounter.for_catalogue(catalogue)
    except CatalogueError as error:
        raise SettingsError("ANTIPHON_CATALOGUE", str(error)) from None


def start() -> int:
    """Serve; the result is the exit status."""
    return run(main, RouterSettings, SERVICE)
