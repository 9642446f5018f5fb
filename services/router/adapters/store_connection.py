"""Where the store is: the configured server, or the embedded one as its files in the state folder say."""

from __future__ import annotations

import asyncio

from services.chassis import runfile
from services.chassis.errors import Reason, Unavailable
from services.chassis.settings import SettingsError, SuiteSettings
from services.storage.store import Store

EMBEDDED = "edgestore"


async def connect(settings: SuiteSettings, timeout: float) -> Store:
    """Return a connection with `timeout` seconds per call.

    Raises `Unavailable(STORE_UNAVAILABLE)` while the embedded store has written no address, or the key cannot be read.
    """
    url, api_key = await asyncio.to_thread(_locate, settings)
    return await Store.connect(url, api_key=api_key, timeout=timeout)


def read_api_key(settings: SuiteSettings) -> str | None:
    """Return the configured key of a Qdrant server; `SettingsError` if its file cannot be read. Reads a small file."""
    if settings.qdrant_api_key_file is None:
        return None
    try:
        return settings.qdrant_api_key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            "ANTIPHON_QDRANT_API_KEY_FILE", f"the file cannot be read ({type(error).__name__})"
        ) from None


def _locate(settings: SuiteSettings) -> tuple[str, str | None]:
    if settings.qdrant_url is not None:
        try:
            return settings.qdrant_url, read_api_key(settings)
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
    return f"http://{running.address}", token
