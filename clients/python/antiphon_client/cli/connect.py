"""How commands reach a service: its address, and the credential that the environment gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antiphon_client.cache import AsyncCacheClient
from antiphon_client.cli.hints import API_KEY, API_KEY_FILE, TLS_CA_FILE, TLS_CERT_FILE, TLS_KEY_FILE
from antiphon_client.cli.targets import Service, SettingError, Settings
from antiphon_client.completion import AsyncCompletionClient
from antiphon_client.tls import Tls, TlsFileError


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a service is and with what it is called."""

    address: str
    api_key: str | None = None
    tls: Tls | None = None

    @classmethod
    def to(cls, service: Service, settings: Settings) -> Connection:
        """Read the settings. Raises `SettingError`."""
        return cls(settings.target(service), api_key(settings), tls(settings))

    def completion(self) -> AsyncCompletionClient:
        """Return a client of the completion service. Raises `SettingError` for a file of certificates."""
        with _named_files():
            return AsyncCompletionClient(self.address, api_key=self.api_key, tls=self.tls)

    def cache(self) -> AsyncCacheClient:
        """Return a client of the cache service. Raises `SettingError` for a file of certificates."""
        with _named_files():
            return AsyncCacheClient(self.address, api_key=self.api_key, tls=self.tls)


def tls(settings: Settings) -> Tls | None:
    """Return the files of certificates, or None to call in plaintext. Raises `SettingError`."""
    ca, cert, key = (settings.get(name) or None for name in (TLS_CA_FILE, TLS_CERT_FILE, TLS_KEY_FILE))
    if not (ca or cert or key):
        return None
    if bool(cert) != bool(key):
        raise SettingError(TLS_KEY_FILE if cert else TLS_CERT_FILE, "is unset: a certificate needs its key")
    return Tls(ca, cert, key)


@contextmanager
def _named_files() -> Iterator[None]:
    try:
        yield
    except TlsFileError as error:
        raise SettingError(f"ANTIPHON_TLS_{error.field.upper()}", error.problem) from None


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
    if key.lower().startswith("bearer "):
        raise SettingError(name, "give the key alone: `Bearer` is put before it when it is sent")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingError(name, "is not an API key: it holds characters that cannot be sent")
    return key
