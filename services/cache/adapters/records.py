"""An entry as a payload of the store, and back.

The schema has a number and every record a checksum over its fields: a record of another version of this software, or
one that was damaged, is left alone and never served.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Any

import numpy as np
import orjson

from services.cache.entry import Entry, Source
from services.cache.ports import Write
from services.cache.review import UNREVIEWED, FeedbackSource, Quarantine, Review, Said
from services.cache.scope import entry_id
from services.cache.values import Vector
from services.llm.values import Answer, Cost, FinishReason, ToolCall, Usage
from services.storage import Json, Record

SCHEMA = 1
"""Raise it with every change of the fields below; records of other numbers are skipped. A field that may be absent, and
that an older reader may ignore, is no change."""

NORM_TOLERANCE = 1e-3
"""Of a stored vector's norm from 1; rounding to f32 costs less than 1e-6."""


class Unreadable(StrEnum):
    """Why a record was skipped."""

    SCHEMA = "unknown_schema"
    CHECKSUM = "bad_checksum"
    CONTENT = "bad_content"


def partition(tenant: str, namespace: str) -> str:
    """The value of `ns`: a namespace has no `|`, so the last one separates."""
    return f"{tenant}|{namespace}"


def to_payload(entry: Entry, *, embedder: str) -> dict[str, Json]:
    """The fields that are stored; whole numbers and text only, so that what is read back is equal."""
    payload: dict[str, Json] = {
        "schema": SCHEMA,
        "ns": partition(entry.tenant, entry.namespace),
        "scope": entry.scope,
        "key": entry.key,
        "question": entry.question,
        "answer": orjson.dumps(_answer_fields(entry.answer)).decode(),
        "model": entry.answer.model,
        "embedder": embedder,
        "source": entry.source.value,
        "tags": list(entry.tags),
        "created_us": entry.created_us,
        "updated_us": entry.updated_us,
        "expires_us": entry.expires_us,
        "ver": entry.ver,
        "epoch": entry.epoch,
        "decided_by": entry.decided_by,
        "writer": entry.writer,
    }
    if entry.review.said:
        payload["answered_us"] = entry.answered_us
        payload["review"] = orjson.dumps(asdict(entry.review)).decode()
    payload["checksum"] = _checksum(payload)
    return payload


def from_record(record: Record, *, embedder: str, dim: int) -> Write | Unreadable:
    """The entry in a record, or why it cannot be read."""
    payload = record.payload
    if payload.get("schema") != SCHEMA:
        return Unreadable.SCHEMA
    fields = dict(payload)
    if fields.pop("checksum", None) != _checksum(fields):
        return Unreadable.CHECKSUM
    try:
        entry = _entry(record.id, payload)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Unreadable.CONTENT
    if entry.id != entry_id(entry.scope, entry.key) or payload.get("embedder") != embedder:
        return Unreadable.CONTENT
    if record.vector is not None and not _is_unit(record.vector, dim):
        return Unreadable.CONTENT
    return Write(entry, record.vector)


def _entry(record_id: str, payload: Mapping[str, Any]) -> Entry:
    tenant, _, namespace = payload["ns"].rpartition("|")
    return Entry(
        id=record_id,
        tenant=tenant,
        namespace=namespace,
        scope=payload["scope"],
        key=payload["key"],
        question=payload["question"],
        answer=_answer(orjson.loads(payload["answer"])),
        created_us=payload["created_us"],
        updated_us=payload["updated_us"],
        expires_us=payload["expires_us"],
        ver=payload["ver"],
        epoch=payload["epoch"],
        source=Source(payload["source"]),
        tags=tuple(payload["tags"]),
        decided_by=str(payload.get("decided_by", "")),
        writer=str(payload.get("writer", "")),
        answered_us=int(payload.get("answered_us", 0)),
        review=_review(orjson.loads(payload["review"])) if "review" in payload else UNREVIEWED,
    )


def _review(fields: dict[str, Any]) -> Review:
    quarantine = fields["quarantine"]
    return Review(
        said=tuple(Said(**{**said, "source": FeedbackSource(said["source"])}) for said in fields["said"]),
        quarantine=None if quarantine is None else Quarantine(**quarantine),
    )


def _answer_fields(answer: Answer) -> dict[str, Any]:
    return asdict(answer)


def _answer(fields: dict[str, Any]) -> Answer:
    return Answer(
        **{
            **fields,
            "finish_reason": FinishReason(fields["finish_reason"]),
            "tool_calls": tuple(ToolCall(**call) for call in fields["tool_calls"]),
            "usage": Usage(**fields["usage"]),
            "cost": Cost(**fields["cost"]),
        }
    )


def _checksum(payload: Mapping[str, Json]) -> str:
    return hashlib.blake2b(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _is_unit(vector: Vector, dim: int) -> bool:
    # In f32 as it is stored: a start reads many, and rounding costs far less than what is tolerated.
    return vector.shape == (dim,) and abs(math.sqrt(np.dot(vector, vector)) - 1.0) <= NORM_TOLERANCE
