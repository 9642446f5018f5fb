"""Within what an answer may be shared, as keyed hashes (HMAC-SHA256, RFC 2104).

Keyed, because a plain hash of a short question can be guessed by whoever reads the store. Versioned, so that a change
of what is hashed can never match an entry of another version.

The scope is a keyed hash over a plain one of tools, options, objective and earlier messages. So an entry can be given
its address under another key by who knows the plain hash, without the messages; the store has it sealed only.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from services.cache.encoding import encode
from services.cache.origin import Origin, lengths_of
from services.cache.question import Question, question_in_words, read_question
from services.cache.values import Query

if TYPE_CHECKING:
    from _hashlib import HASH

VERSION = 2
"""Raise it whenever anything below, the encoding or the normal form changes."""

KEPT_SCOPES = 4_096
"""Scopes that are not hashed anew for each question of theirs, some 400 bytes each."""

_BLOCK = 64
"""Bytes of a block of SHA-256."""

_VERIFIED = b"antiphon fingerprint key"
_ENTRY_IDS = uuid.UUID("6f1d7d3e-3a0f-5f0e-9a43-0b7a86f2f1c5").bytes
"""UUID namespace (RFC 9562 §5.5) of entry ids."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the answer to one question belongs. `scope` and `key` are 64 hex digits; `origin` is not sealed."""

    tenant: str
    namespace: str
    scope: str
    key: str
    entry_id: str
    question: Question
    origin: Origin


class Addresses:
    """Computes addresses under one key and for one embedder."""

    def __init__(self, key: bytes, *, embedder: str, longest: int) -> None:
        """`key`: the store's secret; `embedder`: the slug of the embedder's identity.

        `longest`: characters of a question that may be stored; see `read_question`.
        """
        self._longest = longest
        self._inner, self._outer = _hmac_pads(key)
        self._embedder = embedder
        plain = Query(())
        self._plain = plain.tools, plain.options, plain.objective
        self._plain_digest = _digest(self._plain, ())
        self._scope = lru_cache(maxsize=KEPT_SCOPES)(self._scope_of)
        self.sealed = lru_cache(maxsize=KEPT_SCOPES)(self._sealed)
        """The origin as it is kept with an entry of this scope, by scope and origin. Sealing it again opens it."""

    def of(self, tenant: str, query: Query) -> Address:
        """The address of the question that `query` ends with."""
        question = read_question(query.messages, longest=self._longest)
        last = query.messages[-1]
        context: tuple[object, ...] = query.messages[:-1] if question.in_words else query.messages
        asked = query.tools, query.options, query.objective
        origin = Origin(
            model=query.model,
            digest=self._plain_digest if not context and asked == self._plain else _digest(asked, context),
            author=last.name if question.in_words else "",
            in_words=question.in_words,
            follows=question.follows,
            lengths=lengths_of(last.parts) if len(last.parts) > 1 else (),
        )
        return self._address(tenant, query.namespace, question, origin)

    def at(self, tenant: str, namespace: str, text: str, origin: Origin) -> Address:
        """The address here of a question that was asked elsewhere; `origin` is not sealed.

        Raises ValueError if `origin` does not belong to this text.
        """
        parts = origin.parts(text)
        if origin.in_words:
            question = question_in_words(parts, follows=origin.follows, longest=self._longest)
        else:
            question = Question(text=text, parts=(), in_words=False, semantic=False)
        return self._address(tenant, namespace, question, origin)

    def _sealed(self, scope: str, origin: Origin) -> Origin:
        pad = self._hash("seal", scope)
        return replace(origin, digest=bytes(a ^ b for a, b in zip(origin.digest, pad, strict=True)))

    def _address(self, tenant: str, namespace: str, question: Question, origin: Origin) -> Address:
        scope = self._scope(tenant, namespace, origin.model, origin.digest, origin.author)
        key = self._hash("question", (question.in_words, question.parts)).hex()
        return Address(
            tenant=tenant,
            namespace=namespace,
            scope=scope,
            key=key,
            entry_id=entry_id(scope, key),
            question=question,
            origin=origin,
        )

    def _scope_of(self, tenant: str, namespace: str, model: str, digest: bytes, author: str) -> str:
        return self._hash("scope", (tenant, namespace, model, self._embedder, digest, author)).hex()

    def mark(self, *parts: str) -> str:
        """16 hex digits that stand for these words and tell nobody what they were."""
        return self._hash("mark", parts).hex()[:16]

    def _hash(self, purpose: str, value: object) -> bytes:
        # As `hmac.digest`, without what OpenSSL does anew for each key, which is most of the time where it is rare.
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(encode((purpose, VERSION, value)))
        outer.update(inner.digest())
        return outer.digest()


def entry_id(scope: str, key: str) -> str:
    """The id under which the answer to this question in this scope is stored; the same on every replica."""
    # As `uuid.uuid5`, at a quarter of its time: a start checks every id that is stored.
    digest = bytearray(hashlib.sha1(_ENTRY_IDS + f"{scope}/{key}".encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _hmac_pads(key: bytes) -> tuple[HASH, HASH]:
    """The hashes that begin with the key's two paddings (RFC 2104 §2)."""
    block = (key if len(key) <= _BLOCK else hashlib.sha256(key).digest()).ljust(_BLOCK, b"\0")
    return hashlib.sha256(bytes(one ^ 0x36 for one in block)), hashlib.sha256(bytes(one ^ 0x5C for one in block))


def _digest(asked: tuple[object, ...], context: tuple[object, ...]) -> bytes:
    return hashlib.sha256(encode(("fingerprint", VERSION, (*asked, context)))).digest()


def verifier(key: bytes) -> str:
    """What may be kept beside the entries to tell whether they were made with `key`."""
    return hmac.digest(key, _VERIFIED, "sha256").hex()
