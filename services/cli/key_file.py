"""Edits the credentials file: whole or not at all, for its owner alone, and by one editor at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from services.chassis.auth.api_key import ApiKey, digest, key_id_of, new_key
from services.chassis.auth.credentials import HMAC_KEY_BYTES, Credentials, CredentialsError, StoredKey, parse, serialise
from services.chassis.auth.values import ANYONE, Role

SERVICE_NOTE = "the suite's own"


class KeyFile:
    """The credentials file at `path`. `OSError` if a file cannot be read or written, `CredentialsError` if it is wrong.

    Running servers see a change within a second.
    """

    def __init__(self, path: Path, service_key: Path) -> None:
        """`service_key`: where the key is put that a new file begins with."""
        # A link stays a link: what it points to is replaced.
        self.path = Path(os.path.realpath(path))
        self._service_key = Path(os.path.realpath(service_key))

    def read(self) -> Credentials | None:
        """What the file holds; None if there is none."""
        try:
            return parse(self.path.read_bytes())
        except FileNotFoundError:
            return None

    def add(self, key: ApiKey, stored: StoredKey) -> bool:
        """Add a key; `stored.hmac_sha256` is filled in here. Returns whether the file was made for it.

        A new file begins with a key of the role `service`, which the file for the service key holds or now gets.
        """
        with self._alone():
            credentials = self.read()
            made = credentials is None
            if credentials is None:
                credentials = self._begun()
            filled = stored.model_copy(update={"hmac_sha256": digest(credentials.hmac_key, key.text)})
            self._write(credentials.model_copy(update={"keys": (*credentials.keys, filled)}))
        return made

    def revoke(self, key_id: str) -> StoredKey | None:
        """Revoke the key for good; returns it as it is now, or None if there is no such key."""
        with self._alone():
            credentials = self.read()
            found = next((key for key in credentials.keys if key.id == key_id), None) if credentials else None
            if credentials is None or found is None or found.revoked_at is not None:
                return found
            revoked = found.model_copy(update={"revoked_at": now()})
            keys = tuple(revoked if key.id == key_id else key for key in credentials.keys)
            self._write(credentials.model_copy(update={"keys": keys}))
        return revoked

    def service_key_id(self) -> str | None:
        """The id of the key with which the suite calls itself, if its file holds one."""
        try:
            return key_id_of(self._service_key.read_text(encoding="ascii").strip())
        except (OSError, UnicodeDecodeError):
            return None

    def _begun(self) -> Credentials:
        """Return a new file's content. The service key is there before the file is: whoever finds this, finds that."""
        hmac_key = secrets.token_bytes(HMAC_KEY_BYTES)
        try:
            text = self._service_key.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            text = new_key().text
            _replace(self._service_key, f"{text}\n".encode())
        except UnicodeDecodeError:
            text = ""
        if (key_id := key_id_of(text)) is None:
            raise CredentialsError(f"{self._service_key} does not hold an API key; move it away")
        own = StoredKey(
            id=key_id,
            tenant=ANYONE.tenant,
            role=Role.SERVICE,
            hmac_sha256=digest(hmac_key, text),
            created_at=now(),
            note=SERVICE_NOTE,
        )
        return Credentials(hmac_key=hmac_key, keys=(own,))

    def _write(self, credentials: Credentials) -> None:
        content = serialise(credentials)
        parse(content)  # never write what cannot be read again
        _replace(self.path, content)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for another editor to finish; the file itself cannot be the lock, as it is replaced."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def now() -> datetime:
    """This second."""
    return datetime.now(UTC).replace(microsecond=0)


def _replace(path: Path, content: bytes) -> None:
    """Put a file (0600) in the place of another, durably; a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
