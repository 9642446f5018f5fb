"""Within what an answer may be shared, as keyed hashes (HMAC-SHA256, RFC 2104).

Keyed, because a plain hash of a short question can be guessed by whoever reads the store. Versioned, so that a change
of what is hashed can never match an entry of another version.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import dataclass
from functools import lru_cache

from services.cache.encoding import encode
from services.cache.question import Question, read_question
from services.cache.values import Query

VERSION = 1
"""Raise it whenever anything below, the encoding or the normal form changes."""

KEPT_SCOPES = 4_096
"""Scopes that are not hashed anew for each question of theirs, some 400 bytes each."""

_VERIFIED = b"antiphon fingerprint key"
_ENTRY_IDS = uuid.UUID("6f1d7d3e-3a0f-5f0e-9a43-0b7a86f2f1c5").bytes
"""UUID namespace (RFC 9562 §5.5) of entry ids."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the answer to one question belongs. `scope` and `key` are 64 hex digits."""

    tenant: str
    namespace: str
    scope: str
    key: str
    entry_id: str
    question: Question


class Addresses:
    """Computes addresses under one key and for one embedder."""

    def __init__(self, key: bytes, *, embedder: str, longest: int) -> None:
        """`key`: the store's secret; `embedder`: the slug of the embedder's identity.

        `longest`: characters of a question that may be stored; see `read_question`.
        """
        self._longest = longest
        self._key = key
        self._embedder = embedder
        plain = Query(())
        self._plain = plain.tools, plain.options, plain.objective
        self._plain_fingerprint = self._fingerprint(self._plain, ())
        self._scope = lru_cache(maxsize=KEPT_SCOPES)(self._scope_of)

    def of(self, tenant: str, query: Query) -> Address:
        """The address of the question that `query` ends with."""
        question = read_question(query.messages, longest=self._longest)
        context: tuple[object, ...] = query.messages
        last: tuple[object, ...] = ()
        if question.in_words:
            context = query.messages[:-1]
            last = question.parts
        asked = query.tools, query.options, query.objective
        plain = not context and asked == self._plain
        fingerprint = self._plain_fingerprint if plain else self._fingerprint(asked, context)
        name = query.messages[-1].name if question.in_words else ""
        scope = self._scope(tenant, query.namespace, query.model, fingerprint, name)
        key = self._hash("question", (question.in_words, last)).hex()
        return Address(
            tenant=tenant,
            namespace=query.namespace,
            scope=scope,
            key=key,
            entry_id=entry_id(scope, key),
            question=question,
        )

    def _fingerprint(self, asked: tuple[object, ...], context: tuple[object, ...]) -> bytes:
        return self._hash("fingerprint", (*asked, context))

    def _scope_of(self, tenant: str, namespace: str, model: str, fingerprint: bytes, name: str) -> str:
        return self._hash("scope", (tenant, namespace, model, self._embedder, fingerprint, name)).hex()

    def mark(self, *parts: str) -> str:
        """16 hex digits that stand for these words and tell nobody what they were."""
        return self._hash("mark", parts).hex()[:16]

    def _hash(self, purpose: str, value: object) -> bytes:
        return hmac.digest(self._key, encode((purpose, VERSION, value)), "sha256")


def entry_id(scope: str, key: str) -> str:
    """The id under which the answer to this question in this scope is stored; the same on every replica."""
    # As `uuid.uuid5`, at a quarter of its time: a start checks every id that is stored.
    digest = bytearray(hashlib.sha1(_ENTRY_IDS + f"{scope}/{key}".encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def verifier(key: bytes) -> str:
    """What may be kept beside the entries to tell whether they were made with `key`."""
    return hmac.digest(key, _VERIFIED, "sha256").hex()
