"""The one table from what an upstream answered to our errors.

Upstreams quote keys and prompts in their error texts. So nothing of what they wrote is passed on: our sentences are
fixed, and of their codes and parameter names only those listed here appear.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from services.chassis.errors import (
    AntiphonError,
    Exhausted,
    FailedPrecondition,
    InvalidRequest,
    Reason,
    Unavailable,
)

MAX_RETRY_AFTER_SECONDS = 86_400.0
"""Longest wait that we believe; a rate limit that lasts longer is a configuration matter."""

QUOTA_RETRY_SECONDS = 60.0
"""Said to callers when the account's quota is spent: waiting alone does not help, hurrying even less."""

_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_STATUS_OF_CODE: Mapping[str, int] = {
    **dict.fromkeys(_CONTEXT_CODES, 400),
    **dict.fromkeys(_FILTER_CODES, 400),
    **dict.fromkeys(_QUOTA_CODES, 429),
    "BadRequestError": 400,
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "unsupported_parameter": 400,
    "unsupported_value": 400,
    "string_above_max_length": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "tokens": 429,
    "requests": 429,
    "api_error": 500,
    "internal_server_error": 500,
    "server_error": 500,
    "overloaded_error": 503,
    "server_overloaded": 503,
    "service_unavailable": 503,
}
"""Codes and types of OpenAI, Azure, Anthropic's compatible endpoint, vLLM and llama.cpp, with the HTTP status that goes
with each. An error inside a stream has only these."""

_CONTEXT_TEXT = re.compile(
    r"maximum context length|context window|context size|context_length|prompt is too long|input is too long",
    re.IGNORECASE,
)
"""vLLM, TGI and others report an overlong prompt as a plain 400; only their sentence tells."""

_FIELD_OF_PARAM: Mapping[str, str] = {
    "messages": "messages",
    "model": "model",
    "tools": "tools",
    "max_tokens": "options.max_output_tokens",
    "max_completion_tokens": "options.max_output_tokens",
    **{
        name: f"options.{name}"
        for name in (
            *("temperature", "top_p", "stop", "seed", "response_format", "tool_choice", "parallel_tool_calls"),
            *("presence_penalty", "frequency_penalty", "reasoning_effort", "logprobs", "top_logprobs"),
        )
    },
}


_TRANSIENT = frozenset({408, 409, 425})
"""Statuses of the 4xx class that say nothing against the request: timeout, conflict, too early."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """What we read out of an upstream's error object; all empty if there was none to read."""

    codes: tuple[str, ...] = ()
    """`code` and `type` as they were written."""
    param: str = ""
    text: str = ""
    """For matching only, never passed on."""

    @classmethod
    def read(cls, error: object) -> Complaint:
        """Read the value of `error`, or the whole object where the fields stand outside."""
        if isinstance(error, str):
            return cls(text=error)
        if not isinstance(error, Mapping):
            return cls()
        inner = error.get("innererror")
        written = [error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, Mapping) else None]
        codes = [str(value) for value in written if isinstance(value, str | int) and not isinstance(value, bool)]
        if isinstance(error.get("metadata"), Mapping) and "flagged_input" in error["metadata"]:
            codes.append("content_filter")  # OpenRouter says so with status 403
        param, text = error.get("param"), error.get("message")
        return cls(tuple(codes), param if isinstance(param, str) else "", text if isinstance(text, str) else "")

    def status(self) -> int:
        """The HTTP status that this would have been, had the stream not begun: 502 if nothing tells."""
        for code in self.codes:
            if code in _STATUS_OF_CODE:
                return _STATUS_OF_CODE[code]
            if re.fullmatch(r"[45]\d\d", code):
                return int(code)
        return 502


def of_status(upstream: str, status: int, complaint: Complaint, *, retry_after: float | None = None) -> AntiphonError:
    """Return the error for an answer with this HTTP status."""
    metadata = {"upstream": upstream, "upstream_status": str(status)}
    known = next((code for code in complaint.codes if code in _STATUS_OF_CODE), None)
    if known is not None:
        metadata["upstream_code"] = known
    codes = set(complaint.codes)
    who = f"upstream '{upstream}'"
    error: AntiphonError
    if 300 <= status < 400:
        error = Unavailable(
            f"{who} redirects (HTTP {status}), which is refused: keys and prompts go only where the catalogue says",
            reason=Reason.UPSTREAM_MALFORMED,
            metadata=metadata,
        )
    elif status in {401, 403} and not codes & _FILTER_CODES:
        error = FailedPrecondition(
            f"{who} refuses our credential (HTTP {status})", reason=Reason.UPSTREAM_UNAUTHENTICATED, metadata=metadata
        )
    elif status == 402 or codes & _QUOTA_CODES:
        error = Exhausted(
            f"the account at {who} has no quota left (HTTP {status})",
            reason=Reason.UPSTREAM_RATE_LIMITED,
            retry_after=QUOTA_RETRY_SECONDS if retry_after is None else retry_after,
            metadata={**metadata, "upstream_code": "insufficient_quota"},
        )
    elif status == 429:
        error = Exhausted(
            f"{who} limits the rate of requests (HTTP 429)",
            reason=Reason.UPSTREAM_RATE_LIMITED,
            retry_after=retry_after,
            metadata=metadata,
        )
    elif codes & _FILTER_CODES:
        error = FailedPrecondition(
            f"the content filter of {who} refuses the prompt", reason=Reason.CONTENT_FILTERED, metadata=metadata
        )
    elif status == 413 or codes & _CONTEXT_CODES or (status in {400, 422} and _CONTEXT_TEXT.search(complaint.text)):
        error = InvalidRequest(
            f"the prompt is longer than the model at {who} accepts",
            reason=Reason.CONTEXT_TOO_LONG,
            field="messages",
            metadata=metadata,
        )
    elif status == 404:
        error = FailedPrecondition(
            f"{who} does not know the model, or its base_url is wrong (HTTP 404)",
            reason=Reason.UPSTREAM_REJECTED,
            metadata=metadata,
        )
    elif 400 <= status < 500 and status not in _TRANSIENT:
        error = InvalidRequest(
            f"{who} rejects the request (HTTP {status})",
            reason=Reason.UPSTREAM_REJECTED,
            field=_FIELD_OF_PARAM.get(re.split(r"[.\[]", complaint.param, maxsplit=1)[0]),
            metadata=metadata,
        )
    else:
        error = Unavailable(
            f"{who} failed (HTTP {status})",
            reason=Reason.UPSTREAM_UNAVAILABLE,
            retry_after=retry_after,
            metadata=metadata,
        )
    return error


def in_stream(upstream: str, error: object) -> AntiphonError:
    """Return the error for an error object that came in place of an answer, or in the middle of one."""
    complaint = Complaint.read(error)
    return of_status(upstream, complaint.status(), complaint)


def unreachable(upstream: str, what: str = "cannot be reached", **metadata: str) -> Unavailable:
    """Return the error for a connection that could not be made or broke before the answer began."""
    return Unavailable(
        f"upstream '{upstream}' {what}",
        reason=Reason.UPSTREAM_UNAVAILABLE,
        metadata={"upstream": upstream, **metadata},
    )


def truncated(upstream: str) -> Unavailable:
    """Return the error for an answer that broke off."""
    return Unavailable(
        f"upstream '{upstream}' broke off in the middle of the answer",
        reason=Reason.UPSTREAM_TRUNCATED,
        metadata={"upstream": upstream},
    )


def malformed(upstream: str, what: str) -> Unavailable:
    """Return the error for an answer that is none; `what` says how it is wrong, in our words."""
    return Unavailable(
        f"upstream '{upstream}' answered with {what}",
        reason=Reason.UPSTREAM_MALFORMED,
        metadata={"upstream": upstream},
    )


def oversize(upstream: str, what: str) -> Exhausted:
    """Return the error for an answer beyond our limits."""
    return Exhausted(
        f"upstream '{upstream}' answered with {what}", reason=Reason.UPSTREAM_MALFORMED, metadata={"upstream": upstream}
    )


def retry_after(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    """Return the seconds to wait: `retry-after-ms`, else `Retry-After` in seconds or as a date (RFC 9110 §10.2.3)."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return min(milliseconds / 1000, MAX_RETRY_AFTER_SECONDS)
    value = headers.get("retry-after", "").strip()
    seconds = _number(value)
    if seconds is None and value:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now()
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
