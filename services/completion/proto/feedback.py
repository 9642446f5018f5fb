"""Reads a request of `SubmitFeedback` into plain values and checks it."""

from __future__ import annotations

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from services.completion.feedback import Submitted
from services.completion.proto.words import SOURCES
from services.llm.fields import invalid, missing

MAX_ID = 128
"""Characters."""


def read_submitted(request: completion_pb2.SubmitFeedbackRequest) -> Submitted:
    """Read and check a request. Raises InvalidRequest."""
    if not request.completion_id:
        raise missing("completion_id", "is required")
    if request.verdict == cache_pb2.VERDICT_UNSPECIFIED:
        raise missing("verdict", "is required")
    for path in ("completion_id", "user"):
        if len(getattr(request, path)) > MAX_ID:
            raise invalid(path, f"at most {MAX_ID} characters")
    right = request.verdict == cache_pb2.VERDICT_RIGHT
    return Submitted(request.completion_id, right, SOURCES[request.source], request.user)
