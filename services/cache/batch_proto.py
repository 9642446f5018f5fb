"""Between `antiphon.cache.v1.BatchLookup` and plain values: what is wrong with one lookup is told in its place."""

from __future__ import annotations

import asyncio

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache.batch import MAX_SERVED_BYTES, STEP
from services.cache.proto import read_lookup
from services.cache.values import Asked
from services.chassis.errors import AntiphonError, Exhausted, InvalidRequest, Reason
from services.chassis.status import part_status
from services.chassis.unknown_enums import finder, refuse_unknown
from services.llm.fields import invalid, missing

MAX_LOOKUPS = 256

_UNKNOWN_ENUM = finder(pb.LookupRequest.DESCRIPTOR)


async def read_batch(request: pb.BatchLookupRequest) -> list[Asked | InvalidRequest]:
    """Each lookup, or what is wrong with it. Raises InvalidRequest if there is none, or too many."""
    if not request.lookups:
        raise missing("lookups", "at least one is required")
    if len(request.lookups) > MAX_LOOKUPS:
        raise invalid("lookups", f"at most {MAX_LOOKUPS}")
    read: list[Asked | InvalidRequest] = []
    for number, lookup in enumerate(request.lookups, start=1):
        try:
            refuse_unknown(_UNKNOWN_ENUM, lookup)
            read.append(read_lookup(lookup))
        except InvalidRequest as error:
            read.append(error)
        if number % STEP == 0:
            await asyncio.sleep(0)
    return read


class BatchResponse:
    """A response that grows by one result after the other, and not beyond what a message may have."""

    def __init__(self) -> None:
        self.message = pb.BatchLookupResponse()
        self._served_bytes = 0

    def add(self, response: pb.LookupResponse) -> None:
        """Add what became of one lookup; an answer that finds no room is an error that says so."""
        if response.HasField("answer"):
            size = response.ByteSize()
            if self._served_bytes + size > MAX_SERVED_BYTES:
                self.add_full()
                return
            self._served_bytes += size
        self.message.results.add(response=response)

    def add_full(self) -> None:
        """Add that an answer finds no room."""
        full = "the response has no room for this answer"
        self.add_error(Exhausted(full, reason=Reason.RESPONSE_FULL, retry_after=0.0))

    def add_error(self, error: AntiphonError) -> None:
        """Add why one lookup has no result."""
        self.message.results.add(error=part_status(error))
