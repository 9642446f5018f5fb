"""Requests that come again, word by word, are read once.

A popular question is asked in the same words many times, and its embedding is remembered: what would then take longest
is to read the message and to hash what is in it.
"""

from __future__ import annotations

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache.kept import Kept
from services.cache.proto import read_policy, read_query, read_token
from services.cache.values import Asked, Policy, Query
from services.chassis.parsing import parse
from services.chassis.unknown_enums import finder, refuse_unknown

KEPT = 1_024
"""Requests, queries, and policies that are kept; of each some 2 kB at most, and twice that for what was read of it."""

_UNKNOWN_BESIDE = finder(pb.LookupRequest.DESCRIPTOR, besides="query")
_UNKNOWN_IN_QUERY = finder(pb.LookupRequest.DESCRIPTOR, besides="policy")

MOST_BYTES = 2_048
"""Of a message that is kept."""

MOST_MESSAGES = 8
"""Of a query that is kept; each takes some hundred bytes besides its own."""


class RecentQueries:
    """Reads lookups. A query, or policy, that was read of late is the same object again, and so is the whole.

    By tenant: how fast an answer comes must not tell what others asked.
    """

    def __init__(self) -> None:
        self._whole: Kept[tuple[str, bytes], Asked] = Kept(KEPT)
        self._queries: Kept[tuple[str, bytes], Query] = Kept(KEPT)
        self._policies: Kept[tuple[str, bytes], Policy] = Kept(KEPT)

    def read(self, tenant: str, raw: bytes) -> Asked:
        """What the bytes of a LookupRequest ask. Raises InvalidRequest."""
        key = tenant, raw
        asked = self._whole.get(key)
        if asked is None:
            request = parse(pb.LookupRequest, raw)
            refuse_unknown(_UNKNOWN_BESIDE, request)
            query, policy = self._query(tenant, request), self._policy(tenant, request)
            asked = Asked(query, policy, read_token(request.fill_token))
            # A token hardly ever comes again.
            if not asked.token and len(raw) <= MOST_BYTES and len(query.messages) <= MOST_MESSAGES:
                self._whole.keep(key, asked)
        return asked

    def _query(self, tenant: str, request: pb.LookupRequest) -> Query:
        key = tenant, request.query.SerializeToString()
        query = self._queries.get(key)
        if query is None:
            refuse_unknown(_UNKNOWN_IN_QUERY, request)
            query = read_query(request)
            if len(key[1]) <= MOST_BYTES and len(query.messages) <= MOST_MESSAGES:
                self._queries.keep(key, query)
        return query

    def _policy(self, tenant: str, request: pb.LookupRequest) -> Policy:
        key = tenant, request.policy.SerializeToString()
        policy = self._policies.get(key)
        if policy is None:
            policy = read_policy(request.policy)
            if len(key[1]) <= MOST_BYTES:
                self._policies.keep(key, policy)
        return policy
