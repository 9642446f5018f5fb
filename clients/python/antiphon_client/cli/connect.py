"""How commands reach a service: its address, and the credential that the environment gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from antiphon_client.cache import AsyncCacheClient
from antiphon_client.cli.hints import API_KEY, API_KEY_FILE
from antiphon_client.cli.targets import Service, SettingError, Settings
from antiphon_client.completion import AsyncCompletionClient


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a service is and with what it is called."""

    address: str
    api_key: str | None = None

    @classmethod
    def to(cls, service: Service, settings: Settings) -> Connection:
        """Read the settings. Raises `SettingError`."""
        return cls(settings.target(service), api_key(settings))

    def completion(self) -> AsyncCompletionClient:
        """Return a client of the completion service."""
        return AsyncCompletionClient(self.address, api_key=self.api_key)

    def cache(self) -> AsyncCacheClient:
        """Return a client of the cache service."""
        return AsyncCacheClient(self.address, api_key=self.api_key)


def api_key(settings: Settings) -> str | None:
    """Return the API key of the environment, or None to call without one. Raises `SettingError`."""
    if key := settings.get(API_KEY).strip():
        return _sendable(API_KEY, key)
    if not (location := settings.get(API_KEY_FILE)):
        return None
    try:
        key = Path(location).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SettingError(API_KEY_FILE, f"cannot be read ({type(error).__name__})") from None
    if not key:
        raise SettingError(API_KEY_FILE, "the file is empty")
    return _sendable(API_KEY_FILE, key)


def _sendable(name: str, key: str) -> str:
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingError(name, "is not an API key: it holds characters that cannot be sent")
    return key
