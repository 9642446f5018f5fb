"""Credentials files for tests: keys with known texts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.chassis.auth.api_key import ApiKey, digest, new_key
from services.chassis.auth.credentials import Credentials, StoredKey, serialise
from services.chassis.auth.values import Role

HMAC_KEY = bytes(range(32))
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def stored(key: ApiKey, role: Role | str = Role.CLIENT, *, tenant: str = "acme", **fields: Any) -> StoredKey:
    """What a file holds of a key."""
    values: dict[str, Any] = {"created_at": CREATED, **fields}
    return StoredKey(id=key.id, tenant=tenant, role=Role(role), hmac_sha256=digest(HMAC_KEY, key.text), **values)


def credentials(*keys: StoredKey) -> Credentials:
    """A file's content."""
    return Credentials(hmac_key=HMAC_KEY, keys=keys)


def write(path: Path, keys: Iterable[StoredKey]) -> None:
    """Put a file with these keys in the place of the one at `path`, as a careful editor does."""
    replace(path, serialise(credentials(*keys)))


def replace(path: Path, content: bytes) -> None:
    """Put this content in the place of the file at `path`."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    os.replace(draft, path)  # noqa: PTH105 -- the call that is meant


def bearer(key: ApiKey | str) -> tuple[tuple[str, str], ...]:
    """The metadata that shows a key."""
    return (("authorization", f"Bearer {key.text if isinstance(key, ApiKey) else key}"),)


__all__ = ["HMAC_KEY", "bearer", "credentials", "new_key", "replace", "stored", "write"]
