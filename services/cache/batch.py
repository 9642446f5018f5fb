"""Many lookups in one call: as if one after the other, but embedded together and compared in one search."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from services.cache.ask import Ask
from services.cache.decision import Choice
from services.cache.embeddings import Embedding, Embeddings
from services.cache.lookup import Bypassed, Lookups, bypass
from services.cache.searching import Search
from services.cache.values import Asked, BypassReason, LookupResult
from services.chassis.deadline import Deadline

PER_BUDGET = 16
"""Lookups begun that share one time budget for search: so many cost less than half as much each as one alone."""

MOST_EMBEDDING_SECONDS = 10.0
"""For the questions of a batch together. Nobody waits for a single one of them, so it may take longer than theirs."""

STEP = 32
"""Lookups that are read or answered before others may run: about 2 ms."""


_Found = tuple[Embedding, Choice]


MAX_SERVED_BYTES = 10 * 1024 * 1024
"""Of stored answers in one response. The rest of the 16 MiB that a message may have is for embeddings and leases."""


class BatchLookups:
    """Answers batches of lookups."""

    def __init__(
        self, lookups: Lookups, embeddings: Embeddings, *, decision_budget: float, monotonic: Callable[[], float]
    ) -> None:
        """`decision_budget`: seconds that search may take, for every `PER_BUDGET` lookups begun."""
        self._lookups = lookups
        self._embeddings = embeddings
        self._budget = decision_budget
        self._monotonic = monotonic

    async def lookup(self, tenant: str, asked: Sequence[Asked], deadline: Deadline) -> list[LookupResult]:
        """One result for each, in order: what `Lookups.lookup` would have said to one after the other."""
        begun = self._monotonic()
        results: dict[int, LookupResult] = {}
        asks: dict[int, Ask] = {}
        for place, one in enumerate(asked):
            ask = self._lookups.begin(tenant, one)
            known = ask if isinstance(ask, LookupResult) else self._lookups.known(ask)
            if known is not None:
                results[place] = known
            elif isinstance(ask, Ask):
                asks[place] = ask
            await _let_others_run(place)
        asks = {place: await self._lookups.ruled(ask) for place, ask in asks.items()}
        budget = self._budget * -(-len(asked) // PER_BUDGET) - (self._monotonic() - begun)
        found = await self._find(asks, await self._embed(asks, deadline), budget)
        before: set[str] = set()
        for number, (place, ask) in enumerate(asks.items()):
            # One before it may have got the right to fill what this one asks for, too.
            repeated = self._lookups.known(ask) if ask.address.entry_id in before else None
            results[place] = await self._finish(ask, found[place], budget) if repeated is None else repeated
            before.add(ask.address.entry_id)
            await _let_others_run(number)
        return [results[place] for place in range(len(asked))]

    async def _embed(self, asks: dict[int, Ask], deadline: Deadline) -> dict[int, Embedding | BypassReason]:
        embedded: dict[int, Embedding | BypassReason] = {place: Embedding(None, 0) for place in asks}
        needed = {place: ask for place, ask in asks.items() if ask.embeds}
        if not needed:
            return embedded
        within = self._embeddings.budget(*(ask.address for ask in needed.values()), most=MOST_EMBEDDING_SECONDS)

        async def embed(place: int, ask: Ask) -> None:
            try:
                embedded[place] = await self._lookups.embed(ask, within, deadline)
            except Bypassed as bypassed:
                embedded[place] = bypassed.reason

        async with asyncio.TaskGroup() as group:
            for place, ask in needed.items():
                group.create_task(embed(place, ask))
        return embedded

    async def _find(
        self, asks: dict[int, Ask], embedded: dict[int, Embedding | BypassReason], within: float
    ) -> dict[int, _Found | BypassReason]:
        """What the semantic tier chooses for those whose embedding was not in vain."""
        found: dict[int, _Found | BypassReason] = {}
        searches: dict[int, tuple[Embedding, Search]] = {}
        for place, embedding in embedded.items():
            if isinstance(embedding, BypassReason):
                found[place] = embedding
                continue
            sought = self._lookups.seek(asks[place], embedding.vector)
            if isinstance(sought, Search):
                searches[place] = embedding, sought
            else:
                found[place] = embedding, sought
        if not searches:
            return found
        try:
            choices = await self._lookups.search([search for _, search in searches.values()], within)
        except Bypassed as bypassed:
            found.update(dict.fromkeys(searches, bypassed.reason))
        else:
            for (place, (embedding, _)), choice in zip(searches.items(), choices, strict=True):
                found[place] = embedding, choice
        return found

    async def _finish(self, ask: Ask, found: _Found | BypassReason, within: float) -> LookupResult:
        return bypass(found) if isinstance(found, BypassReason) else await self._lookups.finish(ask, *found, within)


async def _let_others_run(number: int) -> None:
    if number % STEP == STEP - 1:
        await asyncio.sleep(0)
