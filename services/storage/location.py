"""Where the store is: the configured server, or the embedded one as its files in the state folder say now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.chassis import runfile
from services.chassis.settings import SettingsError, SuiteSettings
from services.storage.calls import unavailable

EMBEDDED = "edgestore"
"""The embedded store's process, as its run file and token are named."""


@dataclass(frozen=True, slots=True)
class Place:
    """A store's URL and what it wants to see."""

    url: str
    api_key: str | None


def locate(settings: SuiteSettings) -> Place:
    """Where the settings and the state folder say that the store is. Reads small files.

    Raises Unavailable(STORE_UNAVAILABLE) while the embedded store has written no address, or the key cannot be read.
    """
    if settings.qdrant_url is not None:
        try:
            return Place(settings.qdrant_url, read_api_key(settings))
        except SettingsError:
            # It could be read at the start: somebody is replacing it.
            raise unavailable("the store's key cannot be read") from None
    running = runfile.read(settings.state_dir, EMBEDDED)
    token = _read(settings.edgestore_token_file or settings.state_dir / f"{EMBEDDED}.token")
    if running is None or running.address is None or not token:
        raise unavailable("the embedded store does not run")
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


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
