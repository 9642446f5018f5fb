"""The requests of one scroll: where each page starts and how large it is.

By ids a store hands out the next offset. With `order_by` it cannot: the next page starts from the last value seen and
leaves out the ids already seen at that value (Qdrant's documentation of `order_by`). The size of pages follows the size
of records, so that a page stays near `TARGET_BYTES` whether answers are words or megabytes.
"""

from __future__ import annotations

from qdrant_client import grpc as pb

TARGET_BYTES = 4 * 1024 * 1024
"""A page that a process converts in some tens of milliseconds, and that fits gRPC's default message limit."""

MEASURED = 64
"""Records of a page whose size is looked at: all of them take some 4 µs each."""

FIRST_PAGE = 256
"""Records in the first page, while their size is not known."""


class Pages:
    """Makes the requests of a scroll, one from the answer to the other; pure."""

    def __init__(self, template: pb.ScrollPoints, *, order_by: str | None, largest: int) -> None:
        self._template = template
        self._order_by = order_by
        self._largest = largest
        self._size = min(largest, FIRST_PAGE)
        self._value: int | float | None = None
        self._seen: list[pb.PointId] = []

    def first(self) -> pb.ScrollPoints | None:
        """The request for the first page."""
        return self._request()

    def after(self, answer: pb.ScrollResponse) -> pb.ScrollPoints | None:
        """The request that follows `answer`, or None when it was the last."""
        asked = self._size
        self._size = self._next_size(answer)
        if self._order_by is None:
            if not answer.HasField("next_page_offset"):
                return None
            request = self._request()
            request.offset.CopyFrom(answer.next_page_offset)
            return request
        if len(answer.result) < asked:
            return None
        self._note(answer)
        return self._request()

    def _next_size(self, answer: pb.ScrollResponse) -> int:
        if not answer.result:
            return self._size
        measured = answer.result[:: max(1, len(answer.result) // MEASURED)]
        bytes_each = max(1, sum(record.ByteSize() for record in measured) // len(measured))
        # At most doubled: the next records may be larger than these.
        return max(1, min(self._largest, self._size * 2, TARGET_BYTES // bytes_each))

    def _note(self, answer: pb.ScrollResponse) -> None:
        for record in answer.result:
            value = record.order_value.int if record.order_value.HasField("int") else record.order_value.float
            if value != self._value:
                self._value = value
                self._seen = []
            self._seen.append(record.id)

    def _request(self) -> pb.ScrollPoints:
        request = pb.ScrollPoints()
        request.CopyFrom(self._template)
        request.limit = self._size
        if self._order_by is not None:
            request.order_by.key = self._order_by
            request.order_by.direction = pb.Direction.Asc
            if self._value is not None:
                start = self._value
                request.order_by.start_from.CopyFrom(
                    pb.StartFrom(integer=start) if isinstance(start, int) else pb.StartFrom(float=start)
                )
                request.filter.must_not.add(has_id=pb.HasIdCondition(has_id=self._seen))
        return request
