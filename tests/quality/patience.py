"""A lookup whose decision is wanted, however busy the machine is."""

from __future__ import annotations

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon_client import AsyncCacheClient

TRIES = 20
"""Of a lookup that is bypassed: the embedding that it could not wait for goes on meanwhile."""


async def decided(
    client: AsyncCacheClient,
    request: pb.LookupRequest,
    *,
    timeout: float,
    metadata: tuple[tuple[str, str], ...] = (),
) -> pb.LookupResponse:
    """The first answer that is no bypass. AssertionError, with the reason, if there is none."""
    for _ in range(TRIES):
        found = await client.lookup(request, timeout=timeout, metadata=metadata)
        if found.outcome != pb.OUTCOME_BYPASS:
            return found
    raise AssertionError(found.bypass_reason)
