"""The rpcs of `qdrant.Points`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import qdrant_edge as edge
from google.protobuf.message import Message
from qdrant_client import grpc as pb

from services.edgestore import conditions, translate
from services.edgestore.fields import only
from services.edgestore.refused import invalid, not_found
from services.edgestore.shard import Shard
from services.edgestore.shards import Shards
from services.storage.wire import payload_values

LARGEST_PAGE = 1_000
"""Records that one Scroll may ask for: while the engine reads a page nothing else is served."""

_DEFAULT_PAGE = 10
"""Qdrant's own default."""

_UPDATE_MODES: Mapping[int, edge.UpdateMode] = {
    pb.UpdateMode.Upsert: edge.UpdateMode.Upsert,
    pb.UpdateMode.InsertOnly: edge.UpdateMode.InsertOnly,
    pb.UpdateMode.UpdateOnly: edge.UpdateMode.UpdateOnly,
}

# True of one copy on one machine whatever their value: writes are applied in one order, reads see the only copy, every
# write is applied before it is answered, and the deadline of the call ends it.
_ALWAYS_HONOURED_IN_WRITES = ("collection_name", "wait", "ordering", "timeout")
_ALWAYS_HONOURED_IN_READS = ("collection_name", "read_consistency", "timeout")


class PointsRpcs:
    """Reads and writes over `Shards`; each method is one rpc and raises RefusedError or what the engine raises."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def methods(self) -> Mapping[str, tuple[type[Message], Callable[..., Message]]]:
        """By rpc name: the request's type and the method."""
        return {
            "Upsert": (pb.UpsertPoints, self.upsert),
            "Get": (pb.GetPoints, self.get),
            "Scroll": (pb.ScrollPoints, self.scroll),
            "Count": (pb.CountPoints, self.count),
            "Delete": (pb.DeletePoints, self.delete),
            "SetPayload": (pb.SetPayloadPoints, self.set_payload),
            "CreateFieldIndex": (pb.CreateFieldIndexCollection, self.create_field_index),
        }

    def upsert(self, request: pb.UpsertPoints) -> pb.PointsOperationResponse:
        only(request, *_ALWAYS_HONOURED_IN_WRITES, "points", "update_filter", "update_mode")
        shard = self._shards.get(request.collection_name)
        points = [translate.point(message, shard.schema) for message in request.points]
        condition = None
        if request.HasField("update_filter"):
            condition = translate.filter_value(request.update_filter, "update_filter")
        mode = _UPDATE_MODES.get(request.update_mode)
        if mode is None:
            raise invalid("update_mode is unknown")
        if not points:
            raise invalid("Empty update request")
        points = conditions.to_write(shard, points, condition, mode)
        return _update(shard, [edge.UpdateOperation.upsert_points(points)] if points else [], wait=request.wait)

    def get(self, request: pb.GetPoints) -> pb.GetResponse:
        only(request, *_ALWAYS_HONOURED_IN_READS, "ids", "with_payload", "with_vectors")
        shard = self._shards.get(request.collection_name)
        records = shard.edge.retrieve(
            [translate.point_id(id_) for id_ in request.ids],
            translate.with_payload(request.with_payload),
            translate.with_vectors(request.with_vectors),
        )
        response = pb.GetResponse()
        for record in records:
            translate.add_record(response.result, record)
        return response

    def scroll(self, request: pb.ScrollPoints) -> pb.ScrollResponse:
        only(
            request,
            *_ALWAYS_HONOURED_IN_READS,
            *("filter", "offset", "limit", "with_payload", "with_vectors", "order_by"),
        )
        shard = self._shards.get(request.collection_name)
        limit = request.limit if request.HasField("limit") else _DEFAULT_PAGE
        if not 1 <= limit <= LARGEST_PAGE:
            raise invalid(f"limit must be within 1 and {LARGEST_PAGE}")
        records, offset = shard.edge.scroll(
            edge.ScrollRequest(
                offset=translate.point_id(request.offset) if request.HasField("offset") else None,
                limit=limit,
                filter=translate.filter_value(request.filter),
                with_payload=translate.with_payload(request.with_payload),
                with_vector=translate.with_vectors(request.with_vectors),
                order_by=translate.order_by(request.order_by) if request.HasField("order_by") else None,
            )
        )
        response = pb.ScrollResponse()
        for record in records:
            translate.add_record(response.result, record)
        if offset is not None:
            response.next_page_offset.CopyFrom(translate.id_message(offset))
        return response

    def count(self, request: pb.CountPoints) -> pb.CountResponse:
        only(request, *_ALWAYS_HONOURED_IN_READS, "filter", "exact")
        shard = self._shards.get(request.collection_name)
        exact = request.exact if request.HasField("exact") else True
        found = shard.edge.count(edge.CountRequest(exact=exact, filter=translate.filter_value(request.filter)))
        return pb.CountResponse(result=pb.CountResult(count=found))

    def delete(self, request: pb.DeletePoints) -> pb.PointsOperationResponse:
        only(request, *_ALWAYS_HONOURED_IN_WRITES, "points")
        shard = self._shards.get(request.collection_name)
        pages: Iterable[list[translate.PointId]]
        match request.points.WhichOneof("points_selector_one_of"):
            case "points":
                pages = [[translate.point_id(id_) for id_ in request.points.points.ids]]
            case "filter":
                pages = conditions.pages(shard, translate.filter_value(request.points.filter))
            case _:
                raise invalid("points must be set")
        return _update(shard, map(edge.UpdateOperation.delete_points, pages), wait=request.wait)

    def set_payload(self, request: pb.SetPayloadPoints) -> pb.PointsOperationResponse:
        only(request, *_ALWAYS_HONOURED_IN_WRITES, "payload", "points_selector")
        shard = self._shards.get(request.collection_name)
        payload = payload_values(request.payload)
        selector = request.points_selector
        match selector.WhichOneof("points_selector_one_of"):
            case "points":
                ids = [translate.point_id(id_) for id_ in selector.points.ids]
                self._check_present(shard, ids)
                pages = [ids]
            case "filter":
                # All of them first: what is set may be what the condition asks for.
                pages = list(conditions.pages(shard, translate.filter_value(selector.filter, "points_selector.filter")))
            case _:
                raise invalid("points_selector must be set")
        return _update(shard, (conditions.to_set(ids, payload) for ids in pages), wait=request.wait)

    def create_field_index(self, request: pb.CreateFieldIndexCollection) -> pb.PointsOperationResponse:
        only(request, *_ALWAYS_HONOURED_IN_WRITES, "field_name", "field_type", "field_index_params")
        shard = self._shards.get(request.collection_name)
        if not request.field_name:
            raise invalid("field_name must be set")
        schema = translate.index_schema(request)
        return _update(shard, [edge.UpdateOperation.create_field_index(request.field_name, schema)], wait=request.wait)

    @staticmethod
    def _check_present(shard: Shard, ids: list[translate.PointId]) -> None:
        # The engine would log the operation, change some points and then fail on the first that is absent.
        present = {str(record.id) for record in shard.edge.retrieve(ids, False, False)}
        for id_ in ids:
            if str(id_) not in present:
                raise not_found(f"No point with id {id_} found")


def _update(shard: Shard, operations: Iterable[edge.UpdateOperation], *, wait: bool) -> pb.PointsOperationResponse:
    for operation in operations:
        shard.update(operation)
    status = pb.UpdateStatus.Completed if wait else pb.UpdateStatus.Acknowledged
    return pb.PointsOperationResponse(result=pb.UpdateResult(status=status))
