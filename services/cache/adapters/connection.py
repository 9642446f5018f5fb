"""Where the store is, now: the configured server, or the embedded one wherever it runs at the moment.

The embedded store takes a free port at each start and writes it to its run file, so after a failure the place is looked
up again, and collections are checked again if it has moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.chassis import runfile
from services.chassis.errors import Reason, Unavailable
from services.chassis.settings import SettingsError, SuiteSettings
from services.storage import Collection, CollectionSpec, Store

EMBEDDED = "edgestore"
"""The embedded store's process, as its run file and token are named."""


@dataclass(frozen=True, slots=True)
class Place:
    """A store's URL and what it wants to see."""

    url: str
    api_key: str | None


class Connection:
    """One connection for everything that the cache stores; moves with the store."""

    def __init__(self, locate: Callable[[], Place], *, timeout: float) -> None:
        """`locate` says where the store is, or raises Unavailable; it reads files. `timeout`: seconds for one call."""
        self._locate = locate
        self._timeout = timeout
        self._place: Place | None = None
        self._store: Store | None = None
        self._collections: dict[str, Collection] = {}
        self._doubtful = True
        self._moving = asyncio.Lock()

    @asynccontextmanager
    async def collection(self, spec: CollectionSpec) -> AsyncIterator[Collection]:
        """The collection, created or checked when it is used for the first time at this place.

        Raises Unavailable(STORE_UNAVAILABLE) and FailedPrecondition(STORE_MISMATCH), here and from what is done inside.
        """
        try:
            async with self._moving:
                store = await self._connected()
                collection = self._collections.get(spec.name)
                if collection is None:
                    collection = self._collections[spec.name] = await store.ensure(spec)
            yield collection
        except Unavailable:
            self._doubtful = True
            raise

    async def aclose(self) -> None:
        """Close it."""
        if self._store is not None:
            await self._store.aclose()

    async def _connected(self) -> Store:
        if self._store is not None and not self._doubtful:
            return self._store
        place = await asyncio.to_thread(self._locate)
        if self._store is None or place != self._place:
            old, self._store = self._store, None
            self._collections.clear()
            if old is not None:
                await old.aclose()
            self._store = await Store.connect(place.url, api_key=place.api_key, timeout=self._timeout)
            self._place = place
        self._doubtful = False
        return self._store


def locate(settings: SuiteSettings) -> Place:
    """Where the settings and the state folder say that the store is."""
    if settings.qdrant_url is not None:
        try:
            return Place(settings.qdrant_url, read_api_key(settings))
        except SettingsError:
            # It could be read at the start: somebody is replacing it.
            raise Unavailable("the store's key cannot be read", reason=Reason.STORE_UNAVAILABLE) from None
    running = runfile.read(settings.state_dir, EMBEDDED)
    try:
        token = (settings.state_dir / f"{EMBEDDED}.token").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if running is None or running.address is None or not token:
        raise Unavailable("the embedded store does not run", reason=Reason.STORE_UNAVAILABLE)
    return Place(f"http://{running.address}", token)


def read_api_key(settings: SuiteSettings) -> str | None:
    """The configured key of a Qdrant server; raises SettingsError if its file cannot be read."""
    if settings.qdrant_api_key_file is None:
        return None
    try:
        return settings.qdrant_api_key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            "ANTIPHON_QDRANT_API_KEY_FILE", f"the file cannot be read ({type(error).__name__})"
        ) from None
