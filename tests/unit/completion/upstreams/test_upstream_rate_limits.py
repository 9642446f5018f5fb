"""What the headers of a response say of our rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.completion.upstreams.protocol import RateLimit
from services.completion.upstreams.rate_limits import BELIEVED_SECONDS, MOST_SECONDS, rate_limit


def headers(**values: str) -> dict[str, str]:
    return {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("given_headers", "expected"),
    [
        ({}, None),
        (headers(remaining_requests="59", reset_requests="1s"), RateLimit(59, BELIEVED_SECONDS)),
        # A bucket of 60 that is full again in a minute has room for one more in a second.
        (headers(limit_requests="60", remaining_requests="0", reset_requests="1m0s"), RateLimit(0, 1.0)),
        (headers(remaining_requests="0", reset_requests="20ms"), RateLimit(0, 0.02)),
        (headers(remaining_requests="0", reset_requests="2m59.5s"), RateLimit(0, 179.5)),
        (headers(remaining_requests="0", reset_requests="30"), RateLimit(0, 30.0)),
        (headers(remaining_requests="0", reset_requests="99h"), RateLimit(0, MOST_SECONDS)),
        (headers(remaining_requests="5", remaining_tokens="0", reset_tokens="6m0s"), RateLimit(0, 360.0)),
        (headers(remaining_tokens="100"), None),
        (headers(remaining_requests="0"), None),
        (headers(remaining_requests="0", reset_requests="2026-11-27T12:00:00Z"), None),
        (headers(remaining_requests="0", reset_requests="1764244800"), None),
        (headers(remaining_requests="-1"), None),
        (headers(remaining_requests="many"), None),
    ],
)
def test_what_is_left(given_headers: dict[str, str], expected: RateLimit | None) -> None:
    assert rate_limit(given_headers) == expected


@given(
    st.dictionaries(
        st.sampled_from(
            [
                f"x-ratelimit-{what}-{kind}"
                for what in ("limit", "remaining", "reset")
                for kind in ("requests", "tokens")
            ]
        ),
        st.one_of(st.text(max_size=20), st.sampled_from(["0", "1", "60", "1s", "5ms", "1m", "inf", "nan", "1e9", "²"])),
    )
)
def test_no_header_breaks_it_and_no_wait_is_without_end(given_headers: dict[str, str]) -> None:
    limit = rate_limit(given_headers)
    assert limit is None or (limit.calls >= 0 and 0 <= limit.seconds <= MOST_SECONDS)
