"""Which points a write with a condition is about: decided here, so that no condition gets into the engine's log.

The log is replayed after a kill, and files that a flush had written in part are then older in one place and newer in
another: the index of a field may know a value that the payload does not have yet. A condition that is evaluated a
second time over those finds other points than the first time, and an acknowledged write is lost. What names points by
id is replayed as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import qdrant_edge as edge

from services.edgestore.shard import Shard
from services.edgestore.translate import PointId

PAGE = 10_000
"""Ids in one operation, and read at once; some 0.4 MB of the log."""


def to_write(
    shard: Shard, points: Sequence[edge.Point], condition: edge.Filter | None, mode: edge.UpdateMode
) -> list[edge.Point]:
    """The points that an upsert is about: of those that exist the ones that match, and those that do not exist."""
    if condition is None and mode == edge.UpdateMode.Upsert:
        return list(points)
    ids = list({point.id for point in points})
    present = {record.id for record in shard.edge.retrieve(ids, False, False)}
    if mode == edge.UpdateMode.InsertOnly:
        return [point for point in points if point.id not in present]
    taken = present if condition is None else _matching(shard, present, condition)
    absent_too = mode == edge.UpdateMode.Upsert
    return [point for point in points if point.id in taken or (absent_too and point.id not in present)]


def pages(shard: Shard, condition: edge.Filter) -> Iterator[list[PointId]]:
    """The ids of all points that match; between two pages nothing may be written but to points of earlier ones."""
    offset: PointId | None = None
    while True:
        request = edge.ScrollRequest(offset=offset, limit=PAGE, filter=condition, with_payload=False, with_vector=False)
        records, offset = shard.edge.scroll(request)
        if records:
            yield [record.id for record in records]
        if offset is None:
            return


def to_set(ids: Sequence[PointId], payload: dict[str, Any]) -> edge.UpdateOperation:
    """Sets `payload` on those of `ids` that exist: in a replay one may be deleted already, and must not end it."""
    return edge.UpdateOperation.set_payload_by_filter(edge.Filter(must=[edge.HasIdCondition(set(ids))]), payload)


def _matching(shard: Shard, ids: set[PointId], condition: edge.Filter) -> set[PointId]:
    if not ids:
        return set()
    both = edge.Filter(must=[edge.HasIdCondition(ids), condition])
    return {id_ for page in pages(shard, both) for id_ in page}
