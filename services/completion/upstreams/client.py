"""The HTTP client of one upstream: only our headers leave, only a plain event stream of bounded size comes in.

The SDK and the HTTP library would add headers from the environment and from cookies, follow redirects to other hosts,
read an error's body without a limit, and unpack whatever a server chose to compress. Hooks of the HTTP client end that
in one place, before the SDK sees anything.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing

import httpx2
import orjson

from services.chassis.errors import FailedPrecondition, Reason
from services.completion.upstreams import failures
from services.completion.upstreams.failures import Complaint
from services.completion.upstreams.rate_limits import rate_limit

MAX_ERROR_BYTES = 64 * 1024
"""Of an error's body; an error object is below 2 KiB."""

ERROR_BODY_SECONDS = 2.0
"""For the body of an error whose status is already known."""

MAX_CONNECTIONS = 1_000
"""To one upstream. The service's own limits are lower; this one keeps a defect from taking every file descriptor."""

KEEPALIVE_SECONDS = 15.0
"""Idle connections are dropped after this; servers and load balancers in between drop theirs after 30 s or more."""

_SENT = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"),
        "x-stainless-raw-response",  # by which the SDK recognises, on the response, that we want it raw
    }
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def own_headers(upstream: str, api_key: str | None, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that identify us; `FailedPrecondition(UPSTREAM_UNAUTHENTICATED)` if one cannot be sent.

    Checked here because the HTTP library's own complaint would quote the value.
    """
    own = {"accept": "text/event-stream", "accept-encoding": "identity", "user-agent": "antiphon"}
    if api_key:
        own["authorization"] = f"Bearer {api_key}"
    own.update({name.lower(): value for name, value in headers.items()})
    for name, value in own.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            what = "key" if name == "authorization" else "configured header"
            raise FailedPrecondition(
                f"a {what} of upstream '{upstream}' has characters that no HTTP header can carry",
                reason=Reason.UPSTREAM_UNAUTHENTICATED,
                metadata={"upstream": upstream},
            )
    return own


def connecting_within(seconds: float) -> httpx2.Timeout:
    """Return the limits of one request: only connecting has one here, the rest of a call is bounded by its deadline."""
    return httpx2.Timeout(None, connect=seconds, pool=seconds)


def http_client(
    upstream: str, own: Mapping[str, str], *, timeout: httpx2.Timeout, now: Callable[[], float] = time.time
) -> httpx2.AsyncClient:
    """Return the client. A response that reaches its user is a 2xx event stream; all else was raised as our errors."""

    async def only_ours(request: httpx2.Request) -> None:
        for name in [name for name in request.headers if name not in _SENT and name not in own]:
            del request.headers[name]
        request.headers.update(own)

    async def only_streams(response: httpx2.Response) -> None:
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not response.is_success:
            raise failures.of_status(
                upstream,
                response.status_code,
                await _complaint(response, media_type),
                retry_after=_retry_after(response, now),
            )
        if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
            raise failures.oversize(upstream, "a compressed stream, whose size nothing bounds")
        if media_type == "application/json":
            complaint = await _complaint(response, media_type)
            if complaint != Complaint():
                raise failures.of_status(upstream, complaint.status(), complaint)
        if media_type not in {"", "text/event-stream"}:
            raise failures.malformed(upstream, "something that is no event stream")

    return httpx2.AsyncClient(
        timeout=timeout,
        limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEPALIVE_SECONDS),
        follow_redirects=False,
        event_hooks={"request": [only_ours], "response": [only_streams]},
    )


def _retry_after(response: httpx2.Response, now: Callable[[], float]) -> float | None:
    """Return the wait that the server asks for; a spent rate limit says it without `Retry-After`, too."""
    seconds = failures.retry_after(response.headers, now)
    if seconds is None and response.status_code == 429:
        limit = rate_limit(response.headers)
        seconds = limit.seconds if limit is not None and limit.calls == 0 else None
    return seconds


async def _complaint(response: httpx2.Response, media_type: str) -> Complaint:
    """Return what a bounded part of the body says; empty if it cannot be read, since the status says enough."""
    encoded = response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}
    if encoded or not media_type.endswith("json"):
        return Complaint()
    body = bytearray()
    try:
        async with asyncio.timeout(ERROR_BODY_SECONDS), aclosing(response.aiter_raw()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > MAX_ERROR_BYTES:
                    return Complaint()
        found = orjson.loads(body)
    except (TimeoutError, httpx2.RequestError, orjson.JSONDecodeError):
        return Complaint()
    if not isinstance(found, dict):
        return Complaint()
    return Complaint.read(found.get("error") or (found if found.get("object") == "error" else None))
