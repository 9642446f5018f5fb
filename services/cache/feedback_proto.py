"""Between `antiphon.cache.v1.Feedback`, what is kept of it, and plain values.

Every `read_*` raises `InvalidRequest` naming the field that is wrong.
"""

from __future__ import annotations

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache.entry import MICROSECONDS
from services.cache.feedback import Feedback, Reviewed
from services.cache.proto import read_namespace
from services.cache.review import FeedbackSource, Quarantine, Review
from services.llm.fields import invalid, missing
from services.llm.reading import read_timestamp
from services.llm.writing import write_timestamp

MAX_ID = 128
"""Characters of what callers call things."""

_SOURCES = {
    pb.FEEDBACK_SOURCE_USER: FeedbackSource.USER,
    pb.FEEDBACK_SOURCE_JUDGE: FeedbackSource.JUDGE,
    pb.FEEDBACK_SOURCE_AUDIT: FeedbackSource.AUDIT,
    pb.FEEDBACK_SOURCE_OPERATOR: FeedbackSource.OPERATOR,
}


def read_feedback(request: pb.FeedbackRequest, key_id: str) -> Feedback:
    """What is said, by the API key with this id."""
    if not request.entry_id:
        raise missing("entry_id", "is required")
    if request.verdict == pb.VERDICT_UNSPECIFIED:
        raise missing("verdict", "is required")
    if request.source == pb.FEEDBACK_SOURCE_UNSPECIFIED:
        raise missing("source", "is required")
    for path in ("entry_id", "feedback_id", "lookup_id", "user"):
        if len(getattr(request, path)) > MAX_ID:
            raise invalid(path, f"at most {MAX_ID} characters")
    return Feedback(
        entry_id=request.entry_id,
        source=_SOURCES[request.source],
        right=request.verdict == pb.VERDICT_RIGHT,
        semantic=request.served == pb.OUTCOME_SEMANTIC,
        namespace=read_namespace(request.namespace) if request.namespace else "",
        key_id=key_id,
        user=request.user,
        id=request.feedback_id or request.lookup_id,
        lookup_id=request.lookup_id,
        answered_us=round(read_timestamp(request.answer_create_time, "answer_create_time") * MICROSECONDS),
    )


def write_reviewed(reviewed: Reviewed) -> pb.FeedbackResponse:
    """What became of it."""
    quarantine = write_quarantine(reviewed.entry.review.quarantine)
    return pb.FeedbackResponse(recorded=reviewed.recorded, quarantine=quarantine)


def write_quarantine(quarantine: Quarantine | None) -> pb.Quarantine | None:
    """Why an entry is not served."""
    if quarantine is None:
        return None
    since = write_timestamp(quarantine.at_us / MICROSECONDS)
    return pb.Quarantine(rule=quarantine.rule, since=since, whole=quarantine.whole)


def write_counts(review: Review) -> list[pb.FeedbackCount]:
    """How often an entry was called right and wrong, by source; what nobody said is left out."""
    counts = []
    for number, source in _SOURCES.items():
        said = [one.right for one in review.said if one.source is source]
        if said:
            counts.append(pb.FeedbackCount(source=number, right=sum(said), wrong=len(said) - sum(said)))
    return counts
