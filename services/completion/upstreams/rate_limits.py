"""What a server says of our rate in `x-ratelimit-*` headers (OpenAI, "Rate limits": "Rate limits in headers").

Groq, Azure, vLLM's gateways and most others send the same names. Values that are not understood are ignored: the limit
is found out by itself as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from services.completion.upstreams.protocol import RateLimit

BELIEVED_SECONDS = 1.0
"""For which a count of calls that are left is believed: rates are refilled all the time, and others spend them, too."""

MOST_SECONDS = 3600.0

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """Return what is left, or None if the headers do not say."""
    remaining = headers.get("x-ratelimit-remaining-requests")
    tokens = headers.get("x-ratelimit-remaining-tokens")
    if remaining is None and tokens is None:
        return None
    calls = _count(remaining)
    if calls == 0:
        return _spent(headers, "requests")
    if _count(tokens) == 0:
        return _spent(headers, "tokens")
    return None if calls is None else RateLimit(calls, BELIEVED_SECONDS)


def _spent(headers: Mapping[str, str], kind: str) -> RateLimit | None:
    """Return the wait until one more is allowed: `reset` is the time in which the whole limit is refilled."""
    reset = _seconds(headers.get(f"x-ratelimit-reset-{kind}", ""))
    if reset is None:
        return None
    limit = _count(headers.get(f"x-ratelimit-limit-{kind}"))
    share = limit if kind == "requests" and limit else 1
    return RateLimit(0, min(reset / share, MOST_SECONDS))


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 16 else None


def _seconds(text: str) -> float | None:
    """Return a duration as these headers write it: `1s`, `6m0s`, `17ms`, `1h2m3.5s`, or plain seconds."""
    text = text.strip()
    match = _DURATION.fullmatch(text) if text else None
    if match is not None and any(match.groups()):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    try:
        plain = float(text)
    except ValueError:
        return None
    # Some servers send a point in time, which is no wait.
    return plain if math.isfinite(plain) and 0 <= plain < 1e6 else None
