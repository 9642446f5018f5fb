"""Between `antiphon.cache.v1.Import` and plain values.

Every `read_*` raises `InvalidRequest` naming the field that is wrong, in an entry from the entry on.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence

import numpy as np

from antiphon.cache.v1 import transfer_pb2 as pb
from services.cache.entry import Source
from services.cache.exporting_proto import read_named
from services.cache.importing import Fate, Line, Taken, Terms
from services.cache.origin import Origin, lengths_of
from services.cache.portable import Portable
from services.cache.proto import MAX_ANSWER_BYTES, read_sources, read_tags
from services.cache.quarantine import USERS
from services.cache.review import VOICES, FeedbackSource, Quarantine, Review, Said
from services.cache.values import Vector
from services.chassis.errors import InvalidRequest
from services.chassis.unknown_enums import finder, refuse_unknown
from services.llm.fields import invalid, is_blank, missing
from services.llm.reading import MAX_NAME, MAX_PARTS, read_answer
from services.llm.values import TextPart

MAX_LINES = 1_000
MAX_MODEL = 1_024
MAX_WORD = 64
MAX_VERSION = 128
DIGEST_BYTES = 32

STEP = 32
"""Lines that are read before others may run: about 2 ms."""

NORM_TOLERANCE = 1e-3
"""Of an embedding's norm from 1, as in the store's records."""

_RULES = frozenset({*(source.value for source in FeedbackSource if source is not FeedbackSource.USER), USERS})
_SOURCES = {"": Source.PUT, **{source.value: source for source in Source}}
_KEY_ID = re.compile(r"[A-Za-z0-9._:-]{0,64}")
_UNKNOWN_ENUM = finder(pb.PortableEntry.DESCRIPTOR)


def read_terms(options: pb.ImportOptions) -> Terms:
    """How an import goes."""
    return Terms(options.strict, options.dry_run, read_tags(options.tags, "options.tags"))


async def read_lines(lines: Sequence[pb.ImportLine], before: int) -> list[Line]:
    """Each line, or what is wrong with it; `before`: how many came before them. Raises InvalidRequest for too many."""
    if len(lines) > MAX_LINES:
        raise invalid("lines", f"at most {MAX_LINES}")
    read = []
    for place, line in enumerate(lines, start=1):
        try:
            refuse_unknown(_UNKNOWN_ENUM, line.entry)
            entry: Portable | InvalidRequest = read_portable(line.entry)
        except InvalidRequest as error:
            entry = error
        read.append(Line(line.number or before + place, entry))
        if place % STEP == 0:
            await asyncio.sleep(0)
    return read


def read_portable(entry: pb.PortableEntry) -> Portable:
    """An entry as it comes."""
    for path in ("namespace", "model", "context_digest"):
        if not getattr(entry, path):
            raise missing(path, "is required")
    for path, most in (("model", MAX_MODEL), ("author", MAX_NAME), ("decision_version", MAX_VERSION)):
        if len(getattr(entry, path)) > most:
            raise invalid(path, f"at most {most} characters")
    if len(entry.context_digest) != DIGEST_BYTES:
        raise invalid("context_digest", f"must be {DIGEST_BYTES} bytes")
    if len(entry.question) > MAX_PARTS:
        raise invalid("question", f"at most {MAX_PARTS} parts")
    if not entry.last_message_hashed and all(map(is_blank, entry.question)):
        raise missing("question", "is required")
    if not entry.HasField("answer"):
        raise missing("answer", "is required")
    if entry.answer.ByteSize() > MAX_ANSWER_BYTES:
        raise invalid("answer", f"at most {MAX_ANSWER_BYTES} bytes")
    if entry.source not in _SOURCES:
        raise invalid("source", "must be one of fill, put")
    if not _KEY_ID.fullmatch(entry.writer):
        raise invalid("writer", "must be the id of an API key: at most 64 of A-Z a-z 0-9 . _ : -")
    parts = tuple(entry.question)
    return Portable(
        namespace=read_named(entry.namespace, "namespace"),
        question="\n".join(parts),
        origin=Origin(
            model=entry.model,
            digest=entry.context_digest,
            author=entry.author,
            in_words=not entry.last_message_hashed,
            follows=entry.in_conversation,
            lengths=lengths_of(tuple(map(TextPart, parts))),
        ),
        version=entry.address_version,
        answer=read_answer(entry.answer),
        created_us=_required(entry, "create_time"),
        expires_us=_required(entry, "expire_time"),
        tags=read_tags(entry.tags, "tags"),
        sources=read_sources(entry.source_versions, "source_versions"),
        source=_SOURCES[entry.source],
        writer=entry.writer,
        decided_by=entry.decision_version,
        review=_review(entry),
        vector=_vector(entry.embedding) if entry.HasField("embedding") else None,
        embedder=entry.embedding.embedder,
    )


def write_taken(taken: Taken) -> pb.ImportResponse:
    """What became of all lines."""
    return pb.ImportResponse(
        stored=taken.fates[Fate.STORED],
        unchanged=taken.fates[Fate.UNCHANGED],
        older=taken.fates[Fate.OLDER],
        expired=taken.fates[Fate.EXPIRED],
        refused=dict(taken.refused),
        problems=[
            pb.ImportProblem(line=one.line, reason=one.reason, field=one.field, message=one.message)
            for one in taken.problems
        ],
        embeddings_waiting=taken.late,
    )


def _required(entry: pb.PortableEntry | pb.PortableVerdict | pb.PortableQuarantine, name: str, path: str = "") -> int:
    """A time that has to be there, as Unix microseconds."""
    path = path or name
    if not entry.HasField(name):  # type: ignore[arg-type]  # all three have it
        raise missing(path, "is required")
    try:
        return int(getattr(entry, name).ToMicroseconds())
    except ValueError:
        raise invalid(path, "must be a time between the years 1 and 9999") from None


def _review(entry: pb.PortableEntry) -> Review:
    if len(entry.verdicts) > VOICES:
        raise invalid("verdicts", f"at most {VOICES}")
    return Review(tuple(_said(one, f"verdicts[{i}]") for i, one in enumerate(entry.verdicts)), _held(entry))


def _said(verdict: pb.PortableVerdict, path: str) -> Said:
    try:
        source = FeedbackSource(verdict.source)
    except ValueError:
        raise invalid(f"{path}.source", f"must be one of {', '.join(FeedbackSource)}") from None
    for name in ("by", "id"):
        if len(getattr(verdict, name)) > MAX_WORD:
            raise invalid(f"{path}.{name}", f"at most {MAX_WORD} characters")
    at_us = _required(verdict, "time", f"{path}.time")
    return Said(source, verdict.by, verdict.id, verdict.right, verdict.semantic, at_us)


def _held(entry: pb.PortableEntry) -> Quarantine | None:
    if not entry.HasField("quarantine"):
        return None
    held = entry.quarantine
    if held.rule not in _RULES:
        raise invalid("quarantine.rule", f"must be one of {', '.join(sorted(_RULES))}")
    return Quarantine(held.rule, held.whole, _required(held, "since", "quarantine.since"))


def _vector(embedding: pb.PortableVector) -> Vector:
    if not embedding.embedder:
        raise missing("embedding.embedder", "is required")
    if embedding.dim < 1 or len(embedding.vector) != 4 * embedding.dim:
        raise invalid("embedding.vector", "must have four bytes for each of its dimensions")
    vector = np.frombuffer(embedding.vector, "<f4").astype(np.float32)
    norm = math.sqrt(float(np.dot(vector.astype(np.float64), vector.astype(np.float64))))
    if not abs(norm - 1.0) <= NORM_TOLERANCE:  # nor if it is not a number
        raise invalid("embedding.vector", "must be of norm 1")
    return vector
