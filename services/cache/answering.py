"""What answers questions: the way of a lookup, of a batch, of those who wait, and of those who want it explained."""

from __future__ import annotations

from concurrent.futures import Executor

from services.cache.adapting import Adapting
from services.cache.asks import Asks
from services.cache.batch import BatchLookups
from services.cache.bodies import Bodies
from services.cache.draft import Draft
from services.cache.embeddings import Embeddings
from services.cache.entries import Entries
from services.cache.explaining import Explaining
from services.cache.fills import Fills
from services.cache.flying import Flying
from services.cache.followers import Followers
from services.cache.joining import Joining
from services.cache.lookup import Lookups
from services.cache.outside import Limits, Outside
from services.cache.ports import Readiness
from services.cache.scope import Addresses
from services.cache.searching import Searching
from services.cache.serving import Serving
from services.cache.storing import Storing
from services.cache.waiting import Waiting


class Answering:
    """Puts them together."""

    def __init__(
        self,
        *,
        addresses: Addresses,
        entries: Entries,
        bodies: Bodies,
        embeddings: Embeddings,
        fills: Fills[Draft],
        flying: Flying,
        storing: Storing,
        readiness: Readiness,
        adapting: Adapting,
        executor: Executor,
        limits: Limits,
        outside: Outside,
    ) -> None:
        """`executor`: where long texts are compared."""
        judge, now, monotonic = outside.judge, outside.clock.now, outside.clock.monotonic
        searching = Searching(entries=entries, judge=judge, executor=executor, now=now)
        joining = Joining(flying=flying, entries=entries, judge=judge, executor=executor, now=now)
        followers = Followers(monotonic)
        self.lookups = lookups = Lookups(
            asks=Asks(addresses, judge),
            entries=entries,
            embeddings=embeddings,
            fills=fills,
            storing=storing,
            readiness=readiness,
            judge=judge,
            adapting=adapting,
            searching=searching,
            joining=joining,
            followers=followers,
            decision_budget=limits.decision_budget,
            most_stale=limits.stale,
            now=now,
            monotonic=monotonic,
        )
        batches = BatchLookups(lookups, embeddings, decision_budget=limits.decision_budget, monotonic=monotonic)
        self.serving = Serving(lookups, batches, bodies, adapting, now=now, monotonic=monotonic)
        self.waiting = Waiting(
            fills=fills,
            followers=followers,
            serving=self.serving,
            joining=joining,
            bar=judge.bar,
            monotonic=monotonic,
        )
        self.explaining = Explaining(
            addresses=addresses,
            entries=entries,
            embeddings=embeddings,
            judge=judge,
            adapting=adapting,
            searching=searching,
            readiness=readiness,
            most_stale=limits.stale,
            now=now,
        )
