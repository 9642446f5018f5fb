"""What `GetStats` tells: sizes as they are now, with what has been counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from services.cache.adapting import Adapting
from services.cache.entries import STEP, Entries
from services.cache.late_embedding import LateEmbedding
from services.cache.learning.labels import Source
from services.cache.recovery import Recovery
from services.cache.stats import Learning, Report, Stats
from services.cache.writer import Writer


class Reports:
    """Walks the memory, a little at a time."""

    def __init__(
        self,
        *,
        entries: Entries,
        stats: Stats,
        adapting: Adapting,
        writer: Writer,
        recovery: Recovery,
        late: LateEmbedding,
        embedder: str,
        now: Callable[[], float],
    ) -> None:
        """`embedder`: the slug of its identity; `now`: Unix seconds."""
        self._entries = entries
        self._stats = stats
        self._adapting = adapting
        self._writer = writer
        self._recovery = recovery
        self._late = late
        self._embedder = embedder
        self._now = now

    async def of(self, tenant: str, namespace: str | None) -> Report:
        """Sizes and counts of one namespace, or of all of the tenant."""
        total = valid = expired = quarantined = size = hot = 0
        now = self._now()
        steps = count(1)
        for bucket in self._entries.buckets(tenant):
            if next(steps) % STEP == 0:
                await asyncio.sleep(0)
            if namespace not in {None, bucket.namespace}:
                continue
            total += len(bucket.entries)
            size += self._entries.room.bytes(bucket.pool)
            hot += bucket.pool.hot
            quarantined += bucket.quarantined
            for entry in list(bucket.entries.values()):
                live = entry.live(now)
                expired += not live
                valid += live and not entry.withheld(own=True)
                if next(steps) % STEP == 0:
                    await asyncio.sleep(0)
        return Report(
            entries_total=total,
            entries_valid=valid,
            entries_expired=expired,
            entries_quarantined=quarantined,
            bytes=size,
            tally=self._stats.of(tenant, namespace),
            writes_not_stored=self._writes_not_stored(tenant, namespace),
            store_healthy=self._recovery.ready.is_set() and not self._writer.failing,
            embedder=self._embedder,
            embeddings_waiting=self._late.waiting(tenant, namespace),
            hot_bytes=hot,
            hours=self._stats.traffic.hours(tenant),
            learning=self._learning(tenant, namespace),
        )

    def _learning(self, tenant: str, namespace: str | None) -> Learning:
        compared = self._stats.of(tenant, namespace).compared
        learners = self._adapting.learners(tenant, namespace)
        rule = None if namespace is None else self._adapting.learned(tenant, namespace)
        return Learning(
            namespaces=len(learners),
            alarms=sum(learner.drift.alarms for learner in learners),
            budget=self._adapting.budget(tenant, namespace),
            threshold=None if rule is None else rule.bar.cosine,
            score_threshold=None if rule is None else rule.bar.score,
            audited=self._adapting.share_of(compared[Source.AUDIT, True], compared[Source.AUDIT, False]),
        )

    def _writes_not_stored(self, tenant: str, namespace: str | None) -> int:
        owned = (write.entry for write in self._writer.unsaved() if write.entry.tenant == tenant)
        waiting = sum(namespace in {None, entry.namespace} for entry in owned)
        return waiting + self._stats.of(tenant, namespace).writes_given_up
