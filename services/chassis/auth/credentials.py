"""The credentials file: which keys there are, whose, and what is kept of them.

{"version": 1,
 "hmac_key": "<base64 of 32 bytes>",
 "keys": [{"id": "…", "tenant": "acme", "role": "client", "hmac_sha256": "<hex>", "created_at": "2026-01-31T12:00:00Z",
           "expires_at": null, "revoked_at": null, "requests_per_minute": 600, "tokens_per_minute": null, "note": "…"}]}
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from services.chassis.auth.api_key import ID
from services.chassis.auth.values import TENANT, Role

HMAC_KEY_BYTES = 32
DIGEST_BYTES = 32
MOST_PER_MINUTE = 1_000_000_000
MOST_NOTE_CHARACTERS = 200


class CredentialsError(Exception):
    """A credentials file cannot be used; the text says where in the file and why, and quotes nothing of it."""


def _base64_key(value: object) -> bytes:
    try:
        key = base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except (binascii.Error, ValueError):
        key = None
    if not isinstance(key, bytes) or len(key) != HMAC_KEY_BYTES:
        raise ValueError(f"must be {HMAC_KEY_BYTES} bytes in base64")
    return key


def _hex_digest(value: object) -> bytes:
    try:
        digest = bytes.fromhex(value) if isinstance(value, str) else value
    except ValueError:
        digest = None
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
        raise ValueError(f"must be {DIGEST_BYTES} bytes in hexadecimal")
    return digest


def _key_id(value: str) -> str:
    if not ID.fullmatch(value):
        raise ValueError("must be 12 characters of a-z and 2-7")
    return value


def _tenant(value: str) -> str:
    if not TENANT.fullmatch(value):
        raise ValueError("must be 1 to 64 characters of a-z, 0-9, '.', '_' and '-'")
    return value


def _note(value: str) -> str:
    # It is shown in terminals, where control characters do things.
    if not value.isprintable():
        raise ValueError("must be printable")
    return value


PerMinute = Annotated[int, Field(ge=1, le=MOST_PER_MINUTE)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class StoredKey(_Strict):
    """One key of the file. Who may call what with it is a matter of its role; without limits it has none."""

    id: Annotated[str, AfterValidator(_key_id)]
    tenant: Annotated[str, AfterValidator(_tenant)]
    role: Annotated[Role, Field(strict=False)]
    hmac_sha256: Annotated[bytes, BeforeValidator(_hex_digest), PlainSerializer(bytes.hex)] = Field(repr=False)
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    note: Annotated[str, Field(max_length=MOST_NOTE_CHARACTERS), AfterValidator(_note)] = ""


class Credentials(_Strict):
    """The whole file."""

    version: Literal[1] = 1
    hmac_key: Annotated[
        bytes, BeforeValidator(_base64_key), PlainSerializer(lambda key: base64.b64encode(key).decode("ascii"))
    ] = Field(repr=False)
    keys: tuple[StoredKey, ...] = ()

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        if len({key.id for key in self.keys}) != len(self.keys):
            raise ValueError("two keys have the same id")
        return self


def parse(content: bytes) -> Credentials:
    """The file's content; raises `CredentialsError`."""
    try:
        return Credentials.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    location = list(first["loc"])
    if first["type"] == "extra_forbidden":
        # The name of an unknown field may be a secret that was put in the wrong place.
        location.pop()
        raise CredentialsError(f"{_path(location)} has a field that is not known")
    if first["type"] == "json_invalid":
        raise CredentialsError("the file is not valid JSON")
    raise CredentialsError(f"{_path(location)}: {first['msg'].removeprefix('Value error, ')}")


def serialise(credentials: Credentials) -> bytes:
    """What `parse` reads."""
    return (credentials.model_dump_json(indent=2) + "\n").encode()


def _path(location: list[int | str]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".") or "the file"
