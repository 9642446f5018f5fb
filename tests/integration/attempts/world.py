"""The completion service over loopback gRPC, with two real HTTP servers for its models, and the cache in memory.

`small` is at `primary`, `large` at `fallback`; the router ranks them so.
"""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from antiphon.completion.v1 import completion_pb2
from antiphon_client import AntiphonError, AsyncCompletionClient
from services.catalogue.catalogue import Catalogue
from services.catalogue.tokens import TokenCounter
from services.chassis.handler import bind
from services.chassis.limits import Limits
from services.chassis.telemetry import Telemetry
from services.completion.calling import Servers
from services.completion.service import CompletionService, Timing
from services.completion.servicer import CompletionServicer
from services.completion.settings import CompletionSettings
from services.completion.upstreams.factory import create
from tests.fakes.openai_server import FakeOpenAI
from tests.unit.completion.completion_parts import MemoryCache, MemoryRecords, MemoryRouter, until

KEY = "sk-test-SECRET"

CATALOGUE = """
include_default = false

[upstreams.primary]
kind = "openai"
base_url = "{primary}"
api_key_env = "KEY"
{timeouts}

[upstreams.fallback]
kind = "openai"
base_url = "{fallback}"
api_key_env = "KEY"
{fallback_timeouts}

[models.small]
upstream = "primary"
context_tokens = 4_000
max_output_tokens = 2_000
capabilities = ["streaming"]
prices = {{ input = "1", output = "2", date = 2026-01-01 }}
latency = {{ first_token_seconds = 0.1, tokens_per_second = 100 }}
quality = {{ tier = "simple" }}

[models.large]
upstream = "fallback"
context_tokens = {large_context}
max_output_tokens = 2_000
capabilities = ["streaming"]
prices = {{ input = "10", output = "20", date = 2026-01-01 }}
latency = {{ first_token_seconds = 0.1, tokens_per_second = 100 }}
quality = {{ tier = "complex" }}
"""

TIMEOUTS = {
    "no_token": "first_token_timeout_seconds = 0.5",
    "no_headers": "first_token_timeout_seconds = 0.5",
    "stall": "idle_timeout_seconds = 0.5",
}
"""Of the primary, for faults of servers that never come back; tests of these wait for no other time to pass."""


@dataclass
class World:
    """Everything that runs."""

    primary: FakeOpenAI
    fallback: FakeOpenAI
    service: CompletionService
    cache: MemoryCache
    router: MemoryRouter
    client: AsyncCompletionClient
    telemetry: Telemetry
    address: str

    async def complete(self, prompt: str = "Why?", **fields: object) -> completion_pb2.CompleteResponse:
        request = completion_pb2.CompleteRequest(prompt=prompt, **fields)  # type: ignore[arg-type]
        return await self.client.complete(request, timeout=30)

    async def stream(
        self, prompt: str = "Why?", *, timeout: float = 30, **fields: object
    ) -> tuple[list[completion_pb2.StreamCompleteResponse], AntiphonError | None]:
        """Return the events of a stream and the error that it ended with."""
        request = completion_pb2.CompleteRequest(prompt=prompt, **fields)  # type: ignore[arg-type]
        events: list[completion_pb2.StreamCompleteResponse] = []
        try:
            async with self.client.stream(request, timeout=timeout) as stream:
                async for event in stream:
                    events.append(event)  # noqa: PERF401 - what came before the error is wanted
        except AntiphonError as error:
            return events, error
        return events, None

    async def settled(self) -> None:
        """Wait until nothing goes on behind the callers' backs."""
        await until(lambda: not len(self.service.fills))
        await until(lambda: not len(self.service.storing) and not len(self.service.reporting))

    def happened(self, event: str, *, upstream: str = "primary", model: str = "small") -> float:
        """How often it has."""
        labels = {"upstream": upstream, "model": model, "event": event}
        return self.telemetry.registry.get_sample_value("antiphon_completion_upstream_events_total", labels) or 0.0


@asynccontextmanager
async def world(
    *,
    timeouts: str = "",
    fallback_timeouts: str = "",
    large_context: int = 8_000,
    primary_url: str = "",
    timing: Timing | None = None,
    places: int = 4_000,
    **settings: object,
) -> AsyncIterator[World]:
    """Run it; `settings` are the completion service's, `timeouts` lines of an upstream's table."""
    async with AsyncExitStack() as stack:
        primary = await stack.enter_async_context(FakeOpenAI.start(api_key=KEY))
        fallback = await stack.enter_async_context(FakeOpenAI.start(api_key=KEY))
        text = CATALOGUE.format(
            primary=primary_url or primary.base_url,
            fallback=fallback.base_url,
            timeouts=timeouts,
            fallback_timeouts=fallback_timeouts,
            large_context=large_context,
        )
        environ = {"KEY": KEY}
        catalogue = Catalogue.parse(text, environ, folder=Path())
        telemetry = Telemetry("completion", log_sample=0.0, stream=io.BytesIO())
        stack.callback(telemetry.close)
        cache, router = MemoryCache(), MemoryRouter()
        parsed = CompletionSettings.model_validate({"lookup_timeout": 5.0, "settle_time": 1.0, **settings})
        service = CompletionService(
            parsed,
            telemetry,
            cache=cache,
            router=router,
            catalogue=catalogue,
            counter=TokenCounter.for_catalogue(catalogue),
            servers=Servers(
                catalogue.upstreams, {name: create(spec, environ) for name, spec in catalogue.upstreams.items()}
            ),
            records=MemoryRecords(),
            timing=timing or Timing(rng=random.Random(1)),
        )
        await stack.enter_async_context(service.running())
        server = grpc.aio.server()
        servicer = CompletionServicer(
            service.fills,
            service.keys,
            service.feedback,
            service.resuming,
            lambda name, field: service.models.resolve(name, field=field),
            replaying=service.replaying,
            heartbeat=15.0,
            pace=parsed.replay_tokens_per_second,
        )
        descriptor = completion_pb2.DESCRIPTOR.services_by_name["CompletionService"]
        bind(server, servicer, descriptor, telemetry=telemetry, limits=Limits(places))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        client = await stack.enter_async_context(AsyncCompletionClient(f"127.0.0.1:{port}"))
        yield World(primary, fallback, service, cache, router, client, telemetry, f"127.0.0.1:{port}")


def text(events: list[completion_pb2.StreamCompleteResponse]) -> str:
    """All that was delivered."""
    return "".join(event.delta.text for event in events)
