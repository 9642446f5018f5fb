"""Makes what belongs to one embedder, from the settings: the embedder, its judge, its collection, its cache."""

from __future__ import annotations

import asyncio
import random
import sys
from functools import partial

from services.cache.adapters.control_store import StoredControl
from services.cache.adapters.disk_queue import DiskQueue, NoQueue, open_left
from services.cache.adapters.entry_store import StoredEntries
from services.cache.adapters.key_file import VARIABLE, Key
from services.cache.adapters.verifier_file import load_judge
from services.cache.adapting import Setup
from services.cache.cache import Cache
from services.cache.clock import Clock
from services.cache.comparing import AnswerComparer
from services.cache.decision import Judge
from services.cache.feedback import Heed
from services.cache.judges import VerifiedJudge
from services.cache.learning.namespaces import terms_of
from services.cache.outside import Limits, Outside
from services.cache.ports import WrongKey
from services.cache.room import Capacity
from services.cache.rotation.plan import Choice, End, Plans, require_whole
from services.cache.rotation.sides import Side
from services.cache.rotation.workshop import Left, Opened
from services.cache.scope import Addresses, verifier
from services.cache.settings import CacheSettings
from services.cache.stats import Stats
from services.chassis.errors import AntiphonError, FailedPrecondition, InvalidRequest, Reason
from services.chassis.memory import memory_limit
from services.chassis.process import Process
from services.chassis.settings import SettingsError
from services.embedding import MicroBatcher, create_batcher
from services.embedding.settings import EmbeddingSettings
from services.storage import Connection

QUEUE_FOLDER = "queue"
"""Below the state folder; in it a folder for each embedder."""


class SettingsWorkshop:
    """A `Workshop` for one process."""

    def __init__(
        self,
        settings: CacheSettings,
        process: Process,
        *,
        key: Key,
        plans: Plans,
        connection: Connection,
        clock: Clock,
        heed: Heed,
    ) -> None:
        self._settings = settings
        self._log = process.telemetry.log
        self._key = key
        self._plans = plans
        self._connection = connection
        self._clock = clock
        self._heed = heed
        self._copies = {
            "replication_factor": settings.replication_factor,
            "write_consistency_factor": settings.write_consistency_factor,
        }

    def chosen(self) -> Choice:
        """The embedder that the settings name."""
        own = self._settings.embedding
        remote = own.embedder == "openai"
        return Choice(own.embedder, own.openai_model if remote else "", own.dim or 0 if remote else 0)

    def control(self, learned_under: str = "") -> StoredControl:
        """What is kept beside entries; `learned_under`: the embedder whose thresholds are."""
        return StoredControl(self._connection, now=self._clock.now, learned_under=learned_under, **self._copies)

    async def embedder(self, choice: Choice) -> Opened:
        """See `Workshop`. Raises FailedPrecondition, too, if the settings' verifier is for another one."""
        batcher = await self._opened(choice)
        try:
            await batcher.warm()
            end = _end(choice, batcher)
            await self._judge(end, batcher)
        except SettingsError as error:
            await batcher.aclose()
            raise FailedPrecondition(str(error), reason=Reason.EMBEDDER_MISMATCH) from None
        except BaseException:
            await batcher.aclose()
            raise
        return Opened(end, batcher, batcher.aclose)

    async def side(self, choice: Choice, stats: Stats | None) -> Side:
        """See `Workshop`. Raises SettingsError for a verifier that does not fit; an embedder that is down will do."""
        batcher = await self._opened(choice)
        try:
            await batcher.warm()
        except AntiphonError as error:  # the exact tier works without it, and lookups say when they had to bypass
            self._failed("embedder", error)
        try:
            return await self._side(_end(choice, batcher), batcher, stats)
        except BaseException:
            await batcher.aclose()
            raise

    def store(self, end: End) -> StoredEntries:
        """See `Workshop`."""
        return StoredEntries(self._connection, embedder=end.slug, dim=end.dim, now=self._clock.now, **self._copies)

    def addresses(self, end: End) -> Addresses:
        """See `Workshop`."""
        return Addresses(self._key.secret, embedder=end.slug, longest=self._settings.max_entry_bytes)

    async def left(self) -> list[Left]:
        """See `Workshop`. Raises OSError."""
        found = await asyncio.to_thread(open_left, self._settings.state_dir / QUEUE_FOLDER)
        return [self._left(slug, queue) for slug, queue in found]

    def _left(self, slug: str, queue: DiskQueue) -> Left:
        addresses = Addresses(self._key.secret, embedder=slug, longest=self._settings.max_entry_bytes)
        return Left(slug, queue, addresses, partial(asyncio.to_thread, queue.close))

    async def _opened(self, choice: Choice) -> MicroBatcher:
        settings = self._settings.embedding
        if choice != self.chosen():
            changed: dict[str, object] = {"embedder": choice.embedder, "dim": choice.dim or None}
            if choice.model:
                changed["openai_model"] = choice.model
            settings = _validated(settings, changed)
        return await asyncio.to_thread(create_batcher, settings)

    async def _side(self, end: End, batcher: MicroBatcher, stats: Stats | None) -> Side:
        settings = self._settings
        judge = await self._judge(end, batcher)
        self._log.info("semantic hits are decided", by=judge.version, calibrated=judge.calibrated, embedder=end.slug)
        entries, control = self.store(end), self.control(end.slug)
        queue = await asyncio.to_thread(self._queue, end)
        learning = _learning(settings, judge, batcher, control)
        self._log.info("thresholds are learned", mode=settings.learning if learning else "off")
        cache = Cache(
            limits_of(settings),
            Outside(
                open_store=lambda: self._open(end, entries, control),
                store=entries,
                epochs=control,
                leases=control,
                queue=queue,
                embedder=batcher,
                embedder_slug=end.slug,
                embedder_dim=end.dim,
                judge=judge,
                key=self._key.secret,
                clock=self._clock,
                chance=random.random,
                report=self._failed,
                learning=learning,
                heed=self._heed,
            ),
            stats=stats,
        )

        async def aclose() -> None:
            try:
                await cache.aclose()
            finally:
                await batcher.aclose()
                await asyncio.to_thread(queue.close)

        return Side(end, cache, entries, judge.version, entries.skipped.total, aclose)

    async def _judge(self, end: End, batcher: MicroBatcher) -> Judge:
        least = batcher.default_min_similarity
        return await asyncio.to_thread(load_judge, self._settings, embedder=end.slug, min_similarity=least)

    async def _open(self, end: End, entries: StoredEntries, control: StoredControl) -> None:
        """Make sure that collections and key are what this process needs; Unavailable if nobody can tell yet."""
        settings, key = self._settings, self._key
        await require_whole(self._plans, end.slug)
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

    def _queue(self, end: End) -> DiskQueue | NoQueue:
        """Where what waits for the store outlives this process; without such a place, say so and go on."""
        try:
            return DiskQueue(self._settings.state_dir / QUEUE_FOLDER / end.slug, embedder=end.slug, dim=end.dim)
        except OSError as error:
            self._failed("disk", error)
            return NoQueue()

    def _failed(self, part: str, error: BaseException) -> None:
        self._log.warning("a part failed", part=part, exc_info=error)


def _validated(settings: EmbeddingSettings, changed: dict[str, object]) -> EmbeddingSettings:
    try:
        return EmbeddingSettings.model_validate({**settings.model_dump(), **changed})
    except ValueError:
        raise InvalidRequest("to.embedder: names no embedder", field="to.embedder") from None


def _end(choice: Choice, batcher: MicroBatcher) -> End:
    return End(choice, batcher.identity.slug, batcher.identity.dim)


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


TEXTS_SHARE = 5
"""Of limited memory one part is for a tenant's texts and vectors: small entries take five times as much."""

HOT_SHARE = 4
"""One part for the bodies of answers."""


def _affordable(share: int) -> int:
    """Bytes that are one part of so many, where memory is limited."""
    limit = memory_limit()
    return sys.maxsize if limit is None else limit // share


def limits_of(settings: CacheSettings) -> Limits:
    """What the operator set."""
    return Limits(
        ttl=settings.ttl,
        max_entry_bytes=settings.max_entry_bytes,
        capacity=Capacity(
            entries=settings.max_entries,
            tenant_entries=settings.max_tenant_entries,
            tenant_bytes=min(settings.max_tenant_bytes, _affordable(TEXTS_SHARE)),
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
        hot_bytes=min(settings.hot_bytes, _affordable(HOT_SHARE)),
    )
