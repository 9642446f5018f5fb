"""Between what operators look into, `Explain` and `ListEntries`, and plain values.

Every `read_*` raises `InvalidRequest` naming the field that is wrong.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache.entry import MICROSECONDS, Entry, text_bytes
from services.cache.explaining import Explanation
from services.cache.feedback_proto import write_counts, write_quarantine
from services.cache.listing import Page, Place, Wanted
from services.cache.proto import MATCHED_PROMPT, MAX_TAG, OUTCOMES, read_namespace, write_decision
from services.cache.values import Decision
from services.llm.fields import invalid
from services.llm.writing import write_timestamp

SCOPE_DIGITS = 16


def read_limit(value: int, *, default: int, most: int, path: str) -> int:
    """How many are wanted; 0 is the default."""
    if not 0 <= value <= most:
        raise invalid(path, f"must be 1 to {most}")
    return value or default


def write_explanation(explanation: Explanation, *, model: str, embedder: str, version: str) -> pb.ExplainResponse:
    """What a lookup would do, and why."""
    address, bar = explanation.address, explanation.bar
    response = pb.ExplainResponse(
        outcome=OUTCOMES[explanation.outcome],
        rule=explanation.ruling.value,
        entry_id=explanation.entry.id if explanation.entry else "",
        decision=_decided(explanation.decision, explanation.entry, version),
        bypass_reason=explanation.bypass_reason.value if explanation.bypass_reason else "",
        threshold=bar.cosine if bar else None,
        score_threshold=bar.score if bar else None,
        scope=pb.ExplainedScope(
            tenant=address.tenant,
            namespace=address.namespace,
            model=model,
            embedder=embedder,
            hash=address.scope[:SCOPE_DIGITS],
            entry_id=address.entry_id,
            comparable_entries=explanation.comparable,
        ),
        quarantine=write_quarantine(explanation.quarantine),
    )
    for judged in explanation.candidates:
        response.candidates.add(
            entry_id=judged.entry.id,
            prompt=judged.entry.question[:MATCHED_PROMPT],
            decision=_decided(judged.decision, judged.entry, version),
            features={name: value for name, value in judged.features.items() if value},
            model=judged.entry.answer.model,
            quarantine=write_quarantine(judged.entry.review.quarantine),
        )
    return response


def read_wanted(request: pb.ListEntriesRequest) -> Wanted:
    """Which entries a request means."""
    if len(request.tag) > MAX_TAG:
        raise invalid("tag", f"at most {MAX_TAG} characters")
    return Wanted(
        namespace=read_namespace(request.namespace) if request.namespace else "",
        model=request.model,
        tag=request.tag,
        writer=request.writer,
        quarantined=request.quarantined if request.HasField("quarantined") else None,
    )


def read_place(token: str) -> Place | None:
    """Where a page begins."""
    if not token:
        return None
    try:
        namespace, separator, entry_id = b64decode(token, validate=True).decode().partition("|")
    except ValueError:
        separator = ""
    if not separator:
        raise invalid("page_token", "must be a next_page_token")
    return Place(namespace, entry_id)


def write_page(page: Page, *, embedder: str) -> pb.ListEntriesResponse:
    """A page of entries."""
    response = pb.ListEntriesResponse()
    if page.next is not None:
        response.next_page_token = b64encode(f"{page.next.namespace}|{page.next.entry_id}".encode()).decode()
    for entry in page.entries:
        response.entries.add(
            entry_id=entry.id,
            namespace=entry.namespace,
            prompt=entry.question[:MATCHED_PROMPT],
            model=entry.answer.model,
            source=entry.source.value,
            tags=entry.tags,
            create_time=write_timestamp(entry.created_us / MICROSECONDS),
            update_time=write_timestamp(entry.written_us / MICROSECONDS),
            expire_time=write_timestamp(entry.expires_at),
            bytes=text_bytes(entry.question, entry.answer),
            embedder=embedder,
            decision_version=entry.decided_by,
            writer=entry.writer,
            quarantine=write_quarantine(entry.review.quarantine),
            feedback=write_counts(entry.review),
        )
    for written, hits in zip(response.entries, page.hits, strict=False):
        written.hits = hits
    return response


def _decided(decision: Decision, entry: Entry | None, version: str) -> pb.Decision:
    written = write_decision(decision, version)
    if entry is not None:
        written.matched_prompt = entry.question[:MATCHED_PROMPT]
        written.expire_time.CopyFrom(write_timestamp(entry.expires_at))
    return written
