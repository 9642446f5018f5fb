"""The table from what upstreams answer to our errors."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import AntiphonError, Exhausted, FailedPrecondition, InvalidRequest, Reason, Unavailable
from services.completion.upstreams.failures import Complaint, of_status, retry_after

NOW = 1_800_000_000.0


def mapped(status: int, **error: Any) -> AntiphonError:
    return of_status("up", status, Complaint.read(error))


@pytest.mark.parametrize(
    ("status", "error", "kind", "reason"),
    [
        (400, {}, InvalidRequest, Reason.UPSTREAM_REJECTED),
        (422, {}, InvalidRequest, Reason.UPSTREAM_REJECTED),
        (400, {"code": "context_length_exceeded"}, InvalidRequest, Reason.CONTEXT_TOO_LONG),
        (400, {"type": "exceed_context_size_error", "code": 400}, InvalidRequest, Reason.CONTEXT_TOO_LONG),
        (
            400,
            {"message": "This model's maximum context length is 4096 tokens.", "code": 400},
            InvalidRequest,
            Reason.CONTEXT_TOO_LONG,
        ),
        (413, {}, InvalidRequest, Reason.CONTEXT_TOO_LONG),
        (400, {"code": "content_filter"}, FailedPrecondition, Reason.CONTENT_FILTERED),
        (
            400,
            {"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
            FailedPrecondition,
            Reason.CONTENT_FILTERED,
        ),
        (401, {}, FailedPrecondition, Reason.UPSTREAM_UNAUTHENTICATED),
        (403, {}, FailedPrecondition, Reason.UPSTREAM_UNAUTHENTICATED),
        (404, {"code": "model_not_found"}, FailedPrecondition, Reason.UPSTREAM_REJECTED),
        (429, {}, Exhausted, Reason.UPSTREAM_RATE_LIMITED),
        (402, {}, Exhausted, Reason.UPSTREAM_RATE_LIMITED),
        *((code, {}, Unavailable, Reason.UPSTREAM_UNAVAILABLE) for code in (408, 409, 425, 500, 502, 503, 529)),
        *((code, {}, Unavailable, Reason.UPSTREAM_MALFORMED) for code in (301, 307)),
    ],
)
def test_statuses(status: int, error: Any, kind: type[AntiphonError], reason: Reason) -> None:
    found = mapped(status, **error)
    assert (type(found), found.reason) == (kind, reason)
    assert found.metadata["upstream"] == "up"
    assert found.metadata["upstream_status"] == str(status)


def test_a_spent_quota_is_told_apart_and_not_to_be_hurried() -> None:
    spent, limited = mapped(429, code="insufficient_quota"), mapped(429, code="rate_limit_exceeded")
    assert spent.metadata["upstream_code"] == "insufficient_quota"
    assert limited.metadata["upstream_code"] == "rate_limit_exceeded"
    assert spent.retry_after == 60
    assert limited.retry_after is None


@pytest.mark.parametrize(
    ("param", "field"),
    [
        ("temperature", "options.temperature"),
        ("messages[3].content", "messages"),
        ("max_completion_tokens", "options.max_output_tokens"),
        ("response_format.json_schema.name", "options.response_format"),
        ("sk-secret", None),
        (None, None),
        (7, None),
    ],
)
def test_the_field_at_fault_is_named_in_our_words(param: object, field: str | None) -> None:
    assert mapped(400, param=param).field == field


@given(
    st.sampled_from([301, 400, 401, 403, 404, 408, 413, 422, 429, 500, 503]),
    st.dictionaries(st.sampled_from(["code", "type", "message", "param"]), st.just("sk-SECRET prompt")),
)
def test_nothing_that_the_upstream_wrote_is_passed_on(status: int, error: dict[str, str]) -> None:
    found = mapped(status, **error)
    assert "SECRET" not in f"{found} {found.field} {dict(found.metadata)}"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "99999999"}, 86_400),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, lambda: NOW) == seconds


@given(st.text())
def test_no_header_value_breaks_it(value: str) -> None:
    seconds = retry_after({"retry-after": value, "retry-after-ms": value}, lambda: NOW)
    assert seconds is None or 0 <= seconds <= 86_400
