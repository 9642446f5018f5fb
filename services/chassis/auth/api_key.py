"""The text of an API key, `ap_<key id>_<secret>`, and what is kept of it."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass

ID = re.compile(r"[a-z2-7]{12}")
ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
ID_CHARACTERS = 12
"""60 bits: no two keys of a file meet by chance, and a person can still compare two of them."""

SECRET_BYTES = 32
_TEXT = re.compile(r"ap_([a-z2-7]{12})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its holder has it; `text` is a secret and is shown once."""

    id: str
    text: str

    def __repr__(self) -> str:
        """Name the key, not its secret."""
        return f"ApiKey({self.id})"


def new_key() -> ApiKey:
    """Return a key that nobody has."""
    key_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_CHARACTERS))
    return ApiKey(key_id, f"ap_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}")


def key_id_of(text: str) -> str | None:
    """The id in a key's text, or None if the text is not that of a key."""
    found = _TEXT.fullmatch(text)
    return found[1] if found else None


class Digests:
    """What is kept of keys: HMAC-SHA256 of their texts (RFC 2104). A plain hash would do, too: secrets are random.

    Keyed, a digest that leaks says nothing about whether two files hold the same key.
    """

    __slots__ = ("_begun",)

    def __init__(self, hmac_key: bytes) -> None:
        # Begun once and copied for each text, which halves the time of a whole HMAC.
        self._begun = hmac.new(hmac_key, digestmod="sha256")

    def of(self, text: str) -> bytes:
        """The digest of a key's text."""
        whole = self._begun.copy()
        whole.update(text.encode("ascii"))
        return whole.digest()


def digest(hmac_key: bytes, text: str) -> bytes:
    """The digest of one key's text."""
    return Digests(hmac_key).of(text)
