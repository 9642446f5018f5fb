"""The secret under which questions are hashed. It belongs to the entries: without it nobody finds them again."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from services.cache.settings import CacheSettings
from services.chassis.settings import SettingsError

VARIABLE = "ANTIPHON_CACHE_FINGERPRINT_KEY_FILE"
FILE_NAME = "fingerprint.key"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Key:
    """The secret, and the file it was made in just now, if it was."""

    secret: bytes
    made: Path | None = None

    def withdraw(self) -> None:
        """Take back a key that was made in the place of a lost one: it is not the one that the entries need."""
        if self.made is not None:
            self.made.unlink(missing_ok=True)


def load_key(settings: CacheSettings) -> Key:
    """The key in the configured file, or else in the state folder, where it is made (0600) if it is absent.

    Raises SettingsError: a configured file must exist, and with a Qdrant server one must be configured, because every
    replica needs the same key.
    """
    path = settings.fingerprint_key_file
    if path is not None:
        return Key(_read(path))
    if settings.qdrant_url is not None:
        raise SettingsError(VARIABLE, "is required with ANTIPHON_QDRANT_URL: 32 random bytes, equal on all replicas")
    own = settings.state_dir / FILE_NAME
    try:
        made = _make(own)
    except OSError as error:
        raise SettingsError("ANTIPHON_STATE_DIR", f"cannot be written to ({type(error).__name__})") from None
    return Key(_read(own), made=own if made else None)


def _read(path: Path) -> bytes:
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise SettingsError(VARIABLE, f"the file cannot be read ({type(error).__name__})") from None
    if len(secret) != KEY_BYTES:
        raise SettingsError(VARIABLE, f"the file must hold exactly {KEY_BYTES} bytes")
    return secret


def _make(path: Path) -> bool:
    """Put a new key at `path` unless there is one; whole or not at all, and durable. Returns whether it did."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(draft)  # unlike a rename it never replaces the key of a process that was faster
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True
