"""An entry as a payload of the store, and back.

What is filtered by stands in fields of its own; the entry itself is one text, JSON behind its checksum, so that a start
reads a single field of each record. The schema has a number: a record of another version of this software, or one that
was damaged, is left alone and never served.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from functools import lru_cache
from sys import intern
from typing import Any

import numpy as np
import orjson

from services.cache.entry import Entry, Source
from services.cache.origin import Origin
from services.cache.ports import Head, Tombstone, Write
from services.cache.review import UNREVIEWED, FeedbackSource, Quarantine, Review, Said
from services.cache.scope import entry_id
from services.cache.values import Vector
from services.llm.values import Answer, Cost, FinishReason, ToolCall, Usage
from services.storage import Json, Record

SCHEMA = 2
"""Raise it with every change of the fields below; records of other numbers are skipped. A field that may be absent, and
that an older reader may ignore, is no change."""

WHOLE = ("schema", "record")
"""The fields that `from_record` reads."""

HEAD = ("schema", "ns", "ver", "epoch", "buried", "saved_us")
"""The fields of a `Head`."""

KEPT_ORIGINS = 4_096
"""Origins that entries share in memory: within a scope most are equal."""

NORM_TOLERANCE = 1e-3
"""Of a stored vector's norm from 1; rounding to f32 costs less than 1e-6."""

_CHECKSUM = 32
"""Hex digits of the BLAKE2b (RFC 7693) before the JSON of a record."""

_SOURCES = {source.value: source for source in Source}
_FINISH_REASONS = {reason.value: reason for reason in FinishReason}


class Unreadable(StrEnum):
    """Why a record was skipped."""

    SCHEMA = "unknown_schema"
    CHECKSUM = "bad_checksum"
    CONTENT = "bad_content"


def partition(tenant: str, namespace: str) -> str:
    """The value of `ns`: a namespace has no `|`, so the last one separates."""
    return f"{tenant}|{namespace}"


def to_payload(write: Write | Tombstone, *, embedder: str, saved_us: int) -> dict[str, Json]:
    """The fields that are stored; whole numbers and text only, so that what is read back is equal."""
    if isinstance(write, Tombstone):
        return _payload(write, asdict(write), saved_us) | {"buried": 1}
    entry = write.entry
    fields = {
        "tenant": entry.tenant,
        "namespace": entry.namespace,
        "scope": entry.scope,
        "key": entry.key,
        "question": entry.question,
        "answer": asdict(entry.whole_answer),
        "embedder": embedder,
        "source": entry.source.value,
        "tags": entry.tags,
        "created_us": entry.created_us,
        "updated_us": entry.updated_us,
        "expires_us": entry.expires_us,
        "ver": entry.ver,
        "epoch": entry.epoch,
        "decided_by": entry.decided_by,
        "writer": entry.writer,
    }
    if entry.sources:
        fields["sources"] = entry.sources
    if entry.origin is not None:
        fields["origin"] = asdict(entry.origin) | {"digest": entry.origin.digest.hex()}
    if entry.review.said:
        fields["answered_us"] = entry.answered_us
        fields["review"] = asdict(entry.review)
    return _payload(entry, fields, saved_us)


def head(record: Record) -> Head | None:
    """What tells whether a record is news; None if another version of this software wrote it, or it is damaged."""
    payload: Mapping[str, Any] = record.payload
    if payload.get("schema") != SCHEMA:
        return None
    try:
        tenant, _, namespace = payload["ns"].rpartition("|")
        return Head(
            id=record.id,
            tenant=tenant,
            namespace=namespace,
            ver=int(payload["ver"]),
            epoch=int(payload["epoch"]),
            buried=payload.get("buried") == 1,
            saved_us=int(payload["saved_us"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def from_record(record: Record, *, embedder: str, dim: int) -> Write | Tombstone | Unreadable:
    """What a record says, or why it cannot be read."""
    if record.payload.get("schema") != SCHEMA:
        return Unreadable.SCHEMA
    text = record.payload.get("record")
    if not isinstance(text, str):
        return Unreadable.CONTENT
    content = text[_CHECKSUM:].encode()
    if text[:_CHECKSUM] != _checksum(content):
        return Unreadable.CHECKSUM
    try:
        fields = orjson.loads(content)
        if "answer" not in fields:
            return Tombstone(**fields)
        return _checked(_entry(record.id, fields), fields, record.vector, embedder=embedder, dim=dim)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Unreadable.CONTENT


def _checked(
    entry: Entry, fields: Mapping[str, Any], vector: Vector | None, *, embedder: str, dim: int
) -> Write | Unreadable:
    if entry.id != entry_id(entry.scope, entry.key) or fields["embedder"] != embedder:
        return Unreadable.CONTENT
    if vector is not None and not _is_unit(vector, dim):
        return Unreadable.CONTENT
    return Write(entry, vector)


def _payload(one: Entry | Tombstone, fields: Mapping[str, Any], saved_us: int) -> dict[str, Json]:
    record = orjson.dumps(fields)
    return {
        "schema": SCHEMA,
        "ns": partition(one.tenant, one.namespace),
        "updated_us": one.updated_us,
        "saved_us": saved_us,
        "expires_us": one.expires_us,
        "ver": one.ver,
        "epoch": one.epoch,
        "record": _checksum(record) + record.decode(),
    }


def _entry(record_id: str, fields: Mapping[str, Any]) -> Entry:
    # Of what many entries have in common memory needs one copy.
    return Entry(
        id=record_id,
        tenant=intern(fields["tenant"]),
        namespace=intern(fields["namespace"]),
        scope=intern(fields["scope"]),
        key=fields["key"],
        question=fields["question"],
        answer=_answer(fields["answer"]),
        created_us=fields["created_us"],
        updated_us=fields["updated_us"],
        expires_us=fields["expires_us"],
        ver=fields["ver"],
        epoch=fields["epoch"],
        source=_SOURCES[fields["source"]],
        tags=tuple(map(intern, fields["tags"])),
        decided_by=intern(fields["decided_by"]),
        writer=intern(fields["writer"]),
        sources=tuple((name, version) for name, version in fields.get("sources", ())),
        answered_us=fields.get("answered_us", 0),
        review=_review(fields["review"]) if "review" in fields else UNREVIEWED,
        origin=_origin(**{**fields["origin"], "lengths": tuple(fields["origin"]["lengths"])})
        if "origin" in fields
        else None,
    )


@lru_cache(maxsize=KEPT_ORIGINS)
def _origin(*, digest: str, **fields: Any) -> Origin:
    return Origin(digest=bytes.fromhex(digest), **fields)


def _review(fields: dict[str, Any]) -> Review:
    quarantine = fields["quarantine"]
    return Review(
        said=tuple(Said(**{**said, "source": FeedbackSource(said["source"])}) for said in fields["said"]),
        quarantine=None if quarantine is None else Quarantine(**quarantine),
    )


def _answer(fields: dict[str, Any]) -> Answer:
    calls, cost = fields["tool_calls"], fields["cost"]
    cost["price_version"] = intern(cost["price_version"])
    fields["finish_reason"] = _FINISH_REASONS[fields["finish_reason"]]
    fields["model"], fields["upstream"] = intern(fields["model"]), intern(fields["upstream"])
    fields["tool_calls"] = tuple(ToolCall(**call) for call in calls) if calls else ()
    fields["usage"], fields["cost"] = Usage(**fields["usage"]), Cost(**cost)
    return Answer(**fields)


def _checksum(record: bytes) -> str:
    return hashlib.blake2b(record, digest_size=_CHECKSUM // 2).hexdigest()


def _is_unit(vector: Vector, dim: int) -> bool:
    # In f32 as it is stored: a start reads many, and rounding costs far less than what is tolerated.
    return vector.shape == (dim,) and abs(math.sqrt(np.dot(vector, vector)) - 1.0) <= NORM_TOLERANCE
