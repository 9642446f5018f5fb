"""Messages to the engine's values and back. What has no counterpart is refused by name."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, MutableSequence
from functools import cache
from typing import Any, cast
from uuid import UUID

import qdrant_edge as edge
from qdrant_client import grpc as pb

from services.edgestore.fields import only
from services.edgestore.refused import invalid, unimplemented
from services.edgestore.shard import Schema
from services.storage.wire import payload_values, set_value, varint

PointId = int | UUID | str


def point_id(message: pb.PointId) -> PointId:
    """An id for the engine; ValueError for a malformed UUID."""
    match message.WhichOneof("point_id_options"):
        case "uuid":
            return UUID(message.uuid)  # in whatever form it is written
        case "num":
            return message.num
        case _:
            raise invalid("a point id is empty")


def id_message(point: PointId) -> pb.PointId:
    return pb.PointId(num=point) if isinstance(point, int) else pb.PointId(uuid=str(point))


def point(message: pb.PointStruct, schema: Schema) -> edge.Point:
    """A point to write; its vectors must be of the schema's names and sizes."""
    only(message, "id", "payload", "vectors", inside="points")
    only(message.vectors, "vectors", inside="points.vectors")
    vectors: dict[str, Any] = {}
    for name, vector in message.vectors.vectors.vectors.items():
        only(vector, "dense", inside=f"points.vectors.{name}")
        params = schema.vectors.get(name)
        if params is None:
            raise invalid(f"Not existing vector name error: {name}")
        if len(vector.dense.data) != params.size:
            # Checked here and not left to the engine, which logs an operation before it fails to apply it.
            found = len(vector.dense.data)
            raise invalid(f"Vector dimension error: expected dim: {params.size}, got {found}")
        vectors[name] = vector.dense.data[:]
    return edge.Point(point_id(message.id), vectors, payload_values(message.payload))


def add_record(records: MutableSequence[pb.RetrievedPoint], record: edge.Record) -> None:
    """Append a record as it was asked for: absent parts of it are not set.

    Built in its place, as protobuf copies what is built elsewhere; most of the time of a scroll goes by here.
    """
    message: pb.RetrievedPoint = records.add()  # type: ignore[attr-defined]  # a repeated field has it
    # Each property of an engine's record makes its Python value anew.
    id_, payload, vectors, order_value = record.id, record.payload, record.vector, record.order_value
    if isinstance(id_, int):
        message.id.num = id_
    else:
        message.id.uuid = str(id_)
    if payload is not None:
        fields = message.payload
        for key, value in payload.items():
            set_value(fields[key], value)
    if isinstance(vectors, dict):
        named = message.vectors.vectors
        named.SetInParent()
        for name, values in vectors.items():
            dense = cast("list[float]", values)  # the schema has no other kind
            named.vectors[name].dense.MergeFromString(_packed(len(dense))(dense))
    if isinstance(order_value, int):
        message.order_value.int = order_value
    elif order_value is not None:
        message.order_value.float = order_value


@cache
def _packed(size: int) -> Callable[[list[float]], bytes]:
    """Encodes `size` floats as a `DenseVector`: several times faster than a repeated field takes them."""
    head = b"\x0a" + varint(4 * size)  # field 1, length-delimited (protobuf encoding, packed repeated fields)
    floats = struct.Struct(f"<{size}f")
    return lambda values: head + floats.pack(*values)


def with_payload(message: pb.WithPayloadSelector) -> bool | list[str]:
    """Which payload to return; must be said, since servers and clients have differed in the default."""
    match message.WhichOneof("selector_options"):
        case "enable":
            return message.enable
        case "include":
            return list(message.include.fields)
        case None:
            raise invalid("with_payload must be set")
        case other:
            raise unimplemented(f"the field with_payload.{other} is not supported")


def with_vectors(message: pb.WithVectorsSelector) -> bool | list[str]:
    """Which vectors to return; by default none, as in Qdrant."""
    if message.WhichOneof("selector_options") == "include":
        return list(message.include.names)
    return message.enable


def filter_value(message: pb.Filter, inside: str = "filter") -> edge.Filter:
    only(message, "must", "should", "must_not", inside=inside)
    return edge.Filter(
        must=[_condition(part, f"{inside}.must") for part in message.must] or None,
        should=[_condition(part, f"{inside}.should") for part in message.should] or None,
        must_not=[_condition(part, f"{inside}.must_not") for part in message.must_not] or None,
    )


def _condition(message: pb.Condition, inside: str) -> edge.FieldCondition | edge.HasIdCondition | edge.Filter:
    only(message, "field", "has_id", "filter", inside=inside)
    match message.WhichOneof("condition_one_of"):
        case "field":
            return _field(message.field, f"{inside}.field")
        case "has_id":
            return edge.HasIdCondition({point_id(id_) for id_ in message.has_id.has_id})
        case "filter":
            return filter_value(message.filter, f"{inside}.filter")
        case _:
            raise invalid(f"{inside} has an empty condition")


def _field(message: pb.FieldCondition, inside: str) -> edge.FieldCondition:
    only(message, "key", "match", "range", inside=inside)
    match = _match(message.match, f"{inside}.match") if message.HasField("match") else None
    bounds: edge.RangeFloat | None = None
    if message.HasField("range"):
        given = {field.name: value for field, value in message.range.ListFields()}
        only(message.range, "lt", "gt", "gte", "lte", inside=f"{inside}.range")
        bounds = edge.RangeFloat(**given)
    if match is None and bounds is None:
        raise invalid(f"{inside} has neither match nor range")
    return edge.FieldCondition(message.key, match=match, range=bounds)


def _match(message: pb.Match, inside: str) -> edge.MatchValue | edge.MatchAny:
    # `boolean` is left out: the engine's binding takes True for the number 1 and finds nothing.
    only(message, "keyword", "integer", "keywords", "integers", inside=inside)
    match message.WhichOneof("match_value"):
        case "keyword":
            return edge.MatchValue(message.keyword)
        case "integer":
            return edge.MatchValue(message.integer)
        case "keywords":
            return edge.MatchAny(list(message.keywords.strings))
        case "integers":
            return edge.MatchAny(list(message.integers.integers))
        case _:
            raise invalid(f"{inside} is empty")


def order_by(message: pb.OrderBy) -> edge.OrderBy:
    only(message, "key", "direction", "start_from", inside="order_by")
    start: int | float | None = None
    if message.HasField("start_from"):
        only(message.start_from, "float", "integer", inside="order_by.start_from")
        which = message.start_from.WhichOneof("value")
        start = message.start_from.integer if which == "integer" else message.start_from.float
    descending = message.direction == pb.Direction.Desc
    return edge.OrderBy(message.key, edge.Direction.Desc if descending else edge.Direction.Asc, start)


def index_schema(request: pb.CreateFieldIndexCollection) -> Any:
    """The engine's parameters of a payload index."""
    params = request.field_index_params
    only(params, "keyword_index_params", "integer_index_params", inside="field_index_params")
    keyword, integer = params.keyword_index_params, params.integer_index_params
    only(keyword, "is_tenant", inside="field_index_params.keyword_index_params")
    only(integer, "lookup", "range", "is_principal", inside="field_index_params.integer_index_params")
    given = params.WhichOneof("index_params")
    if not request.HasField("field_type"):
        raise invalid("field_type must be set")
    if given is not None and request.field_type != _TYPE_OF_PARAMS[given]:
        raise invalid(f"field_type does not fit field_index_params.{given}")
    match request.field_type:
        case pb.FieldType.FieldTypeKeyword:
            return edge.KeywordIndexParams(is_tenant=keyword.is_tenant)
        case pb.FieldType.FieldTypeInteger:
            # Both by default, as on a server.
            lookup = integer.lookup if integer.HasField("lookup") else True
            ranges = integer.range if integer.HasField("range") else True
            return edge.IntegerIndexParams(lookup=lookup, range=ranges, is_principal=integer.is_principal)
        case pb.FieldType.FieldTypeFloat:
            return edge.PayloadSchemaType.Float
        case other:
            raise unimplemented(f"a payload index of the type {pb.FieldType.Name(other)} is not supported")


_TYPE_OF_PARAMS: Mapping[str, int] = {
    "keyword_index_params": pb.FieldType.FieldTypeKeyword,
    "integer_index_params": pb.FieldType.FieldTypeInteger,
}


def schema_info(info: edge.PayloadIndexInfo) -> pb.PayloadSchemaInfo:
    """A payload index as Collections.Get shows it."""
    message = pb.PayloadSchemaInfo(points=info.points)
    if info.data_type == edge.PayloadSchemaType.Keyword:
        message.data_type = pb.PayloadSchemaType.Keyword
        if isinstance(info.params, edge.KeywordIndexParams) and info.params.is_tenant:
            message.params.keyword_index_params.is_tenant = True
    elif info.data_type == edge.PayloadSchemaType.Integer:
        message.data_type = pb.PayloadSchemaType.Integer
        if isinstance(info.params, edge.IntegerIndexParams):
            message.params.integer_index_params.lookup = bool(info.params.lookup)
            message.params.integer_index_params.range = bool(info.params.range)
    else:
        message.data_type = pb.PayloadSchemaType.Float
    return message
