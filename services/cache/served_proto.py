"""What a response tells of an entry that is served, in words of the wire: written once for one that is served often.

It is the same for everybody who gets the entry, and takes longer to write than all that differs from lookup to lookup.
"""

from __future__ import annotations

from dataclasses import dataclass

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache.entry import Entry
from services.cache.kept import Kept
from services.cache.proto import write_served, write_served_decision

KEPT = 1_024
"""Entries."""

MOST_BYTES = 4_096
"""Of one that is kept."""


@dataclass(frozen=True, slots=True)
class _Served:
    """What is told of an entry.

    The decision apart, of which each lookup tells more: not every reader of protobuf merges a message that comes twice.
    """

    response: bytes
    decision: bytes


class RecentlyServed:
    """Writes entries. By id and version: what is said of an entry, or a new answer, makes another version of it."""

    def __init__(self) -> None:
        self._kept: Kept[tuple[str, int], _Served] = Kept(KEPT)

    def complete(self, response: pb.LookupResponse, entry: Entry) -> None:
        """Add what a response tells of the entry, which is `whole`."""
        served = self._written(entry)
        response.MergeFromString(served.response)
        response.decision.MergeFromString(served.decision)

    def completed(self, response: pb.LookupResponse, entry: Entry) -> bytes:
        """As `complete`, as bytes; the answer is not read to be written again."""
        served = self._written(entry)
        response.decision.MergeFromString(served.decision)
        # Two messages one behind the other are one with the fields of both.
        return served.response + response.SerializeToString()

    def _written(self, entry: Entry) -> _Served:
        key = entry.id, entry.ver
        served = self._kept.get(key)
        if served is None:
            served = _Served(write_served(entry).SerializeToString(), write_served_decision(entry).SerializeToString())
            if len(served.response) + len(served.decision) <= MOST_BYTES:
                self._kept.keep(key, served)
        return served
