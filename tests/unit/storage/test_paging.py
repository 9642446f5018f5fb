"""Where the pages of a scroll start and how large they are."""

from __future__ import annotations

import pytest
from qdrant_client import grpc as pb

from services.storage.paging import FIRST_PAGE, TARGET_BYTES, Pages


def answer(records: int, bytes_each: int, *, last: bool = False) -> pb.ScrollResponse:
    filler = pb.Value(string_value="x" * bytes_each)
    made = pb.ScrollResponse(result=[pb.RetrievedPoint(payload={"a": filler}) for _ in range(records)])
    if not last:
        made.next_page_offset.num = 7
    return made


def test_pages_of_small_records_grow_to_the_largest() -> None:
    pages = Pages(pb.ScrollPoints(collection_name="c"), order_by=None, largest=1_000)
    request = pages.first()
    limits = []
    for _ in range(4):
        assert request is not None
        limits.append(request.limit)
        request = pages.after(answer(request.limit, 10))
    assert limits == [FIRST_PAGE, 2 * FIRST_PAGE, 1_000, 1_000]


@pytest.mark.parametrize(("bytes_each", "records"), [(TARGET_BYTES // 4, 3), (TARGET_BYTES * 2, 1)])
def test_pages_of_large_records_shrink_to_the_target(bytes_each: int, records: int) -> None:
    pages = Pages(pb.ScrollPoints(collection_name="c"), order_by=None, largest=1_000)
    assert pages.first() is not None
    request = pages.after(answer(5, bytes_each))
    assert request is not None
    assert request.limit == records
    assert request.offset.num == 7


def test_the_last_page_has_no_successor() -> None:
    pages = Pages(pb.ScrollPoints(collection_name="c"), order_by=None, largest=10)
    pages.first()
    assert pages.after(answer(10, 1, last=True)) is None


def test_an_ordered_page_goes_on_from_the_last_value_without_those_seen_there() -> None:
    pages = Pages(pb.ScrollPoints(collection_name="c"), order_by="at", largest=3)
    pages.first()
    page = pb.ScrollResponse()
    for number, value in enumerate((4, 5, 5)):
        page.result.add(id=pb.PointId(num=number), order_value=pb.OrderValue(int=value))
    request = pages.after(page)
    assert request is not None
    assert request.order_by.start_from.integer == 5
    assert [seen.num for seen in request.filter.must_not[0].has_id.has_id] == [1, 2]
    more = pb.ScrollResponse()
    for number in (3, 4, 5):
        more.result.add(id=pb.PointId(num=number), order_value=pb.OrderValue(int=5))
    request = pages.after(more)
    assert request is not None
    assert [seen.num for seen in request.filter.must_not[0].has_id.has_id] == [1, 2, 3, 4, 5]
