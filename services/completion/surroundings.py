"""Watching what stands around: the router's catalogue, and whether the cache can keep what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from services.chassis.errors import AntiphonError
from services.completion.models import ModelBook
from services.completion.ports import ListedModel

CALL_SECONDS = 2.0

STORE_SECONDS = 2.0
"""Between two looks at the store's health; it is how long an answer may not say yet that the store is away."""

RETRY_SECONDS = 1.0
"""Until the router's catalogue is asked for again after a failure."""

STORE_UNAVAILABLE = "store_unavailable"


class StoreHealth(Protocol):
    """Says whether answers survive the cache's process."""

    async def store_healthy(self, *, timeout: float) -> bool:
        """Whether the cache's store answers."""
        ...


class Listing(Protocol):
    """Lists the models that the router offers."""

    async def list_models(self, *, timeout: float) -> Sequence[ListedModel]:
        """List them."""
        ...


class Surroundings:
    """Its two loops run until cancelled. `degraded` is what was last seen to be wrong."""

    def __init__(self, store: StoreHealth, listing: Listing, models: ModelBook, *, refresh: float) -> None:
        """`refresh`: seconds between two readings of the router's catalogue."""
        self._store = store
        self._listing = listing
        self._models = models
        self._refresh = refresh
        self._store_healthy = True

    def degraded(self) -> tuple[str, ...]:
        """Return the reasons why answers are worth less than usual."""
        return () if self._store_healthy else (STORE_UNAVAILABLE,)

    async def watch_store(self) -> None:
        """Look at the store's health again and again."""
        while True:
            await self.check_store()
            await asyncio.sleep(STORE_SECONDS)

    async def watch_catalogue(self) -> None:
        """Read the router's catalogue again and again."""
        while True:
            wait = self._refresh if await self.read_catalogue() else RETRY_SECONDS
            await asyncio.sleep(wait)

    async def check_store(self) -> None:
        """Look at the store's health."""
        try:
            self._store_healthy = await self._store.store_healthy(timeout=CALL_SECONDS)
        except AntiphonError:
            # The cache itself does not answer, which every lookup finds out and says.
            self._store_healthy = True

    async def read_catalogue(self) -> bool:
        """Read the router's catalogue; False if it does not answer."""
        try:
            self._models.update(await self._listing.list_models(timeout=CALL_SECONDS))
        except AntiphonError:
            self._models.unlisted()
            return False
        return True
