"""Between `antiphon.cache.v1.Export` and plain values.

Every `read_*` raises `InvalidRequest` naming the field that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.timestamp_pb2 import Timestamp

from antiphon.cache.v1 import transfer_pb2 as pb
from services.cache.exporting import Exported, ExportPage
from services.cache.portable import Portable
from services.cache.proto import read_namespace, read_tags
from services.llm.fields import invalid, missing
from services.llm.writing import write_answer

MAX_NAMESPACES = 100

PART_BYTES = 256 * 1024
"""Of entries in one message, unless a single one has more: what waits for a slow reader besides gRPC's own window."""


def read_exported(request: pb.ExportRequest) -> Exported:
    """What shall be exported."""
    if len(request.namespaces) > MAX_NAMESPACES:
        raise invalid("namespaces", f"at most {MAX_NAMESPACES}")
    names = [read_named(name, f"namespaces[{i}]") for i, name in enumerate(request.namespaces)]
    return Exported(frozenset(names), frozenset(read_tags(request.tags, "tags")), request.vectors)


def write_portable(entry: Portable) -> pb.PortableEntry:
    """An entry as it leaves."""
    origin, review = entry.origin, entry.review
    written = pb.PortableEntry(
        namespace=entry.namespace,
        model=origin.model,
        question=origin.parts(entry.question) if origin.in_words or entry.question else (),
        context_digest=origin.digest,
        address_version=entry.version,
        author=origin.author,
        last_message_hashed=not origin.in_words,
        in_conversation=origin.follows,
        answer=write_answer(entry.answer),
        create_time=_time(entry.created_us),
        expire_time=_time(entry.expires_us),
        tags=entry.tags,
        source_versions=dict(entry.sources),
        source=entry.source.value,
        writer=entry.writer,
        decision_version=entry.decided_by,
        verdicts=[
            pb.PortableVerdict(
                source=said.source.value,
                by=said.by,
                id=said.id,
                right=said.right,
                semantic=said.semantic,
                time=_time(said.at_us),
            )
            for said in review.said
        ],
    )
    if review.quarantine is not None:
        held = review.quarantine
        written.quarantine.CopyFrom(pb.PortableQuarantine(rule=held.rule, whole=held.whole, since=_time(held.at_us)))
    if entry.vector is not None:
        vector = entry.vector.astype("<f4", copy=False)
        written.embedding.CopyFrom(pb.PortableVector(embedder=entry.embedder, vector=vector.tobytes(), dim=len(vector)))
    return written


class ExportParts:
    """Responses of about the same size, and their count."""

    def __init__(self) -> None:
        self._end = pb.ExportEnd()

    def of(self, page: ExportPage) -> Iterator[pb.ExportResponse]:
        """The entries of a page."""
        self._end.not_portable += page.not_portable
        response, size = pb.ExportResponse(), 0
        for portable in page.entries:
            entry = write_portable(portable)
            if size and size + entry.ByteSize() > PART_BYTES:
                yield response
                response, size = pb.ExportResponse(), 0
            response.entries.entries.append(entry)
            size += entry.ByteSize()
            self._end.entries += 1
        if size:
            yield response

    def end(self) -> pb.ExportResponse:
        """The last response."""
        return pb.ExportResponse(end=self._end)


def read_named(name: str, path: str) -> str:
    """A namespace that has to be named."""
    if not name:
        raise missing(path, "is required")
    return read_namespace(name, path)


def _time(us: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(us)
    return timestamp
