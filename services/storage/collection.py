"""Reads and writes in one collection.

Every call raises Unavailable(STORE_UNAVAILABLE) or FailedPrecondition(STORE_MISMATCH) as `calls.Calls` says, and
ValueError for points that no store could hold (a wrong dimension, NaN, an id that is no UUID). Writes are idempotent:
the same call again has the same end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from qdrant_client import AsyncQdrantClient
from qdrant_client import grpc as pb

from services.storage import wire
from services.storage.calls import Calls
from services.storage.filters import MAX_EXACT_INTEGER, AllOf, AnyOf, Between, Equals, Filter, HasId
from services.storage.paging import Pages
from services.storage.values import Json, Point, Record

VERSION_KEY = "ver"
"""The payload field by which `upsert_newer` decides: a whole number in 0 … 2^53 - 1, larger is newer."""

MAX_PAGE = 1_000
"""Records per scroll request; the embedded engine serves no more."""

_WRITE_CHUNK = 500
"""Points per write request: about 1 MB with 384 dimensions and short answers, well under any message limit."""

_READ_CHUNK = 500

_CONVERT_CHUNK = 50
"""Records converted without a pause: about 1 ms."""

T = TypeVar("T")


class Collection:
    """One collection. Made by `Store.ensure`, which has checked it."""

    def __init__(self, name: str, dim: int | None, client: AsyncQdrantClient, calls: Calls) -> None:
        self.name = name
        self._dim = dim
        self._client = client
        self._calls = calls

    async def upsert(self, points: Sequence[Point], *, durable: bool) -> None:
        """Write `points`, replacing those with the same ids.

        `durable`: on return every point is applied and in the store's write-ahead log. Otherwise the store has only
        taken them. Not atomic beyond one point: after an error any part may be stored.
        """
        for chunk in _chunks(points, _WRITE_CHUNK):
            await self._upsert(chunk, wait=durable)

    async def upsert_newer(self, points: Sequence[Point], *, durable: bool) -> list[bool]:  # noqa: ARG002
        """Write each point unless the store has one with the same id and the same or a larger `payload["ver"]`.

        Returns, per point, whether the payload now stored is this point's, as read back (a store's answer does not say
        whether the condition applied); so a repeated call returns True again, and of two writers with equal `ver` the
        first wins. Of equal ids within `points` the largest `ver` counts. The result needs the write to be applied,
        so `durable=False` is not weaker here.
        """
        outcome: list[bool] = []
        for chunk in _chunks(points, _WRITE_CHUNK):
            newest: dict[str, Point] = {}
            for point in chunk:
                if point.id not in newest or _version(point) > _version(newest[point.id]):
                    newest[point.id] = point
            older = AnyOf(
                *(AllOf(HasId([id_]), Between(VERSION_KEY, lt=_version(point))) for id_, point in newest.items())
            )
            await self._upsert(list(newest.values()), wait=True, update_filter=older)
            outcome += await self._is_stored(chunk)
        return outcome

    async def insert(self, points: Sequence[Point]) -> None:
        """Write those of `points` whose ids are not taken; durable. Of equal ids within `points` the first counts.

        Says nothing of which were written, which would have to be read back: see `insert_absent`.
        """
        for chunk in _chunks(points, _WRITE_CHUNK):
            first: dict[str, Point] = {}
            for point in chunk:
                first.setdefault(point.id, point)
            await self._upsert(list(first.values()), wait=True, update_mode=pb.UpdateMode.InsertOnly)

    async def insert_absent(self, point: Point) -> bool:
        """Write `point` unless its id is taken; durable. Returns whether the payload now stored is this point's."""
        await self._upsert([point], wait=True, update_mode=pb.UpdateMode.InsertOnly)
        return (await self._is_stored([point]))[0]

    async def replace(self, point: Point, *, ver: int) -> bool:
        """Write `point` over the stored one with its id if that one's `payload["ver"]` is `ver`; durable.

        Returns whether the payload now stored is this point's: of those who replace the same version one wins, and a
        repeated call returns True again. What is absent stays absent.
        """
        expected = AllOf(HasId([point.id]), Equals(VERSION_KEY, ver))
        await self._upsert([point], wait=True, update_filter=expected, update_mode=pb.UpdateMode.UpdateOnly)
        return (await self._is_stored([point]))[0]

    async def get(self, ids: Sequence[str], *, vectors: bool = False) -> list[Record]:
        """The records with these ids, in their order; absent ones are left out."""
        found: dict[str, Record] = {}
        for chunk in _chunks(list(dict.fromkeys(ids)), _READ_CHUNK):
            request = pb.GetPoints(
                collection_name=self.name,
                ids=[wire.point_id(_canonical(id_)) for id_ in chunk],
                with_payload=wire.WITH_ALL,
                with_vectors=wire.WITH_VECTOR if vectors else wire.WITHOUT_VECTOR,
            )
            answer = await self._calls(self._client.grpc_points.Get, request)
            found.update((record.id, record) for record in map(wire.record, answer.result))
        return [found[id_] for id_ in ids if id_ in found]

    async def scroll(
        self,
        filter: Filter | None,  # noqa: A002
        *,
        order_by: str | None,
        page: int = MAX_PAGE,
        vectors: bool = False,
        fields: Sequence[str] | None = None,
    ) -> AsyncIterator[list[Record]]:
        """All records that match, in pages of at most `page` (fewer where records are large).

        `fields`: of the payload, if not all are wanted.

        In the order of ids, or ascending by the number in the indexed field `order_by`; records without that field are
        then left out. Not a snapshot: a record changed meanwhile may come twice or, if its position moves, not at all.
        The next page is fetched while the caller works on this one; leaving the loop early stops that (close the
        generator, for instance with `contextlib.aclosing`).
        """
        if not 1 <= page <= MAX_PAGE:
            raise ValueError(f"page must be within 1 … {MAX_PAGE}")
        pages = Pages(
            pb.ScrollPoints(
                collection_name=self.name,
                filter=wire.filter_message(filter),
                with_payload=wire.WITH_ALL if fields is None else wire.with_fields(fields),
                with_vectors=wire.WITH_VECTOR if vectors else wire.WITHOUT_VECTOR,
            ),
            order_by=order_by,
            largest=page,
        )
        request = pages.first()
        fetch: asyncio.Task[pb.ScrollResponse] | None = None
        try:
            while request is not None:
                answer = await (fetch or self._scroll(request))
                request = pages.after(answer)
                fetch = asyncio.create_task(self._scroll(request)) if request is not None else None
                if answer.result:
                    yield await _records(answer.result)
        finally:
            if fetch is not None:
                fetch.cancel()
                await asyncio.wait([fetch])
                if not fetch.cancelled():
                    fetch.exception()  # nobody reads this page any more, so nobody needs its error

    async def count(self, filter: Filter | None = None) -> int:  # noqa: A002
        """How many points match, exactly."""
        request = pb.CountPoints(collection_name=self.name, filter=wire.filter_message(filter), exact=True)
        answer: pb.CountResponse = await self._calls(self._client.grpc_points.Count, request)
        return answer.result.count

    async def delete_ids(self, ids: Sequence[str]) -> None:
        """Delete these points, durably; absent ones are no error."""
        for chunk in _chunks(ids, _WRITE_CHUNK):
            selector = wire.selector([_canonical(id_) for id_ in chunk])
            request = pb.DeletePoints(collection_name=self.name, wait=True, points=selector)
            await self._calls(self._client.grpc_points.Delete, request)

    async def delete_where(self, filter: Filter) -> None:  # noqa: A002
        """Delete every point that matches, durably."""
        selector = pb.PointsSelector(filter=wire.filter_message(filter))
        request = pb.DeletePoints(collection_name=self.name, wait=True, points=selector)
        await self._calls(self._client.grpc_points.Delete, request)

    async def set_payload(self, ids: Sequence[str], payload: Mapping[str, Json]) -> None:
        """Set these payload fields on these points, durably; other fields stay, absent points are no error."""
        fields = wire.payload_message(payload)
        for chunk in _chunks(ids, _WRITE_CHUNK):
            # By filter and not by ids: with ids, one that is absent fails the call after others were changed.
            present = wire.filter_message(HasId([_canonical(id_) for id_ in chunk]))
            request = pb.SetPayloadPoints(
                collection_name=self.name,
                wait=True,
                payload=fields,
                points_selector=pb.PointsSelector(filter=present),
            )
            await self._calls(self._client.grpc_points.SetPayload, request)

    async def _upsert(
        self,
        points: Sequence[Point],
        *,
        wait: bool,
        update_filter: Filter | None = None,
        update_mode: pb.UpdateMode.ValueType | None = None,
    ) -> None:
        request = pb.UpsertPoints(
            collection_name=self.name,
            wait=wait,
            points=[self._message(point) for point in points],
            update_filter=wire.filter_message(update_filter),
            update_mode=update_mode,
        )
        await self._calls(self._client.grpc_points.Upsert, request)

    async def _is_stored(self, points: Sequence[Point]) -> list[bool]:
        stored = {record.id: record.payload for record in await self.get([point.id for point in points])}
        return [stored.get(point.id) == dict(point.payload) for point in points]

    async def _scroll(self, request: pb.ScrollPoints) -> pb.ScrollResponse:
        return await self._calls(self._client.grpc_points.Scroll, request)

    def _message(self, point: Point) -> pb.PointStruct:
        _canonical(point.id)
        if point.vector is not None and point.vector.shape != (self._dim,):
            raise ValueError(
                f"the vector has shape {point.vector.shape}, the collection {self.name} dimension {self._dim}"
            )
        return wire.point_message(point)


async def _records(messages: Sequence[pb.RetrievedPoint]) -> list[Record]:
    """Converted slice by slice, so that other tasks run in between: the fetch of the next page is one of them."""
    records: list[Record] = []
    for chunk in _chunks(messages, _CONVERT_CHUNK):
        records += map(wire.record, chunk)
        await asyncio.sleep(0)
    return records


def _version(point: Point) -> int:
    version = point.payload.get(VERSION_KEY)
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version < MAX_EXACT_INTEGER:
        raise ValueError(f'payload["{VERSION_KEY}"] must be a whole number in 0 … 2^53 - 1')
    return version


def _canonical(id_: str) -> str:
    if str(UUID(id_)) != id_:
        raise ValueError("a point's id must be a UUID in its canonical form")
    return id_


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
