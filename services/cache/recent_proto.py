"""Requests that come again, word by word, are read once.

A popular question is asked in the same words many times, and its embedding is remembered: what would then take longest
is to read the message and to hash what is in it.
"""

from __future__ import annotations

from typing import TypeVar

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache.proto import read_policy, read_query, read_token
from services.cache.values import Asked, Policy, Query
from services.chassis.unknown_enums import finder, refuse_unknown

KEPT = 1_024
"""Queries, and policies, that are kept; of either some 2 kB at most, and as much for what was read from them."""

_UNKNOWN_ENUM = finder(pb.LookupRequest.DESCRIPTOR, besides="policy")

MOST_BYTES = 2_048
"""Of a message that is kept."""

K = TypeVar("K")
V = TypeVar("V")


class RecentQueries:
    """Reads lookups. A query, or policy, that was read of late is the same object again.

    By tenant: how fast an answer comes must not tell what others asked.
    """

    def __init__(self) -> None:
        self._queries: dict[tuple[str, bytes], Query] = {}
        self._policies: dict[tuple[str, bytes], Policy] = {}

    def read(self, tenant: str, request: pb.LookupRequest) -> Asked:
        """As `read_lookup`."""
        return Asked(self._query(tenant, request), self._policy(tenant, request), read_token(request.fill_token))

    def _query(self, tenant: str, request: pb.LookupRequest) -> Query:
        key = tenant, request.query.SerializeToString()
        query = self._queries.pop(key, None)
        if query is None:
            refuse_unknown(_UNKNOWN_ENUM, request)
            query = read_query(request)
        if len(key[1]) <= MOST_BYTES:
            _keep(self._queries, key, query)
        return query

    def _policy(self, tenant: str, request: pb.LookupRequest) -> Policy:
        key = tenant, request.policy.SerializeToString()
        policy = self._policies.pop(key, None)
        if policy is None:
            policy = read_policy(request.policy)
        if len(key[1]) <= MOST_BYTES:
            _keep(self._policies, key, policy)
        return policy


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    """As the one that was used last; the one that was used longest ago makes room."""
    kept[key] = value
    if len(kept) > KEPT:
        del kept[next(iter(kept))]
