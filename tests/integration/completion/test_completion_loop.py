"""Nothing that the service does holds up its event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from antiphon.completion.v1 import completion_pb2
from antiphon_client import AsyncCacheClient, AsyncCompletionClient, AsyncRouterClient
from services.catalogue.catalogue import Catalogue
from services.catalogue.tokens import TokenCounter
from services.chassis.lifetime import Shutdown
from services.chassis.process import Process
from services.chassis.server import Server
from services.chassis.telemetry import Telemetry
from services.completion.adapters.cache import GrpcCache
from services.completion.adapters.router import GrpcRouter
from services.completion.calling import Servers
from services.completion.service import CompletionService
from services.completion.servicer import CompletionServicer
from services.completion.settings import SERVICE, CompletionSettings
from services.completion.upstreams.factory import create
from tests.fakes import behaviours
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.completion.conftest import NOWHERE

HELD_UP = 0.25
"""Seconds of one step of the loop that are too many; what is meant to block takes that long even on a fast machine."""

LONG = "word " * 400_000
"""2 MB: counting its tokens on the loop, parsing it twice or copying it piece by piece would show."""


@asynccontextmanager
async def serving(catalogue: str, state: Path) -> AsyncIterator[AsyncCompletionClient]:
    """The whole service in this process and loop, with neither cache nor router."""
    settings = CompletionSettings(
        state_dir=state, completion_listen="127.0.0.1:0", metrics_listen="off", drain_grace=0.0, log_sample=0.0
    )
    loaded = Catalogue.load(Path(catalogue), os.environ)
    telemetry = Telemetry(SERVICE, log_level="error")
    server = Server(
        SERVICE,
        settings,
        Process(SERVICE, telemetry, Shutdown()),
        listen=settings.completion_listen,
        variable="ANTIPHON_COMPLETION_LISTEN",
    )
    upstreams = {name: create(spec, os.environ) for name, spec in loaded.upstreams.items() if name == "fake"}
    async with AsyncCacheClient(NOWHERE) as cache, AsyncRouterClient(NOWHERE) as router:
        service = CompletionService(
            settings,
            telemetry,
            cache=GrpcCache(cache),
            router=GrpcRouter(router),
            catalogue=loaded,
            counter=TokenCounter.for_catalogue(loaded),
            servers=Servers(loaded.upstreams, upstreams),
        )
        async with service.running():
            server.add(
                CompletionServicer(service.fills, lambda name, field: service.models.resolve(name, field=field)),
                completion_pb2.DESCRIPTOR.services_by_name["CompletionService"],
            )
            await server.start()
            try:
                async with AsyncCompletionClient(server.address) as client:
                    yield client
            finally:
                await server.stop()
    telemetry.close()


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Log whatever holds up the loop."""
    caplog.set_level(logging.WARNING, "asyncio")
    return caplog


def _watch() -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = HELD_UP


def _slow(watched: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in watched.records if " took " in record.getMessage()]


async def test_the_watch_sees_what_blocks(watched: pytest.LogCaptureFixture) -> None:
    _watch()

    async def blocks() -> None:
        time.sleep(HELD_UP * 1.2)  # noqa: ASYNC251 -- this is what must be seen

    await asyncio.create_task(blocks())
    assert _slow(watched)


async def test_no_step_of_an_answer_blocks_the_loop(
    catalogue: str, upstream: FakeOpenAI, tmp_path: Path, watched: pytest.LogCaptureFixture
) -> None:
    async with serving(catalogue, tmp_path) as client:
        await client.complete("Warm up the imports and the connections.")
        _watch()
        upstream.default = behaviours.answering(*["word "] * 200, report_usage=False)
        await asyncio.gather(*(client.complete(f"Question {number % 10}?") for number in range(100)))
        upstream.default = behaviours.answering("x" * 400_000, report_usage=False)
        with pytest.raises(Exception, match="CONTEXT_TOO_LONG"):
            await client.complete(LONG * 2)
        async with client.stream("Say much!") as events:
            *_, last = [event async for event in events]
        asyncio.get_running_loop().set_debug(False)
    assert last.finished.info.usage.output_tokens >= 400_000 // 8
    assert _slow(watched) == []
