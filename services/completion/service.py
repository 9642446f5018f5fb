"""All parts of the completion service, put together around the cache and the router that it is given."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from services.catalogue.catalogue import Catalogue
from services.catalogue.tokens import TokenCounter
from services.chassis.telemetry import Telemetry
from services.completion.accounting import Accounting, Spent
from services.completion.auditing import Auditing
from services.completion.background import Background
from services.completion.caching import LookupBudget
from services.completion.calling import Attempts, Caller, Servers
from services.completion.estimating import Estimator
from services.completion.feedback import Feedback
from services.completion.fills import Fills, Pace
from services.completion.idempotency.keys import Keys
from services.completion.idempotency.ports import Records
from services.completion.idempotency.records import Terms
from services.completion.metrics import Metrics
from services.completion.models import ModelBook
from services.completion.pipeline import Pipeline, Timeouts
from services.completion.ports import Cache, Router
from services.completion.reporting import Reporting
from services.completion.resilience.adaptive_limit import LimitTerms
from services.completion.resilience.breaker import BreakerTerms
from services.completion.resilience.policy import AttemptPolicy
from services.completion.resilience.targets import Event, Targets, TargetTerms
from services.completion.resuming import Resuming
from services.completion.settings import CompletionSettings
from services.completion.storing import Storing
from services.completion.streaming.replaying import Replaying
from services.completion.surroundings import StoreHealth, Surroundings


@dataclass(frozen=True, slots=True)
class Timing:
    """The clock and the chance by which calls of models are planned."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    rng: random.Random = field(default_factory=random.Random)


class WatchedCache(Cache, StoreHealth, Protocol):
    """A cache that can be asked about its store."""


class CompletionService:
    """The domain of one process. Use it within `running()`."""

    def __init__(
        self,
        settings: CompletionSettings,
        telemetry: Telemetry,
        *,
        cache: WatchedCache,
        router: Router,
        catalogue: Catalogue,
        counter: TokenCounter,
        servers: Servers,
        records: Records,
        spent: Spent = lambda _key_id, _tokens: None,
        timing: Timing = Timing(),
    ) -> None:
        """`spent` is told of every call of a model for whose key it was and how many tokens it took."""
        self._settle_time = settings.settle_time
        self._servers = servers
        self._log = telemetry.log
        # One thread: what it does is rare and short, and must only not hold up the loop.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokens")
        self._background = Background(self._failed)
        metrics = Metrics(telemetry.registry)
        self.models = ModelBook(catalogue, counter)
        self.storing = Storing(cache, metrics, self._failed)
        self.reporting = Reporting(router, metrics)
        self._metrics = metrics
        self.surroundings = Surroundings(cache, router, self.models, refresh=settings.catalogue_refresh)
        targets = Targets(_terms(settings), rng=timing.rng, monotonic=timing.monotonic, happened=self._happened)
        calling = partial(
            Caller,
            servers,
            self.models,
            Attempts(
                targets,
                self._happened,
                policy=AttemptPolicy(tries=settings.tries, continues=settings.continue_elsewhere),
                patience=settings.retry_wait,
                rng=timing.rng,
                sleep=timing.sleep,
            ),
            monotonic=timing.monotonic,
        )
        accounting = Accounting(Estimator(counter, self._executor), self.reporting, self._background, metrics, spent)
        caller = calling(accounting)
        self.auditing = Auditing(
            cache,
            router,
            calling(replace(accounting, spent=lambda _key_id, _tokens: None)),
            storing=self.storing,
            metrics=metrics,
            failed=self._failed,
            waiting=settings.audits_waiting,
            answer_limit=settings.answer_limit,
            busy=lambda: len(self.fills) >= settings.audits_below,
        )
        pipeline = Pipeline(
            cache,
            router,
            self.models,
            caller,
            self.storing,
            auditing=self.auditing,
            background=self._background,
            executor=self._executor,
            timeouts=Timeouts(
                LookupBudget(settings.lookup_timeout, settings.embedding_timeout, settings.embedding_timeout_max),
                settings.route_timeout,
            ),
            metrics=metrics,
            surroundings=self.surroundings.degraded,
        )
        self.replaying = Replaying(settings.coalesce_time, timing.sleep, timing.monotonic)
        self.fills = Fills(
            pipeline.make,
            answer_limit=settings.answer_limit,
            longest=settings.fill_limit,
            joined=metrics.requested,
            pace=Pace(
                settings.coalesce_time, settings.coalesce_bytes, settings.reader_backlog, settings.reader_patience
            ),
            replaying=self.replaying,
        )
        self.resuming: Resuming[Any] = Resuming(self._background, keep=settings.resume_time, room=settings.resume_bytes)
        self.feedback = Feedback(
            cache, self.reporting, metrics, most=settings.feedback_answers, keep=settings.feedback_keep
        )
        self.keys = Keys(
            records,
            self.fills,
            Terms(lease=settings.idempotency_lease, keep=settings.idempotency_keep),
            longest=settings.fill_limit,
            background=self._background,
            happened=metrics.key_happened,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run what goes on beside the calls; at the end settle what is open with the cache and the router."""
        try:
            async with asyncio.TaskGroup() as group:
                loops = [
                    group.create_task(work)
                    for work in (
                        self.storing.run(),
                        self.reporting.run(),
                        self.surroundings.watch_store(),
                        self.surroundings.watch_catalogue(),
                        self.keys.purge(),
                    )
                ]
                audits = group.create_task(self.auditing.run())
                try:
                    yield
                finally:
                    # First: nobody waits for them, and what they leave to be told has to be settled as well.
                    audits.cancel()
                    await asyncio.wait({audits})
                    await self._settle()
                    for loop in loops:
                        loop.cancel()
        finally:
            await self._servers.aclose()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _settle(self) -> None:
        self.resuming.close()
        await self.keys.settle(self._settle_time)
        await self.fills.close()
        await self._background.drain(self._settle_time)
        await asyncio.gather(self.storing.drain(self._settle_time), self.reporting.drain(self._settle_time))

    def _happened(self, upstream: str, model: str, event: Event) -> None:
        self._metrics.targets.labels(upstream, model, event.value).inc()
        if event is Event.BARRED:
            # Nothing but a person can mend it.
            self._log.error("upstream refuses our key or account", upstream=upstream, model=model)
        elif event in {Event.OPENED, Event.CLOSED}:
            self._log.warning("breaker", upstream=upstream, model=model, change=event.value)

    def _failed(self, work: str, error: BaseException) -> None:
        self._log.error("background work failed", work=work, exc_info=error)


def _terms(settings: CompletionSettings) -> TargetTerms:
    return TargetTerms(
        retry_share=settings.retry_share,
        cooldown=settings.cooldown,
        longest_queue=settings.queue_wait,
        breaker=BreakerTerms(settings.breaker_failures, settings.breaker_open, settings.breaker_open_max),
        limit=LimitTerms(settings.concurrency_start, settings.concurrency_max),
    )
